"""Ternary values of a fixed step.

Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.validation import check_number


@register("rounded_ternary")
class RoundedTernary(Quantizer):
    """The nearest of `-step, 0, step`, zero at the half, with the gradient of the identity.

    Args:
        step: The magnitude, a number > 0.

    Raises:
        ValueError: If `step` is not a number > 0.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.RoundedTernary(2.0)
    >>> np.array(q(np.array([0.9, 1.0, -1.1, 7.0], "float32"))).tolist()
    [0.0, 0.0, -2.0, 2.0]
    """

    bits = 2

    def __init__(self, step=1.0):
        check_number("step", step, above=0)
        self.step = float(step)

    @property
    def levels(self):
        return (-self.step, 0.0, self.step)

    def quantize(self, inputs):
        return with_gradient(inputs, self._round, lambda x, g: g)

    def _round(self, x):
        beyond = ops.cast(ops.greater(ops.abs(x), 0.5 * self.step), x.dtype)
        return self.step * ops.sign(x) * beyond

    def get_config(self):
        return {"step": self.step}
