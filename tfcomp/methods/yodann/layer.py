"""The convolution of an accelerator for binary weights, number for number.

Renzo Andri et al., "YodaNN: An Architecture for Ultra-Low Power Binary-Weight CNN Acceleration",
arXiv:1606.05487.
"""

import math

import keras
import ml_dtypes
from keras import ops

from tfcomp.keras_private import without_autocast
from tfcomp.layers.base.quantized_weight import QuantizedWeight
from tfcomp.layers.base.without_latent import WithoutLatent
from tfcomp.layers.constraints import WeightClip
from tfcomp.methods.binary.quantizer import Binary
from tfcomp.methods.yodann import datapath as yodann
from tfcomp.model.macs import positions
from tfcomp.quantizers.base import are_weights_as_stored
from tfcomp.quantizers.fixed_point import FixedPoint
from tfcomp.validation import check_integer, invalid


def straight_through(exact, smooth, format):
    """`exact`, with the gradient of `smooth` where it is no end of its format, and none there."""
    inside = ops.logical_and(exact > format.least, exact < format.most)
    smooth = smooth * ops.stop_gradient(ops.cast(inside, smooth.dtype))
    return ops.stop_gradient(ops.cast(exact, smooth.dtype)) + (smooth - ops.stop_gradient(smooth))


@keras.saving.register_keras_serializable("tfcomp")
class YodaConv2D(WithoutLatent, keras.layers.Layer):
    """A convolution as the YodaNN chip computes it: binary weights, fixed-point numbers.

    Inputs are rounded to 12 bits (Q2.9) and multiplied by `sign(kernel)`. Sums over input channels
    have 17 bits (Q7.9) and saturate after each channel, within tiles of 32 channels and over
    the tiles. Each output channel is scaled and biased, `α * sum + β` with α and β in Q2.9, and
    brought back to Q2.9: saturated, and truncated.

    The forward pass is that of `tfcomp.hardware.yodann.emulate` to the last bit, computed in
    single precision. The gradient is that of the sums without rounding, and zero where one has
    saturated; it reaches latent kernels in [-1, 1], and latent α and β. Where the inputs of a batch
    are too small for any sum to saturate on the way, a tile is one convolution; elsewhere its
    channels are added one by one, by a convolution for each.

    Args:
        filters: As in `keras.layers.Conv2D`.
        kernel_size: Size of the square kernel, 1 to 7.
        padding: `"valid"` or `"same"`, with zeros. The stride is 1.
        data_format: As in `keras.layers.Conv2D`.
        activation: Function on the outputs, such as `"relu"`, which keeps to their format.
        use_bias: Whether there is a β.
        activation_format: Format of inputs and outputs, a name as `"Q2.9"` or a pair.
        weight_format: Format of α and β.
        sum_format: Format of the sums over input channels; as many fraction bits as the
            activations'.
        product_format: Format of `α * sum + β`; the fraction bits of sums and α together.
        rounding: Of the outputs: `"truncate"` (down), or `"nearest"` (halves up).
        kernel_initializer: As in `keras.layers.Conv2D`.
        bias_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer: As in `keras.layers.Conv2D`.
        activity_regularizer: As in `keras.layers.Conv2D`.
        kernel_constraint: As in `keras.layers.Conv2D`; clips to [-1, 1] if `None`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, new_height, new_width, filters)`.

    Raises:
        ValueError: If the chip has no such kernel, or the formats do not fit together.

    Reference:
        Renzo Andri, Lukas Cavigelli, Davide Rossi, Luca Benini, "YodaNN: An Architecture for
        Ultra-Low Power Binary-Weight CNN Acceleration", arXiv:1606.05487.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.YodaConv2D(16, 3, activation="relu")
    >>> outputs = keras.ops.convert_to_numpy(layer(np.ones((1, 8, 8, 4), "float32")))
    >>> outputs.shape, bool((outputs * 512 % 1 == 0).all())
    ((1, 6, 6, 16), True)
    """

    quantized_kernel = QuantizedWeight("kernel")
    quantized_scale = QuantizedWeight("scale")
    quantized_bias = QuantizedWeight("bias")

    def __init__(
        self,
        filters,
        kernel_size,
        padding="valid",
        data_format=None,
        activation=None,
        use_bias=True,
        activation_format="Q2.9",
        weight_format="Q2.9",
        sum_format="Q7.9",
        product_format="Q10.18",
        rounding="truncate",
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        **kwargs,
    ):
        # Half precision has too few bits for the sums.
        super().__init__(activity_regularizer=activity_regularizer, autocast=False, **kwargs)
        filters = check_integer("filters", filters, 1)
        plain = keras.layers.Conv2D(filters, kernel_size, 1, padding, data_format)
        size = plain.kernel_size[0]
        if plain.kernel_size != (size, size) or size not in yodann.KERNEL_SIZES:
            raise invalid("kernel_size", kernel_size, "the size of a square kernel, 1 to 7")
        self.filters = filters
        self.kernel_size = plain.kernel_size
        self.padding = plain.padding
        self.data_format = plain.data_format
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.data_path = yodann.data_path(
            activation_format, weight_format, sum_format, product_format, rounding
        )
        self.activation_format = str(self.data_path.activations)
        self.weight_format = str(self.data_path.weights)
        self.sum_format = str(self.data_path.sums)
        self.product_format = str(self.data_path.products)
        self.rounding = self.data_path.rounding
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.kernel_quantizer = Binary()
        self.input_quantizer = FixedPoint(*self.data_path.activations)
        self.scale_quantizer = FixedPoint(*self.data_path.weights)
        self.input_spec = keras.layers.InputSpec(ndim=4)
        if ml_dtypes.finfo(self.compute_dtype).nmant + 1 < sum(self.data_path.activations):
            raise invalid(
                "dtype",
                self.dtype_policy.name,
                f"one that computes in enough bits for {activation_format}, such as 'float32'",
            )

    def build(self, input_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        channels = input_shape[axis]
        clip = self.kernel_constraint or WeightClip(1.0)
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self.kernel_size, channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=clip,
        )
        # Sums of so many ±x have about this many times the size of x.
        unit = math.sqrt(math.prod(self.kernel_size) * channels)
        self.scale = self.add_weight(
            name="scale", shape=(self.filters,), initializer=keras.initializers.Constant(1 / unit)
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias", shape=(self.filters,), initializer=self.bias_initializer
            )
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={axis: channels})

    @property
    def weight_quantizers(self):
        """The `(variable, quantizer)` pairs of the weights this layer quantizes in `call`."""
        if not self.built:
            return []
        pairs = [(self.kernel, self.kernel_quantizer), (self.scale, self.scale_quantizer)]
        if self.use_bias:
            pairs.append((self.bias, self.scale_quantizer))
        return [(variable, self.quantizer_or_as_stored(q)) for variable, q in pairs]

    def count_macs(self, call):
        """Those of a convolution."""
        number = positions(call.output, self.filters) * math.prod(self.kernel.shape)
        return [(self.kernel, number)]

    def quantized_weight(self, name):
        """The weight called `name` as it is on the chip; zeros for a bias that is not there."""
        variable = getattr(self, name)
        if variable is None:
            return ops.zeros((self.filters,))
        if self.is_quantized:
            self.check_frozen(variable)
        with without_autocast():
            value = ops.cast(ops.convert_to_tensor(variable), "float32")
        quantizer = self.kernel_quantizer if name == "kernel" else self.scale_quantizer
        return value if self.is_quantized or are_weights_as_stored() else quantizer(value)

    def call(self, inputs):
        step = self.data_path.activations.step
        # From here on numbers are integers, in units of their steps.
        inputs = self.input_quantizer(ops.cast(inputs, "float32")) / step
        if self.data_format == "channels_first":
            inputs = ops.transpose(inputs, (0, 2, 3, 1))
        outputs = self._scaled(*self._sums(inputs, self.quantized_kernel)) * step
        if self.data_format == "channels_first":
            outputs = ops.transpose(outputs, (0, 3, 1, 2))
        outputs = ops.cast(outputs, self.compute_dtype)
        return outputs if self.activation is None else self.activation(outputs)

    def _convolve(self, inputs, kernel):
        return ops.conv(inputs, kernel, 1, self.padding, "channels_last")

    def _sums(self, inputs, kernel):
        """The saturating sums over input channels, and the same without saturation."""
        total, whole = 0.0, 0.0
        for first in range(0, kernel.shape[2], yodann.TILE):
            x = inputs[..., first : first + yodann.TILE]
            w = kernel[:, :, first : first + yodann.TILE]
            plain = self._convolve(x, w)
            exact = self._tile(*map(ops.stop_gradient, (x, w, plain)))
            total = self._saturated(total + exact)
            whole = whole + plain
        return total, whole

    def _saturated(self, sums):
        return ops.clip(sums, self.data_path.sums.least, self.data_path.sums.most)

    def _tile(self, inputs, kernel, plain):
        """The sums of one tile, which saturate after every channel."""
        window = ops.ones((*self.kernel_size, 1, 1), dtype=plain.dtype)
        size = self._convolve(ops.sum(ops.abs(inputs), axis=-1, keepdims=True), window)
        # No part of a sum is beyond that of its positive terms, or of its negative ones.
        safe = ops.all(size + ops.abs(plain) <= 2 * self.data_path.sums.most)
        return ops.cond(safe, lambda: ops.round(plain), lambda: self._one_by_one(inputs, kernel))

    def _one_by_one(self, inputs, kernel):
        channels = ops.expand_dims(ops.moveaxis(inputs, -1, 0), -1)
        kernels = ops.expand_dims(ops.moveaxis(kernel, 2, 0), 3)

        def add(sums, channel):
            x, w = channel
            return self._saturated(sums + ops.round(self._convolve(x, w))), None

        start = ops.zeros_like(self._convolve(channels[0], kernels[0]))
        return ops.scan(add, start, (channels, kernels))[0]

    def _scaled(self, sums, whole):
        """`α * sum + β` as activations."""
        path, smooth_sums = self.data_path, straight_through(sums, whole, self.data_path.sums)
        scale = self.quantized_scale / path.weights.step
        bias = self.quantized_bias / path.weights.step
        # The product is one of sixteen bits by eleven, and more than single precision holds.
        product = _integer(sums) * _integer(scale) + _integer(bias) * 2**path.sums.fraction_bits
        product = ops.clip(product, path.products.least, path.products.most)
        if path.rounding == "nearest" and path.dropped:
            product = product + 2 ** (path.dropped - 1)
        exact = ops.right_shift(product, ops.cast(path.dropped, "int32"))
        exact = ops.clip(exact, path.activations.least, path.activations.most)
        unit = path.weights.step
        smooth = (scale * smooth_sums + bias * 2.0**path.sums.fraction_bits) * unit
        return straight_through(exact, smooth, path.activations)

    def compute_output_shape(self, input_shape):
        plain = keras.layers.Conv2D(
            self.filters, self.kernel_size, 1, self.padding, self.data_format
        )
        return plain.compute_output_shape(input_shape)

    def get_config(self):
        serialize = keras.regularizers.serialize
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "padding": self.padding,
            "data_format": self.data_format,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "activation_format": self.activation_format,
            "weight_format": self.weight_format,
            "sum_format": self.sum_format,
            "product_format": self.product_format,
            "rounding": self.rounding,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": serialize(self.kernel_regularizer),
            "activity_regularizer": serialize(self.activity_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
        }


def _integer(numbers):
    return ops.cast(ops.round(ops.stop_gradient(numbers)), "int32")
