"""Incremental quantization to powers of two (INQ).

Aojun Zhou et al., "Incremental Network Quantization", arXiv:1702.03044.
"""

import keras
import numpy as np

from tfcomp.core.projection import Projection
from tfcomp.model.patterns import count, keep_largest
from tfcomp.validation import check_number, invalid

# Share of the weights that may be powers of two, or none, whatever was done to them.
_CHANCE = 0.05


def top_exponent(value, clip=None):
    """`n1 = floor(log2(4 s / 3))` with `s = max |w|`: the exponent of the largest level.

    Args:
        value: Array of floats.
        clip: Bound on `s`, in root mean squares of the weights that are not zero.
    """
    size = np.float64(np.max(np.abs(value), initial=0))
    if clip is not None and size:
        squares = np.sum(value.astype(np.float64) ** 2)
        size = min(size, clip * np.sqrt(squares / np.count_nonzero(value)))
    mantissa, exponent = np.frexp(size)
    return int(exponent) - (0 if mantissa >= 0.75 else 1)


def level_exponents(top, bits):
    """Exponents `n2 ... n1` of the levels; zero is a level, too. One bit is for it and the sign."""
    return range(top + 2 - 2 ** (bits - 2) - 1, top + 1)


def quantize(value, top, bits):
    """Rounds to `{0, ±2**n2, ..., ±2**n1}` by the paper's rule.

    With α < β adjacent levels, `|w|` in `[(α + β) / 2, 3 β / 2)` becomes β; below half of the
    smallest level it becomes zero, and above all intervals the largest level.
    """
    exponents = level_exponents(top, bits)
    mantissa, exponent = np.frexp(value)
    rounded = exponent - np.where(np.abs(mantissa) >= 0.75, 0, 1)
    # The interval of the smallest level begins at half of it, not at three quarters.
    rounded = np.where(rounded == exponents[0] - 1, exponents[0], rounded)
    level = np.ldexp(np.sign(value), np.minimum(rounded, exponents[-1]))
    zero = np.abs(value) < 2.0 ** (exponents[0] - 1)
    return np.where(zero, 0, level).astype(value.dtype)


class PowersOfTwo(Projection):
    """Freezes portions of the weights at powers of two while the others train on.

    State: `fixed`, the frozen weights' values, NaN where a weight is free; `top`, the exponent of
    the largest level, found once from the pretrained weights; `live`, how many weights were not
    pruned before the first portion.

    Args:
        bits: Bits per weight: `2 ** (bits - 2)` magnitudes, their negatives, and zero.
        partition: `"magnitude"` freezes the largest weights first (the paper's pruning-inspired
            strategy), `"random"` any (its baseline).
        seed: Seed of the random partition.
        clip: See `top_exponent`.
    """

    kind = "powers_of_two"

    def __init__(self, bits=5, partition="magnitude", seed=0, clip=None):
        if isinstance(bits, bool) or bits not in range(2, 9):
            raise invalid("bits", bits, "an integer from 2 to 8")
        if partition not in ("magnitude", "random"):
            raise invalid("partition", partition, "'magnitude' or 'random'")
        if clip is not None:
            check_number("clip", clip, above=0)
        if type(seed) is not int or seed < 0:
            raise invalid("seed", seed, "an integer >= 0")
        self.bits = int(bits)
        self.clip = clip
        self.partition = partition
        self.seed = seed

    def init(self, value):
        return {
            "fixed": np.full(value.shape, np.nan, value.dtype),
            "top": np.array(top_exponent(value, self.clip), np.int32),
            "live": np.array(value.size, np.int32),
        }

    def adopt(self, value, state):
        """Takes zeros for pruned, and powers of two for frozen if an earlier run froze them."""
        wide = value.astype(np.promote_types(value.dtype, np.float32), copy=False)
        zero = wide == 0
        live = value.size - np.count_nonzero(zero)
        if not live:
            return state
        fixed = np.where(zero, value, state["fixed"])
        power = ~zero & (np.abs(np.frexp(wide)[0]) == 0.5)
        top = top_exponent(wide, self.clip)
        earlier = self._earlier_top(np.abs(wide), power, live)
        if earlier is not None:
            # The largest weight may be free, still, in a random partition.
            top = earlier if self.partition == "magnitude" else max(top, earlier)
            fixed = np.where(power & (quantize(wide, top, self.bits) == wide), value, fixed)
        return {
            "fixed": fixed,
            "top": np.array(top, np.int32),
            "live": np.array(live, np.int32),
        }

    def _earlier_top(self, size, power, live):
        """The largest exponent that an earlier run has frozen weights at, or `None`.

        Weights that were rounded to few bits for another reason hit powers of two, too: one in 128
        does in bfloat16. But then the largest ones are no powers.
        """
        if np.count_nonzero(power) <= _CHANCE * live:
            return None
        largest = np.max(size[power])
        if self.partition == "magnitude" and np.mean(power[size >= largest]) < 1 - _CHANCE:
            return None
        return int(np.frexp(largest)[1]) - 1

    def __call__(self, value, state):
        fixed = state["fixed"]
        return keras.ops.where(keras.ops.isnan(fixed), value, fixed), state

    def update(self, value, state, amount):
        """Freezes weights until `amount` of those that were not pruned are frozen."""
        wide = value.astype(np.promote_types(value.dtype, np.float32), copy=False)
        free = np.isnan(state["fixed"])
        live = int(state["live"])
        frozen = live - np.count_nonzero(free)
        wanted = count(amount, live) - frozen
        if wanted <= 0:
            return value, state
        if self.partition == "magnitude":
            scores = np.abs(wide)
        else:
            scores = np.random.default_rng([self.seed, frozen]).random(value.shape)
        chosen = keep_largest(np.where(free, scores, -1), wanted)
        quantized = quantize(wide, int(state["top"]), self.bits).astype(value.dtype)
        fixed = np.where(chosen, quantized, state["fixed"])
        return np.where(chosen, quantized, value), {**state, "fixed": fixed}
