"""A dense layer whose weights share few buckets by hashing.

Wenlin Chen et al., "Compressing Neural Networks with the Hashing Trick", arXiv:1504.04788.
"""

import keras
from keras import ops

from tfcomp.validation import invalid

# More buckets than this and the 24 bits that choose one do not reach them all.
_MOST_BUCKETS = 2**24


def hash_bits(rows, columns, seed):
    """Hashes every pair `(i, j)` to 32 bits, the same on all platforms and backends.

    With 32-bit wrapping integers and logical shifts, from `a = i * 0x9E3779B1 + seed` and
    `b = j * 0x85EBCA77`:

        h = a ^ b;  h ^= h >> 16;  h *= 0x21F0AAAD;  h ^= h >> 15;  h *= 0x735A2D97;  h ^= h >> 15

    (the golden ratio and a prime of xxHash spread the indices; two rounds of multiply and xor-shift
    with constants of low bias mix them).

    Args:
        rows: Number of `i`.
        columns: Number of `j`.
        seed: Integer in [0, 2**31).

    Returns:
        int32 tensor of shape `(rows, columns)`.
    """
    a = ops.arange(rows, dtype="int32") * _int32(0x9E3779B1) + _int32(seed)
    b = ops.arange(columns, dtype="int32") * _int32(0x85EBCA77)
    h = ops.bitwise_xor(ops.expand_dims(a, 1), ops.expand_dims(b, 0))
    h = _xor_shifted(h, 16) * _int32(0x21F0AAAD)
    h = _xor_shifted(h, 15) * _int32(0x735A2D97)
    return _xor_shifted(h, 15)


def _int32(number):
    # Signed 32-bit numbers wrap alike everywhere; unsigned ones do not exist on every backend.
    return ops.convert_to_tensor(number - 2**32 if number >= 2**31 else number, dtype="int32")


def _shifted(h, bits):
    logical = ops.bitwise_right_shift(h, _int32(bits))
    return ops.bitwise_and(logical, _int32(2 ** (32 - bits) - 1))


def _xor_shifted(h, bits):
    return ops.bitwise_xor(h, _shifted(h, bits))


def buckets_and_signs(rows, columns, buckets, seed):
    """Bucket and sign of every weight of a `rows` by `columns` matrix.

    The upper 24 bits `u` of the hash choose the bucket, `floor(u * (buckets / 2**24))` in single
    precision, and its lowest bit the sign.

    Returns:
        int32 tensor of indices and float32 tensor of ±1, both of shape `(rows, columns)`.
    """
    h = hash_bits(rows, columns, seed)
    unit = ops.cast(_shifted(h, 8), "float32")
    index = ops.cast(ops.floor(unit * (buckets / _MOST_BUCKETS)), "int32")
    sign = 1 - 2 * ops.cast(ops.bitwise_and(h, _int32(1)), "float32")
    return ops.minimum(index, buckets - 1), sign


@keras.saving.register_keras_serializable("tfcomp")
class HashedDense(keras.layers.Layer):
    """`keras.layers.Dense` with far fewer weights than connections.

    Connection `(i, j)` has the weight `buckets[h(i, j)] * ξ(i, j)`, with a hash `h` that spreads
    the connections over the buckets and a second one `ξ = ±1` that keeps inner products unbiased.
    Only the buckets are stored and trained; hashes are computed from the seed.

    Args:
        units: Size of the output.
        compression: Buckets as a fraction of the connections, in (0, 1].
        buckets: Number of buckets, instead of `compression`.
        seed: Seed of the hash, an integer in [0, 2**31); layers with different seeds collide
            differently.
        activation: As in `keras.layers.Dense`.
        use_bias: As in `keras.layers.Dense`.
        kernel_initializer: Initializer of the buckets, given the shape of the whole kernel: one of
            its values for each bucket, so that the variance is right for the layer's size.
        bias_initializer: As in `keras.layers.Dense`.
        kernel_regularizer: Regularizer of the buckets.
        bias_regularizer: As in `keras.layers.Dense`.
        activity_regularizer: As in `keras.layers.Dense`.
        kernel_constraint: Constraint of the buckets.
        bias_constraint: As in `keras.layers.Dense`.

    Input shape:
        `(batch, ..., features)`.

    Output shape:
        `(batch, ..., units)`.

    Raises:
        ValueError: If `units`, `compression`, `buckets` or `seed` is out of range.

    Reference:
        Wenlin Chen et al., "Compressing Neural Networks with the Hashing Trick",
        arXiv:1504.04788.

    Example:

    >>> import keras, tfcomp
    >>> layer = tfcomp.layers.HashedDense(100, compression=1 / 8)
    >>> layer.build((None, 64))
    >>> layer.count_params()
    900
    """

    def __init__(
        self,
        units,
        compression=1 / 8,
        buckets=None,
        seed=0,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        super().__init__(activity_regularizer=activity_regularizer, **kwargs)
        if not isinstance(units, int) or units < 1:
            raise invalid("units", units, "a positive integer")
        if buckets is None and not 0 < compression <= 1:
            raise invalid("compression", compression, "a float in (0, 1]")
        if buckets is not None and not 0 < buckets <= _MOST_BUCKETS:
            raise invalid("buckets", buckets, f"an integer from 1 to {_MOST_BUCKETS}")
        if not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise invalid("seed", seed, "an integer in [0, 2**31)")
        self.units = units
        self.compression = compression
        self.buckets = buckets
        self.seed = seed
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.input_spec = keras.layers.InputSpec(min_ndim=2)

    def build(self, input_shape):
        self._rows = input_shape[-1]
        size = self._rows * self.units
        buckets = self.buckets
        if buckets is None:
            buckets = max(1, round(self.compression * size))
        if buckets > min(size, _MOST_BUCKETS):
            raise invalid("buckets", buckets, f"at most {min(size, _MOST_BUCKETS)} in this layer")

        def initializer(shape, dtype=None):
            kernel = self.kernel_initializer((self._rows, self.units), dtype=dtype)
            return ops.reshape(kernel, (-1,))[: shape[0]]

        self.hashed_kernel = self.add_weight(
            name="hashed_kernel",
            shape=(buckets,),
            initializer=initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.units,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: self._rows})

    @property
    def kernel(self):
        """The whole matrix of weights, shape `(features, units)`."""
        buckets = self.hashed_kernel.shape[0]
        index, sign = buckets_and_signs(self._rows, self.units, buckets, self.seed)
        # The product is dense, so that TensorFlow sums the gradient over each bucket right here
        # and optimizers do not get a list of slices.
        weights = ops.convert_to_tensor(self.hashed_kernel) * 1.0
        return ops.take(weights, index, axis=0) * ops.cast(sign, weights.dtype)

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.kernel)
        if self.bias is not None:
            outputs = ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "compression": self.compression,
            "buckets": self.buckets,
            "seed": self.seed,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "activity_regularizer": keras.regularizers.serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }
