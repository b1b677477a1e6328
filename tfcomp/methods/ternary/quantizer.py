"""Ternary weights.

Fengfu Li, Bo Zhang, Bin Liu, "Ternary Weight Networks", arXiv:1605.04711.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, alias, register, with_gradient
from tfcomp.quantizers.scales import other_axes
from tfcomp.quantizers.sign_slopes import inside
from tfcomp.validation import check_number


@register("ternary")
class Ternary(Quantizer):
    """`α sign(x)` where `|x| > Δ`, zero elsewhere, with the gradient of the identity.

    `Δ = threshold * mean |x|`, and α is the mean of the magnitudes above Δ. `"ste_tern"` stands for
    `Ternary(scale=False, delta=0.05, clip_value=1.0)`, for latent weights in [-1, 1].

    Args:
        threshold: The factor; 0.7 is the paper's (0.75 suits normally distributed weights).
        scale: Whether to multiply by α; without it the levels are -1, 0 and 1.
        per_channel: Whether Δ and α are those of an output channel where the quantizer is used on
            a layer's kernel, instead of the whole tensor's.
        delta: Δ itself, instead of `threshold`.
        clip_value: Largest magnitude that gets a gradient; `None` for all.

    Example:

    >>> import numpy as np, tfcomp
    >>> np.array(tfcomp.quantizers.Ternary()(np.array([1.0, -0.5, 0.1, 0.0], "float32")))
    array([ 0.75, -0.75,  0.  ,  0.  ], dtype=float32)
    """

    bits = 2

    def __init__(self, threshold=0.7, scale=True, per_channel=False, delta=None, clip_value=None):
        check_number("threshold", threshold, above=0)
        for name, value in (("delta", delta), ("clip_value", clip_value)):
            if value is not None:
                check_number(name, value, above=0)
        self.delta, self.clip_value = delta, clip_value
        self.threshold = threshold
        self.scale = bool(scale)
        self.per_channel = bool(per_channel)

    @property
    def levels(self):
        return None if self.scale else (-1.0, 0.0, 1.0)

    def for_kernel(self, axis):
        copy = Ternary(**self.get_config())
        copy.axis = tuple(axis) if self.per_channel else None
        return copy

    def quantize(self, inputs):
        return with_gradient(inputs, self._levels, lambda x, g: g * inside(x, self.clip_value))

    def _levels(self, inputs):
        axes = other_axes(inputs, self.axis)
        magnitude = ops.abs(inputs)
        delta = self.delta
        if delta is None:
            delta = self.threshold * ops.mean(magnitude, axis=axes, keepdims=True)
        above = ops.cast(ops.greater(magnitude, delta), inputs.dtype)
        levels = ops.sign(inputs) * above
        if self.scale:
            total = ops.sum(magnitude * above, axis=axes, keepdims=True)
            count = ops.sum(above, axis=axes, keepdims=True)
            levels = levels * (total / ops.maximum(count, ops.ones_like(count)))
        return levels

    def get_config(self):
        return {
            "threshold": self.threshold,
            "scale": self.scale,
            "per_channel": self.per_channel,
            "delta": self.delta,
            "clip_value": self.clip_value,
        }


alias("ste_tern", lambda: Ternary(scale=False, delta=0.05, clip_value=1.0))
