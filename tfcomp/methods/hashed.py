"""Layers whose weights share few buckets by hashing.

Wenlin Chen et al., "Compressing Neural Networks with the Hashing Trick", arXiv:1504.04788.
"""

import math

import keras
from keras import ops

from tfcomp.layers.base.decoded import DecodedKernel
from tfcomp.quantizers.base import with_gradient
from tfcomp.validation import check_integer, check_number, invalid

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


def spread(buckets, index, sign):
    """Returns `buckets[index] * sign`, whose gradient sums over the connections of a bucket.

    Args:
        buckets: Vector of `K` numbers.
        index: int32 tensor with values below `K`.
        sign: Tensor of ±1, of the same shape.
    """
    count = buckets.shape[0]

    def look_up(buckets):
        return ops.take(buckets, index, axis=0) * ops.cast(sign, buckets.dtype)

    def collect(buckets, upstream):
        # In single precision, and faster on TensorFlow than its own gradient of a look-up.
        signed = ops.reshape(ops.cast(upstream, "float32") * sign, (-1,))
        total = ops.segment_sum(signed, ops.reshape(index, (-1,)), num_segments=count)
        return ops.cast(total, buckets.dtype)

    return with_gradient(buckets, look_up, collect)


class HashedMixin(DecodedKernel):
    """Stores few buckets in place of the kernel of the Keras layer it is mixed into."""

    def __init__(self, *args, compression=1 / 8, buckets=None, seed=0, **kwargs):
        super().__init__(*args, **kwargs)
        check_number("compression", compression, above=0)
        if compression > 1:
            raise invalid("compression", compression, "a number in (0, 1]")
        self.compression = compression
        self.buckets = (
            None if buckets is None else check_integer("buckets", buckets, 1, _MOST_BUCKETS)
        )
        self.seed = check_integer("seed", seed, 0, 2**31 - 1)

    def add_parts(self, initializer, regularizer, constraint):
        size = math.prod(self.kernel_shape)
        buckets = self.buckets
        if buckets is None:
            buckets = max(1, round(self.compression * size))
        if buckets > min(size, _MOST_BUCKETS):
            raise invalid("buckets", buckets, f"at most {min(size, _MOST_BUCKETS)} in this layer")

        def first_of_kernel(shape, dtype=None):
            return ops.reshape(initializer(self.kernel_shape, dtype=dtype), (-1,))[: shape[0]]

        self.hashed_kernel = self.add_weight(
            name="hashed_kernel",
            shape=(buckets,),
            initializer=first_of_kernel,
            regularizer=regularizer,
            constraint=constraint,
        )
        return self.hashed_kernel

    @property
    def parts(self):
        return [self.hashed_kernel]

    def decode(self):
        # A product, since TensorFlow cannot differentiate a function of its own variables.
        buckets = ops.convert_to_tensor(self.hashed_kernel) * 1.0
        index, sign = buckets_and_signs(*self.kernel_matrix, buckets.shape[0], self.seed)
        return ops.reshape(spread(buckets, index, sign), self.kernel_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "compression": self.compression,
            "buckets": self.buckets,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable("tfcomp")
class HashedDense(HashedMixin, keras.layers.Dense):
    """`keras.layers.Dense` with far fewer weights than connections.

    Connection `(i, j)` to output channel `j` has the weight `buckets[h(i, j)] * ξ(i, j)`, with a
    hash `h` that spreads the connections over the buckets and a second one `ξ = ±1` that keeps
    inner products unbiased; `i` counts all other axes of the kernel as they lie in memory. Only the
    buckets are stored and trained; hashes are computed from the seed.

    Args:
        compression: Buckets as a fraction of the connections, in (0, 1].
        buckets: Number of buckets, instead of `compression`.
        seed: Seed of the hash, an integer in [0, 2**31); layers with different seeds collide
            differently.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`. `kernel_regularizer` and `kernel_constraint` are those of the
            buckets. `kernel_initializer` is given the shape of the whole kernel, and each bucket
            gets one of its values, so that the variance is right for the layer's size.

    Raises:
        ValueError: If `compression`, `buckets` or `seed` is out of range.

    Reference:
        Wenlin Chen et al., "Compressing Neural Networks with the Hashing Trick",
        arXiv:1504.04788.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.HashedDense(100, compression=1 / 8)
    >>> layer.build((None, 64))
    >>> layer.count_params()
    900
    """


@keras.saving.register_keras_serializable("tfcomp")
class HashedConv2D(HashedMixin, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with far fewer weights than connections.

    Connection `(i, j)` to output channel `j` has the weight `buckets[h(i, j)] * ξ(i, j)`, with a
    hash `h` that spreads the connections over the buckets and a second one `ξ = ±1` that keeps
    inner products unbiased; `i` counts all other axes of the kernel as they lie in memory. Only the
    buckets are stored and trained; hashes are computed from the seed.

    Args:
        compression: Buckets as a fraction of the connections, in (0, 1].
        buckets: Number of buckets, instead of `compression`.
        seed: Seed of the hash, an integer in [0, 2**31); layers with different seeds collide
            differently.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`. `kernel_regularizer` and `kernel_constraint` are those of the
            buckets. `kernel_initializer` is given the shape of the whole kernel, and each bucket
            gets one of its values, so that the variance is right for the layer's size.

    Raises:
        ValueError: If `compression`, `buckets` or `seed` is out of range.

    Reference:
        Wenlin Chen et al., "Compressing Neural Networks with the Hashing Trick",
        arXiv:1504.04788.

    Example:

    >>> import tfcomp
    >>> layer = tfcomp.layers.HashedConv2D(16, 3, compression=1 / 8)
    >>> layer.build((None, 9, 9, 4))
    >>> layer.count_params()
    88
    """


@keras.saving.register_keras_serializable("tfcomp")
class HashedConv1D(HashedMixin, keras.layers.Conv1D):
    """`keras.layers.Conv1D` with far fewer weights than connections.

    `compression`, `buckets` and `seed` are as in `HashedConv2D`; all other arguments, and the
    shapes, as in `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class HashedConv3D(HashedMixin, keras.layers.Conv3D):
    """`keras.layers.Conv3D` with far fewer weights than connections.

    `compression`, `buckets` and `seed` are as in `HashedConv2D`; all other arguments, and the
    shapes, as in `keras.layers.Conv3D`.
    """
