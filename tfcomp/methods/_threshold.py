"""Pruning below a threshold in standard deviations."""

import numpy as np

from tfcomp.core.mask import Mask, magnitude


class ThresholdMask(Mask):
    """A mask over the weights that are not below a threshold.

    State: `mask`; `deviation`, the standard deviation of the weight when pruning began; `done`,
    the amount it was last pruned to.

    Args:
        path: Path of the weight, for error messages.
        quality: The threshold in standard deviations, at an amount of 1.
    """

    def __init__(self, path, quality):
        self.path, self.quality = path, quality

    def init(self, value):
        zero = np.zeros((), np.float32)
        return {**super().init(value), "deviation": zero, "done": zero}

    def adopt(self, value, state):
        deviation = np.float32(np.std(value.astype(np.float64)))
        mask = super().adopt(value, {"mask": state["mask"]})
        return {**mask, "deviation": deviation, "done": np.float32(0)}

    def update(self, value, state, amount):
        if np.float32(amount) <= state["done"]:
            # A resumed run comes by its last round again: what has shrunk since is to stay.
            return value, state
        size = magnitude(self.path, value)
        mask = state["mask"] & (size >= amount * self.quality * state["deviation"])
        # A weight without a single connection would cut the network in two.
        mask.flat[np.argmax(size)] = True
        new = {**state, "mask": mask, "done": np.float32(amount)}
        return self.settle(value, new), new
