"""Integers times a scale that is nearest in the least squares sense.

Penghang Yin et al., "BinaryRelax", arXiv:1801.06313, whose sets of more than one bit these are.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.quantizers.scales import other_axes
from tfcomp.validation import check_integer

# What the largest integer stands for at first, in parts of the largest magnitude.
_FIRST = tuple(0.8**i for i in range(12))


@register("least_squares_integer")
class LeastSquaresInteger(Quantizer):
    """`α k` with an integer `k` from `-(2**(bits - 1) - 1)` to its negative, and the best α.

    From the best of some scales on, integers and α are found in turn, each the best for the other,
    as in Lloyd's algorithm: `k = round(x / α)`, clipped, then `α = <x, k> / <k, k>`. The gradient
    is that of the identity.

    Args:
        bits: 2 (ternary) to 8.
        per_channel: Whether there is one α for each output channel where the quantizer is used on
            a layer's kernel, instead of one for the whole tensor.
        sweeps: How often both are found.

    Raises:
        ValueError: For an argument that cannot be used.

    Reference:
        Penghang Yin et al., "BinaryRelax: A Relaxation Approach For Training Deep Neural Networks
        With Quantized Weights", arXiv:1801.06313.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.LeastSquaresInteger(3)
    >>> np.array(q(np.array([3.0, -2.0, 1.0, 0.2, 0.0], "float32"))).round(4).tolist()
    [3.0, -2.0, 1.0, 0.0, 0.0]
    """

    def __init__(self, bits=3, per_channel=False, sweeps=5):
        self.bits = check_integer("bits", bits, 2, 8)
        self.per_channel = bool(per_channel)
        self.sweeps = check_integer("sweeps", sweeps, 1)

    def for_kernel(self, axis):
        copy = LeastSquaresInteger(**self.get_config())
        copy.axis = tuple(axis) if self.per_channel else None
        return copy

    def quantize(self, inputs):
        return with_gradient(inputs, self._levels, lambda x, g: g)

    def _levels(self, x):
        axes = other_axes(x, self.axis)
        # In units of the largest magnitude, so that squares stay in range.
        unit = ops.max(ops.abs(x), axis=axes, keepdims=True)
        unit = ops.where(unit > 0, unit, ops.ones_like(unit))
        x = x / unit
        alpha = self._start(x, axes)
        for _ in range(self.sweeps):
            k = self._integers(x, alpha)
            squares = ops.sum(k * k, axis=axes, keepdims=True)
            best = ops.sum(x * k, axis=axes, keepdims=True) / ops.maximum(squares, 1)
            alpha = ops.where(squares > 0, best, alpha)
        return alpha * unit * self._integers(x, alpha)

    def _start(self, x, axes):
        best = least = None
        for part in _FIRST:
            alpha = part / self._largest
            rest = x - alpha * self._integers(x, alpha)
            error = ops.sum(rest * rest, axis=axes, keepdims=True)
            if best is None:
                best, least = alpha * ops.ones_like(error), error
            best = ops.where(error < least, alpha, best)
            least = ops.minimum(error, least)
        return best

    @property
    def _largest(self):
        return 2 ** (self.bits - 1) - 1

    def _integers(self, x, alpha):
        return ops.clip(ops.round(x / alpha), -self._largest, self._largest)

    def get_config(self):
        return {"bits": self.bits, "per_channel": self.per_channel, "sweeps": self.sweeps}
