"""Pruning by what a weight has done for the loss since training began."""

import keras
import numpy as np

from tfcomp.core.mask import Mask


class SensitivityMask(Mask):
    """A mask, and the sum of `-gradient * change` of every weight.

    State: `mask`; `initial`, the values before the first step; `gain`, the sums.
    """

    needs_gradient = True

    def init(self, value):
        gain = np.zeros(value.shape, np.promote_types(value.dtype, np.float32))
        return {**super().init(value), "initial": np.array(value), "gain": gain}

    def adopt(self, value, state):
        return {**state, **super().adopt(value, {"mask": state["mask"]}), "initial": value}

    def observe(self, before, gradient, value, state):
        gained = keras.ops.cast(gradient * (before - value), state["gain"].dtype)
        # Where a step is left out for an overflow nothing is gained either.
        return {**state, "gain": state["gain"] + gained}

    def scores(self, value, state):
        """Karnin's sensitivity: an estimate of how the loss rises without a weight."""
        value = value.astype(state["gain"].dtype)
        change = value - state["initial"]
        # A weight that came back to where it was leaves the estimate undefined.
        least = 1e-6 * max(np.abs(value).max(), np.finfo(value.dtype).tiny)
        change = np.where(np.abs(change) < least, np.copysign(least, change), change)
        return state["gain"] * value / change
