"""What a dense layer or a convolution multiplies, as numbers and a window."""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels.xnor import Window
from tfcomp.keras_private import stored_kernel
from tfcomp.layers.base.padding import pad_widths
from tfcomp.model.choice import Unsuited, why_not_plain

_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_CHANNEL_BY_CHANNEL = (
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class Product(NamedTuple):
    """One call of a layer that multiplies by a kernel.

    Attributes:
        layer: The layer.
        kernel: float32 array of shape `(*window, inputs of a group, outputs)`, as at inference.
        window: A `Window`, without axes for a dense layer.
        space: Shape of the inputs between batch and channels.
        bias: Array of shape `(outputs,)`, or `None`.
    """

    layer: Any
    kernel: np.ndarray
    window: Window
    space: tuple
    bias: np.ndarray | None

    @property
    def matrix(self):
        """The kernel as `(positions and inputs, outputs)`."""
        return self.kernel.reshape(-1, self.kernel.shape[-1])

    @property
    def entries(self):
        """Products in a sum."""
        return self.kernel[..., 0].size

    def check_inputs(self):
        """Raises `Unsuited` if the layer multiplies other numbers than `take` returns."""
        levels = getattr(self._input_quantizer, "levels", None)
        scaled = self._input_quantizer is not None and levels is None
        if scaled or getattr(self.layer, "input_scale", False):
            raise Unsuited("its inputs are quantized by scales of their own")

    def take(self, inputs):
        """The inputs, quantized where the layer does that to each by itself."""
        return inputs if self._input_quantizer is None else self._input_quantizer(inputs)

    @property
    def _input_quantizer(self):
        return getattr(self.layer, "input_quantizer", None)

    def finish(self, outputs, has_bias=False):
        """Adds the bias, unless it is in them already, and applies the activation of the layer."""
        layer = self.layer
        if layer.use_bias and not has_bias:
            # One op, where Keras would reshape the bias and the outputs besides.
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(layer.bias))
        return outputs if layer.activation is None else layer.activation(outputs)


def product_of(seen, final):
    """The product that a call computes.

    Args:
        seen: A `tfcomp.exporters.latency.flow.Seen`.
        final: The model's `FinalWeights`.

    Returns:
        A `Product`.

    Raises:
        Unsuited: If the layer is none that is known, or not with its settings.
    """
    layer, shape = seen.layer, seen.shape
    dense = isinstance(layer, keras.layers.Dense)
    if isinstance(layer, _CHANNEL_BY_CHANNEL):
        raise Unsuited("a depthwise convolution sums up too few products to gain by other kernels")
    if not dense and not isinstance(layer, _CONVOLUTIONS):
        raise Unsuited("its layer multiplies by no kernel of Dense or Conv")
    reason = why_not_plain(layer)
    if reason:
        raise Unsuited(reason)
    if seen.dtype != "float32" or layer.compute_dtype != "float32":
        raise Unsuited(f"it computes in {layer.compute_dtype}")
    if None in shape[1:]:
        raise Unsuited("the size of its inputs is not known")
    stored = stored_kernel(layer)
    if stored is None:
        raise Unsuited("its kernel is computed from other weights")
    kernel = final.value(stored)
    bias = final.value(layer.bias) if layer.use_bias else None
    if dense:
        return Product(layer, kernel, Window(), tuple(shape[1:-1]), bias)
    if layer.data_format != "channels_last":
        raise Unsuited("its data format is channels_first")
    return Product(layer, kernel, _window(layer, shape), tuple(shape[1:-1]), bias)


def _window(layer, shape):
    pads = [(0, 0)] * layer.rank
    if layer.padding != "valid":
        pads = [tuple(int(side) for side in pair) for pair in pad_widths(layer, shape)[1:-1]]
    value = getattr(layer, "pad_value", 0)
    return Window(
        tuple(layer.kernel_size),
        tuple(layer.strides),
        tuple(layer.dilation_rate),
        tuple(pads),
        value,
        layer.groups,
    )


def columns(inputs, product):
    """What the kernel lies over at each position: a row of `product.matrix.shape[0]` numbers.

    Args:
        inputs: Tensor of shape `(batch, *space, channels)`.
        product: A `Product` of one group.

    Returns:
        Tensor of shape `(batch and positions, numbers)`, and the shape of the outputs but for the
        channels.
    """
    window = product.window
    batch, channels = inputs.shape[0] or tf.shape(inputs)[0], inputs.shape[-1]
    if not window.size:
        outer = [batch, *inputs.shape[1:-1]]
        return (tf.reshape(inputs, [-1, channels]) if outer[1:] else inputs), outer
    if any(map(any, window.pads)):
        widths = [[0, 0], *map(list, window.pads), [0, 0]]
        inputs = tf.pad(inputs, widths, constant_values=float(window.pad_value))
    parts = []
    for offset in window.offsets:
        parts.append(inputs[(slice(None), *window.cut(offset, product.space), slice(None))])
    seen = parts[0] if len(parts) == 1 else tf.concat(parts, -1)
    outer = [batch, *window.outputs(product.space)]
    return tf.reshape(seen, [-1, channels * len(parts)]), outer
