"""Pruning that can be taken back: what is masked trains on out of sight."""

import keras
import numpy as np

from tfcomp.core.mask import Mask

# Steps of the golden ratio fill [0, 1) evenly, and look the same on every backend and replica.
_GOLDEN = 0.6180339887498949


class Splice(Mask):
    """Prunes and revives weights by two thresholds on the values they would have without a mask.

    The variable is `latent * mask`. Its gradient moves `latent` everywhere, masked or not. All
    takes place inside the compiled step.

    State: `mask`; `latent`, the unmasked weights; `low` and `high`, the thresholds; `iteration`,
    the steps seen while active; `draw`, the number the next decision is made by; `active`, whether
    masks may change at all.

    Args:
        c: Standard deviations over the mean magnitude at which the thresholds are centred.
        gamma: Masks change with probability `(1 + gamma * iteration) ** -power` in a step.
        power: See `gamma`.
        begin_step: Iteration at which masks begin to change.
        end_step: Iteration at which they cease to, or `None`.
        slack: The thresholds lie this fraction below and above the centre.
    """

    def __init__(self, c, gamma, power, begin_step, end_step, slack):
        self.c, self.gamma, self.power = c, gamma, power
        self.begin_step, self.end_step = begin_step, end_step
        self.slack = slack

    def init(self, value):
        scalar = np.zeros((), np.float32)
        return {
            **super().init(value),
            "latent": np.array(value),
            "low": scalar,
            "high": scalar,
            "iteration": np.zeros((), np.int32),
            "draw": scalar,
            "active": np.zeros((), bool),
        }

    def adopt(self, value, state):
        low, high = self.thresholds(value)
        return {
            **super().adopt(value, {"mask": state["mask"]}),
            "latent": np.array(value),
            "low": np.float32(low),
            "high": np.float32(high),
            "iteration": np.zeros((), np.int32),
            "draw": np.zeros((), np.float32),
            "active": state["active"],
        }

    def thresholds(self, value):
        """Returns `(a, b)` from the magnitudes of the weights that are not zero."""
        magnitudes = np.abs(value[value != 0].astype(np.float64))
        if not magnitudes.size:
            return 0.0, 0.0
        centre = max(magnitudes.mean() + self.c * magnitudes.std(), 0.0)
        return (1 - self.slack) * centre, (1 + self.slack) * centre

    def __call__(self, value, state):
        ops = keras.ops
        mask, active, iteration = state["mask"], state["active"], state["iteration"]
        # The optimizer has seen zeros where weights are masked, so `value` is their change.
        latent = ops.where(mask, value, state["latent"] + value)
        chance = (1.0 + self.gamma * ops.cast(iteration, "float32")) ** -self.power
        due = ops.logical_and(active, state["draw"] < chance)
        due = ops.logical_and(due, iteration >= self.begin_step)
        if self.end_step is not None:
            due = ops.logical_and(due, iteration < self.end_step)
        size = ops.cast(ops.abs(latent), "float32")
        # Between the thresholds a weight keeps its mask.
        keep = ops.logical_and(mask, size >= state["low"])
        new_mask = ops.where(due, ops.logical_or(keep, size >= state["high"]), mask)
        new = {
            **state,
            "mask": new_mask,
            "latent": latent,
            "iteration": iteration + ops.cast(active, "int32"),
            "draw": ops.where(active, (state["draw"] + _GOLDEN) % 1.0, state["draw"]),
        }
        return ops.where(new_mask, latent, 0.0), new
