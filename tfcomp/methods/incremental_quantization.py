"""Incremental network quantization.

Aojun Zhou, Anbang Yao, Yiwen Guo, Lin Xu, Yurong Chen, "Incremental Network Quantization: Towards
Lossless CNNs with Low-Precision Weights", arXiv:1702.03044.
"""

import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods._power_of_two import PowersOfTwo
from tfcomp.validation import invalid

# Accumulated portions of the paper's runs, by bits: the fewer bits, the gentler.
PORTIONS = {
    5: (0.5, 0.75, 0.875, 1.0),
    4: (0.3, 0.5, 0.8, 0.9, 0.95, 1.0),
    3: (0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    2: (0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1.0),
}


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

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN.

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
    ):
        super().__init__(targets=targets, verbose=verbose)
        self.portions = None if portions is None else schedules.check_portions(portions)
        self._options = {"bits": bits, "partition": partition, "clip": clip}
        self.seed = seed
        PowersOfTwo(**self._options, seed=seed)
        self._fixed = None
        if steps is not None:
            self._fixed = schedules.StepPortions(steps, self._portions_of(bits))
        self._spread = {}

    def make_projection(self, target):
        return PowersOfTwo(**{**self._options, **target.options}, seed=self.seed)

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        self._spread = {}

    def _portions_of(self, bits):
        return self.portions or PORTIONS[min(bits, max(PORTIONS))]

    def make_schedule(self, target, run):
        if self._fixed is not None:
            return self._fixed
        portions = self._portions_of(target.options.get("bits", self._options["bits"]))
        if portions not in self._spread:
            if not run.end:
                raise invalid(
                    "steps",
                    None,
                    "optimizer steps, one for each portion, where the length of an epoch is not "
                    "known (or pass `steps_per_epoch` to `fit`)",
                )
            spread = schedules.StepPortions.spread(portions, run.begin, run.end)
            self._spread[portions] = spread
        return self._spread[portions]

    def measure(self, value, state):
        return np.mean(~np.isnan(state["fixed"]))
