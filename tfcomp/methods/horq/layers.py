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
from tfcomp.layers.base.quantized import by_name
from tfcomp.layers.constraints import WeightClip
from tfcomp.methods.horq.quantizer import ResidualBinary
from tfcomp.quantizers.base import get
from tfcomp.validation import check_integer, invalid

_CLIP = WeightClip(1.0)
_NAME = "residual_binary"


def _residual(name, quantizer, argument, order, default):
    """The quantizer given as `name`, or that of an order where it is given by name."""
    order = check_integer(argument, order, 1, 8)
    quantizer = ResidualBinary(order) if quantizer == _NAME else get(quantizer, name)
    if order not in (default, _order(quantizer, order)):
        raise invalid(argument, order, f"{quantizer.order}, that of `{name}`")
    return quantizer


def _order(quantizer, default):
    return quantizer.order if isinstance(quantizer, ResidualBinary) else default


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
        kernel_constraint=_CLIP,
        kernel_quantizer=_NAME,
        input_quantizer=_NAME,
        order=2,
        weight_order=1,
        **kwargs,
    ):
        super().__init__(
            *args,
            kernel_constraint=kernel_constraint,
            kernel_quantizer=_residual(
                "kernel_quantizer", kernel_quantizer, "weight_order", weight_order, 1
            ),
            input_quantizer=_residual("input_quantizer", input_quantizer, "order", order, 2),
            **kwargs,
        )
        self._orders = int(order), int(weight_order)

    @property
    def order(self):
        """How many signs an input becomes."""
        return _order(self.input_quantizer, self._orders[0])

    @property
    def weight_order(self):
        """How many signs a weight becomes."""
        return _order(self.kernel_quantizer, self._orders[1])

    def get_config(self):
        orders = {"order": self.order, "weight_order": self.weight_order}
        chosen = {
            argument: by_name(self, argument, _NAME, ResidualBinary(order))
            for argument, order in zip(("input_quantizer", "kernel_quantizer"), orders.values())
        }
        return {**super().get_config(), **chosen, **orders}

    def _quantized_columns(self, columns, training):
        return self.drawing("input_quantizer", self.input_quantizer, training)(columns)

    def input_terms(self, inputs):
        """The scales and signs that the columns become.

        Args:
            inputs: Batch in the layer's data format.

        Returns:
            List of pairs of tensors: the scale of each column, of shape `(columns, 1)`, and what it
            multiplies the signs of, of shape `(columns, length)`; and the shape of the outputs but
            for the channels. Those of the groups of one position come one after the other. `None`
            if the quantizer is none that has a scale for each column.
        """
        quantizer = self.input_quantizer
        if not isinstance(quantizer, ResidualBinary) or quantizer.axis not in (None, (0,)):
            return None
        columns, outer = self._columns(inputs)
        return list(quantizer.terms(columns)), outer


class _HORQConvMixin(_HORQMixin):
    def _columns(self, inputs):
        """The columns, and the shape of the outputs but for the channels, those last."""
        seen = patches(self, inputs)
        *outer, entries, channels = ops.shape(seen)
        # Each group of channels has columns of its own.
        seen = ops.reshape(seen, [-1, entries, self.groups, channels // self.groups])
        length = entries * channels // self.groups
        return ops.reshape(ops.swapaxes(seen, 1, 2), [-1, length]), outer

    def call(self, inputs, training=None):
        if self.input_quantizer is None:
            return super().call(inputs, training=training)
        columns, outer = self._columns(inputs)
        length = columns.shape[-1]
        columns = self._quantized_columns(columns, training)
        with in_call(self, training):
            kernel = ops.reshape(self.kernel, [length, self.groups, -1])
        columns = ops.reshape(columns, [-1, self.groups, length])
        outputs = ops.einsum("pgn,ngf->pgf", columns, kernel)
        outputs = ops.reshape(outputs, [*outer, self.filters])
        if self.data_format == "channels_first":
            outputs = ops.moveaxis(outputs, -1, 1)
        return finish(self, outputs)


@keras.saving.register_keras_serializable("tfcomp")
class HORQDense(_HORQMixin, quantized.QuantizedDense):
    """`keras.layers.Dense` with inputs `β1 H1 + β2 H2 + ...` of signs, and binary weights.

    In every column x, the features of a sample, `R0 = x`, `βi = mean |R(i-1)|`,
    `Hi = sign(R(i-1))` and `Ri = R(i-1) - βi Hi`; the gradient is that of
    `tfcomp.quantizers.ResidualBinary`. Latent weights are clipped to [-1, 1]
    after every update.

    Args:
        order: How many signs an input becomes, 2 in the paper.
        weight_order: How many signs a weight becomes, with scales for each output channel: 1, as in
            XNOR-Net, is the paper's.
        kernel_quantizer: `"residual_binary"`, or a quantizer of the kernel instead of
            `weight_order`.
        input_quantizer: `"residual_binary"`, or a quantizer of a batch of columns instead of
            `order`; `None` for real inputs, which the first layer of a network takes.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Dense`; `kernel_constraint=None` leaves latent weights unclipped.

    Raises:
        ValueError: If an order is no integer from 1 to 8, or is not that of a quantizer given.

    Reference:
        Zefan Li, Bingbing Ni, Wenjun Zhang, Xiaokang Yang, Wen Gao, "Performance Guaranteed
        Network Acceleration via High-Order Residual Quantization", arXiv:1708.08687.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.HORQDense(1, order=2, kernel_initializer="ones")
    >>> keras.ops.convert_to_numpy(layer(np.array([[1.0, -3.0]]))).tolist()
    [[-2.0]]
    """

    def _columns(self, inputs):
        return ops.reshape(inputs, [-1, inputs.shape[-1]]), ops.shape(inputs)[:-1]

    def _prepare(self, inputs, training):
        if self.input_quantizer is None:
            return inputs
        columns, _ = self._columns(inputs)
        columns = self._quantized_columns(columns, training)
        return ops.reshape(columns, ops.shape(inputs))


@keras.saving.register_keras_serializable("tfcomp")
class HORQConv2D(_HORQConvMixin, quantized.QuantizedConv2D):
    """`keras.layers.Conv2D` with inputs `β1 H1 + β2 H2 + ...` of signs, and binary weights.

    In every column x, a patch, all that one output is made of, `R0 = x`, `βi = mean |R(i-1)|`,
    `Hi = sign(R(i-1))` and `Ri = R(i-1) - βi Hi`; the gradient is that of
    `tfcomp.quantizers.ResidualBinary`. Latent weights are clipped to [-1, 1]
    after every update.

    The patches are laid out in memory to be quantized one by one.

    Args:
        order: How many signs an input becomes, 2 in the paper.
        weight_order: How many signs a weight becomes, with scales for each output channel: 1, as in
            XNOR-Net, is the paper's.
        kernel_quantizer: `"residual_binary"`, or a quantizer of the kernel instead of
            `weight_order`.
        input_quantizer: `"residual_binary"`, or a quantizer of a batch of columns instead of
            `order`; `None` for real inputs, which the first layer of a network takes.
        pad_value: What `padding="same"` pads the real inputs with.
        **kwargs: All other arguments, and the shapes of inputs and outputs, are those of
            `keras.layers.Conv2D`; `kernel_constraint=None` leaves latent weights unclipped.

    Raises:
        ValueError: If an order is no integer from 1 to 8, or is not that of a quantizer given.

    Reference:
        Zefan Li, Bingbing Ni, Wenjun Zhang, Xiaokang Yang, Wen Gao, "Performance Guaranteed
        Network Acceleration via High-Order Residual Quantization", arXiv:1708.08687.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layer = tfcomp.layers.HORQConv2D(8, 3, order=3)
    >>> layer(keras.Input((8, 8, 4))).shape, layer.order
    ((None, 6, 6, 8), 3)
    """


@keras.saving.register_keras_serializable("tfcomp")
class HORQConv1D(_HORQConvMixin, quantized.QuantizedConv1D):
    """`keras.layers.Conv1D` with inputs `β1 H1 + β2 H2 + ...` of signs, and binary weights.

    `order`, `weight_order`, `kernel_quantizer`, `input_quantizer`, `kernel_constraint` and
    `pad_value` are as in `HORQConv2D`; all other arguments, and the shapes, as in
    `keras.layers.Conv1D`.
    """


@keras.saving.register_keras_serializable("tfcomp")
class HORQConv3D(_HORQConvMixin, quantized.QuantizedConv3D):
    """`keras.layers.Conv3D` with inputs `β1 H1 + β2 H2 + ...` of signs, and binary weights.

    `order`, `weight_order`, `kernel_quantizer`, `input_quantizer`, `kernel_constraint` and
    `pad_value` are as in `HORQConv2D`; all other arguments, and the shapes, as in
    `keras.layers.Conv3D`.
    """
