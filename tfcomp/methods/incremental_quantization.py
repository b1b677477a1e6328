"""Incremental network quantization.

Aojun Zhou, Anbang Yao, Yiwen Guo, Lin Xu, Yurong Chen, "Incremental Network Quantization: Towards
Lossless CNNs with Low-Precision Weights", arXiv:1702.03044.
"""

import keras
import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.mask import where
from tfcomp.core.options import options_of
from tfcomp.core.projection import Projection
from tfcomp.model.patterns import count, keep_largest
from tfcomp.validation import check_integer, check_number, invalid

# Accumulated portions of the paper's runs, by bits: the fewer bits, the gentler.
PORTIONS = {
    5: (0.5, 0.75, 0.875, 1.0),
    4: (0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
    3: (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    2: (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0),
}

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
    takes_rows = True

    def __init__(self, bits=5, partition="magnitude", seed=0, clip=None):
        if partition not in ("magnitude", "random"):
            raise invalid("partition", partition, "'magnitude' or 'random'")
        if clip is not None:
            check_number("clip", clip, above=0)
        self.bits = check_integer("bits", bits, 2, 8)
        self.clip = clip
        self.partition = partition
        self.seed = check_integer("seed", seed, 0)

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
        # Where others have been set, what was frozen is free again.
        fixed = np.where(zero | (value == state["fixed"]), value, np.nan).astype(value.dtype)
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

    def before(self, gradient, value, state):
        return where(keras.ops.isnan(state["fixed"]), gradient), value, state

    def after(self, value, state):
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


class IncrementalQuantization(ProjectionCallback):
    """Turns weights into zeros and powers of two, one portion after the other.

    Each portion quantizes the largest of the weights that are still free, and from then on they
    never move; the others train on and make up for the error. After the last portion every weight
    is exactly `0` or `±2**n`, with `n` in a range fixed per weight tensor from the pretrained
    weights. Zeros are taken for pruned and stay zero, so quantization follows on pruning. `logs`
    gets `quantized` and `quantized/<path>`, the fraction of frozen weights.

    Start from a trained model, with a learning rate fit for fine-tuning.

    Args:
        bits: Bits per weight, 2 to 8; 5 in the paper. `b` bits give `2 ** (b - 2)` magnitudes.
        portions: Accumulated portions of the weights that are frozen, rising; 1 at the end makes
            all weights quantized. By default the paper's: `(0.5, 0.75, 0.875, 1)` for 5 bits (and
            more), and from 6 of them for 4 bits to 10 for 2 bits.
        steps: Optimizer steps after which they are frozen, one for each. By default the portions
            are spread over the `fit` the callback is given to: the first before its first step,
            the others when an equal part of it has begun, the last before it ends.
        partition: `"magnitude"` freezes the largest weights first, `"random"` any.
        seed: Seed of the random partition.
        clip: Bound on the size that the largest level is made for, in root mean squares of the
            weights. The paper has none: the largest weight decides. With 2 or 3 bits, where a
            tensor has few weights much larger than the rest, all but those would round to zero.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `bits`, `partition` and `clip` can be overridden.
        verbose: 1 to print a line at every portion.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN.

    Reference:
        Aojun Zhou, Anbang Yao, Yiwen Guo, Lin Xu, Yurong Chen, "Incremental Network Quantization:
        Towards Lossless CNNs with Low-Precision Weights", arXiv:1702.03044.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.IncrementalQuantization(bits=3)],
    ... )
    >>> mantissa, _ = np.frexp(model.layers[0].kernel.numpy())
    >>> sorted(set(np.abs(mantissa).ravel().tolist()) - {0.0})
    [0.5]
    """

    overrides = ("bits", "partition", "clip")
    measures = "quantized"
    fits_run = True

    def __init__(
        self,
        bits=5,
        portions=None,
        steps=None,
        partition="magnitude",
        seed=0,
        clip=None,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, optimizer=optimizer, verbose=verbose)
        self.portions = None if portions is None else schedules.check_portions(portions)
        self.bits, self.partition, self.clip, self.seed = bits, partition, clip, seed
        self._powers_of_two({})
        self._fixed = None
        if steps is not None:
            self._fixed = schedules.StepPortions(steps, self._portions_of(bits))
        self.steps = self._fixed and self._fixed.steps
        self._spread = {}

    def _powers_of_two(self, options):
        return PowersOfTwo(**options_of(self, options), seed=self.seed)

    def make_projection(self, target):
        return self._powers_of_two(target.options)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._spread = {}

    def _portions_of(self, bits):
        return self.portions or PORTIONS[min(bits, max(PORTIONS))]

    def make_schedule(self, target, run):
        if self._fixed is not None:
            return self._fixed
        portions = self._portions_of(target.options.get("bits", self.bits))
        if portions not in self._spread:
            self._spread[portions] = run.spread(portions, "portion")
        return self._spread[portions]

    def measure(self, value, state):
        return np.mean(~np.isnan(state["fixed"]))
