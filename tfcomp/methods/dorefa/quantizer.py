"""Low-bit weights, activations and gradients.

Shuchang Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low
Bitwidth Gradients", arXiv:1606.06160.
"""

from keras import ops

from tfcomp.quantizers.base import Quantizer, alias, check_bits, register, widened, with_gradient
from tfcomp.quantizers.sign_slopes import sign
from tfcomp.validation import invalid


def to_grid(inputs, bits):
    """Rounds numbers in [0, 1] to the `2**bits` multiples of `1 / (2**bits - 1)`."""
    steps = 2.0**bits - 1
    return ops.round(inputs * steps) / steps


@register("dorefa")
class DoReFa(Quantizer):
    """`k`-bit weights in [-1, 1], or `k`-bit activations in [0, 1].

    With `quantize_k(r) = round((2**k - 1) r) / (2**k - 1)`:

    * weights of one bit are `mean |w| * sign(w)`, one mean for the tensor, with the gradient of
      the identity; of more bits `2 quantize_k(tanh(w) / (2 max |tanh w|) + 1/2) - 1`, with the
      gradient of what stands inside, its maximum included;
    * activations are `quantize_k(clip(x, 0, 1))`, with the gradient 1 where `0 <= x <= 1`.

    32 bits stand for no quantization. `"dorefa_activations"` stands for
    `DoReFa(mode="activations")`.

    Args:
        bits: `k`, 1 to 8, or 32.
        mode: `"weights"` or `"activations"`.

    Example:

    >>> import numpy as np, tfcomp
    >>> activations = tfcomp.quantizers.DoReFa(2, mode="activations")
    >>> np.array(activations(np.array([-1.0, 0.2, 0.6, 3.0], "float32"))).round(4)
    array([0.    , 0.3333, 0.6667, 1.    ], dtype=float32)
    """

    def __init__(self, bits=2, mode="weights"):
        bits = check_bits(bits)
        if mode not in ("weights", "activations"):
            raise invalid("mode", mode, "'weights' or 'activations'")
        self.bits = bits
        self.mode = mode

    @property
    def levels(self):
        if self.bits == 32 or (self.bits == 1 and self.mode == "weights"):
            return None
        steps = 2**self.bits - 1
        if self.mode == "activations":
            return tuple(i / steps for i in range(steps + 1))
        return tuple(2 * i / steps - 1 for i in range(steps + 1))

    def quantize(self, inputs):
        if self.bits == 32:
            return inputs
        if self.mode == "activations":
            return with_gradient(
                inputs,
                lambda x: to_grid(ops.clip(x, 0, 1), self.bits),
                lambda x, g: g * ops.cast(ops.logical_and(x >= 0, x <= 1), x.dtype),
            )
        if self.bits == 1:
            return with_gradient(inputs, lambda x: ops.mean(ops.abs(x)) * sign(x), lambda x, g: g)
        squashed = ops.tanh(widened(inputs))
        largest = ops.max(ops.abs(squashed))
        # A tensor of zeros stands in the middle.
        largest = ops.where(largest > 0, largest, ops.ones_like(largest))
        unit = squashed / (2 * largest) + 0.5
        levels = with_gradient(unit, self._nearest_level, lambda x, g: 2 * g)
        return ops.cast(levels, inputs.dtype)

    def _nearest_level(self, unit):
        # From a table: compilers divide by a constant in ways that differ in the last bit.
        table = ops.convert_to_tensor(self.levels, dtype=unit.dtype)
        index = ops.round(ops.clip(unit, 0, 1) * (2**self.bits - 1))
        return ops.take(table, ops.cast(index, "int32"))

    def get_config(self):
        return {"bits": self.bits, "mode": self.mode}


alias("dorefa_activations", lambda: DoReFa(mode="activations"))
