"""Binary quantization: every value becomes its sign.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830; with a
scale, Mohammad Rastegari et al., "XNOR-Net", arXiv:1603.05279.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.quantizers.scales import other_axes
from tfcomp.validation import invalid


def sign(inputs):
    """The sign, with `sign(0) = +1`: two levels and no third."""
    return ops.where(ops.greater_equal(inputs, 0), ops.ones_like(inputs), -ops.ones_like(inputs))


def inside(inputs, clip_value):
    """1 where `|x| <= clip_value`, 0 elsewhere: the derivative of hard tanh."""
    if clip_value is None:
        return ops.ones_like(inputs)
    return ops.cast(ops.less_equal(ops.abs(inputs), clip_value), inputs.dtype)


@register("binary")
class Binary(Quantizer):
    """`sign(x)`, with the gradient of hard tanh: 1 where `|x| <= clip_value`, 0 elsewhere.

    With `scale`, `α sign(x)` with `α = mean |x|`, XNOR-Net's best binary approximation in the least
    squares sense; its gradient is `1 / n + α 1(|x| <= clip_value)`, with `n` entries to a scale.

    Args:
        clip_value: Largest magnitude that gets a gradient; `None` for all.
        scale: Whether to multiply by α. In a layer's kernel there is one α for each output channel,
            elsewhere one for the whole tensor.
        axis: Axis or tuple of axes with one α for each of their positions, instead of these.

    Example:

    >>> import numpy as np, tfcomp
    >>> np.array(tfcomp.quantizers.Binary(scale=True)(np.array([[0.5, -1.0, 0.0]], "float32")))
    array([[ 0.5, -0.5,  0.5]], dtype=float32)
    """

    bits = 1

    def __init__(self, clip_value=1.0, scale=False, axis=None):
        if clip_value is not None and not clip_value > 0:
            raise invalid("clip_value", clip_value, "a number > 0, or None")
        self.clip_value = clip_value
        self.scale = bool(scale)
        self.axis = (axis,) if isinstance(axis, int) else axis if axis is None else tuple(axis)

    @property
    def levels(self):
        return None if self.scale else (-1.0, 1.0)

    def for_kernel(self, axis):
        if not self.scale or self.axis is not None:
            return self
        return Binary(self.clip_value, True, axis)

    def quantize(self, inputs):
        if not self.scale:
            return with_gradient(inputs, sign, lambda x, g: g * inside(x, self.clip_value))
        return with_gradient(
            inputs,
            lambda x: self._alpha(x) * sign(x),
            lambda x, g: g * (self._alpha(x) * inside(x, self.clip_value) + 1 / self._entries(x)),
        )

    def _alpha(self, inputs):
        return ops.mean(ops.abs(inputs), axis=other_axes(inputs, self.axis), keepdims=True)

    def _entries(self, inputs):
        shape = ops.shape(inputs)
        entries = 1
        for axis in other_axes(inputs, self.axis):
            entries = entries * shape[axis]
        return ops.cast(entries, inputs.dtype)

    def get_config(self):
        return {"clip_value": self.clip_value, "scale": self.scale, "axis": self.axis}
