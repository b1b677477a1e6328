"""Binary residuals of higher order.

Zefan Li, Bingbing Ni, Wenjun Zhang, Xiaokang Yang, Wen Gao, "Performance Guaranteed Network
Acceleration via High-Order Residual Quantization", arXiv:1708.08687.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.quantizers.scales import as_axes, other_axes
from tfcomp.quantizers.sign_slopes import inside, sign
from tfcomp.validation import check_integer, check_number


@register("residual_binary")
class ResidualBinary(Quantizer):
    """`β1 sign(r0) + β2 sign(r1) + ...`: what one sign leaves over, the next one approximates.

    `r0 = x`, `βi = mean |r(i-1)|`, `ri = r(i-1) - βi sign(r(i-1))`. The gradient goes
    straight through each sign, `Σ βi 1(|r(i-1)| <= clip_value) + 1 / n` with `n` entries to a
    scale; of first order it is XNOR-Net's.

    Args:
        order: How many signs, 2 in the paper.
        clip_value: Largest magnitude that gets the first part of the gradient; `None` for all.
        axis: Axis or tuple of axes with one scale for each of their positions. `None` for one for
            each sample (the first axis), or each output channel of a layer's kernel.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.ResidualBinary(2)
    >>> np.array(q(np.array([[1.0, -3.0]], "float32"))).tolist()
    [[1.0, -3.0]]
    """

    def __init__(self, order=2, clip_value=1.0, axis=None):
        if clip_value is not None:
            check_number("clip_value", clip_value, above=0)
        self.order = check_integer("order", order, 1, 8)
        self.clip_value = clip_value
        self.axis = as_axes(axis)

    @property
    def bits(self):
        return self.order

    def for_kernel(self, axis):
        return self if self.axis is not None else ResidualBinary(self.order, self.clip_value, axis)

    def _axes(self, x):
        return other_axes(x, (0,) if self.axis is None else self.axis)

    def quantize(self, inputs):
        return with_gradient(inputs, lambda x: self._expand(x)[0], self._gradient)

    def terms(self, x):
        """Yields each `βi`, and `r(i-1)`, of which it multiplies the sign."""
        rest = x
        for _ in range(self.order):
            beta = ops.mean(ops.abs(rest), axis=self._axes(x), keepdims=True)
            yield beta, rest
            rest = rest - beta * sign(rest)

    def _expand(self, x):
        """The value, and the sum of the scales of the signs that pass a gradient on."""
        total = slope = 0
        for beta, rest in self.terms(x):
            slope = slope + beta * inside(rest, self.clip_value)
            total = total + beta * sign(rest)
        return total, slope

    def _gradient(self, x, g):
        entries = 1
        for axis in self._axes(x):
            entries = entries * ops.shape(x)[axis]
        _, slope = self._expand(x)
        return g * (slope + 1 / ops.cast(entries, x.dtype))

    def get_config(self):
        return {"order": self.order, "clip_value": self.clip_value, "axis": self.axis}
