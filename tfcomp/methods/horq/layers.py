"""Layers with binary weights and inputs of several binary terms.

Zefan Li, Bingbing Ni, Wenjun Zhang, Xiaokang Yang, Wen Gao, "Performance Guaranteed Network
Acceleration via High-Order Residual Quantization", arXiv:1708.08687.
"""

import itertools

import keras
from keras import ops

from tfcomp.layers import quantized
from tfcomp.layers.base.finish import finish
from tfcomp.layers.base.in_call import in_call
from tfcomp.layers.base.padding import pad_widths
from tfcomp.layers.constraints import WeightClip
from tfcomp.quantizers import ResidualBinary


def patches(layer, inputs):
    """What a convolution's kernel sees at each position.

    Args:
        layer: A convolution.
        inputs: Batch in the layer's data format.

    Returns:
        Tensor of the spatial shape of the outputs, then positions in the kernel, then channels.
    """
    if layer.padding != "valid":
        widths = pad_widths(layer, ops.shape(inputs))
        inputs = ops.pad(inputs, widths, constant_values=layer.pad_value)
    if layer.data_format == "channels_first":
        inputs = ops.moveaxis(inputs, 1, -1)
    geometry = list(zip(layer.kernel_size, layer.strides, layer.dilation_rate))

    def seen_from(offsets):
        """The inputs under one entry of the kernel, at all its positions."""
        cut = [slice(None)]
        for offset, (size, stride, dilation) in zip(offsets, geometry):
            beyond = (size - 1 - offset) * dilation
            cut.append(slice(offset * dilation, -beyond or None, stride))
        return inputs[tuple(cut)]

    entries = itertools.product(*(range(size) for size in layer.kernel_size))
    return ops.stack([seen_from(offsets) for offsets in entries], axis=-2)


class _HORQMixin:
    """Gives a quantized layer HORQ's quantizers, and its inputs' quantizer columns to work on.

    A column is all that one output is computed from: the features of a sample, or a patch.
    """

    def __init__(
        self,
        *args,
        order=2,
        weight_order=1,
        input_quantizer="residual",
        kernel_quantizer="residual",
        **kwargs,
    ):
        if input_quantizer == "residual":
            input_quantizer = ResidualBinary(order)
        if kernel_quantizer == "residual":
            kernel_quantizer = ResidualBinary(weight_order)
        kwargs.setdefault("kernel_constraint", WeightClip(1.0))
        super().__init__(
            *args, input_quantizer=input_quantizer, kernel_quantizer=kernel_quantizer, **kwargs
        )

    def _quantized_columns(self, columns, training):
        return self.drawing("input_quantizer", self.input_quantizer, training)(columns)


class _HORQConvMixin(_HORQMixin):
    def call(self, inputs, training=None):
        if self.input_quantizer is None:
            return super().call(inputs, training=training)
        seen = patches(self, inputs)
        *outer, entries, channels = ops.shape(seen)
        # Each group of channels has columns of its own.
        seen = ops.reshape(seen, [-1, entries, self.groups, channels // self.groups])
        length = entries * channels // self.groups
        columns = ops.reshape(ops.swapaxes(seen, 1, 2), [-1, length])
        columns = self._quantized_columns(columns, training)
        with in_call(self, training):
            kernel = ops.reshape(self.kernel, [length, self.groups, -1])
        columns = ops.reshape(columns, [-1, self.groups, length])
        outputs = ops.einsum("pgn,ngf->pgf", columns, kernel)
        outputs = ops.reshape(outputs, [*outer, self.filters])
        if self.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 1)
        return finish(self, outputs)


def _serializable(cls):
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    dense = not issubclass(cls, _HORQConvMixin)
    column = "the features of a sample" if dense else "a patch, all that one output is made of"
    padded = (
        ""
        if dense
        else "        pad_value: What `padding='same'` and `'causal'` pad the real inputs with.\n"
    )
    dense_note = "" if dense else " The patches are laid out in memory to be quantized one by one."
    example = (
        "tfcomp.layers.HORQDense(10)(keras.Input((64,))).shape\n    (None, 10)"
        if dense
        else f"layer = tfcomp.layers.{cls.__name__}(8, 3, order=2)\n"
        "    >>> layer.input_quantizer.order\n    2"
    )
    cls.__doc__ = f"""`keras.layers.{base.__name__}` with inputs `β1 H1 + β2 H2 + ...` of signs, and binary weights.

    In every column x, {column}, `R0 = x`, `βi = mean |R(i-1)|`, `Hi = sign(R(i-1))` and
    `Ri = R(i-1) - βi Hi`; the gradient is that of `tfcomp.quantizers.ResidualBinary`.{dense_note}

    Args:
        *args, **kwargs: Those of `keras.layers.{base.__name__}`. The kernel constraint defaults to
            `tfcomp.layers.WeightClip(1.0)`.
        order: How many signs an input becomes, 2 in the paper.
        weight_order: How many signs a weight becomes, with scales for each output channel: 1, as in
            XNOR-Net, is the paper's.
        input_quantizer: Quantizer of a batch of columns, instead of `order`; `None` for real
            inputs, which the first layer of a network takes.
        kernel_quantizer: Quantizer of the kernel, instead of `weight_order`.
{padded}
    Reference:
        Zefan Li, Bingbing Ni, Wenjun Zhang, Xiaokang Yang, Wen Gao, "Performance Guaranteed
        Network Acceleration via High-Order Residual Quantization", arXiv:1708.08687.

    Example:

    >>> import keras, tfcomp
    >>> {example}
    """  # noqa: E501
    return keras.saving.register_keras_serializable("tfcomp")(cls)


@_serializable
class HORQDense(_HORQMixin, quantized.QuantizedDense):
    def _prepare(self, inputs, training):
        if self.input_quantizer is None:
            return inputs
        columns = ops.reshape(inputs, [-1, inputs.shape[-1]])
        columns = self._quantized_columns(columns, training)
        return ops.reshape(columns, ops.shape(inputs))


@_serializable
class HORQConv1D(_HORQConvMixin, quantized.QuantizedConv1D):
    pass


@_serializable
class HORQConv2D(_HORQConvMixin, quantized.QuantizedConv2D):
    pass


@_serializable
class HORQConv3D(_HORQConvMixin, quantized.QuantizedConv3D):
    pass
