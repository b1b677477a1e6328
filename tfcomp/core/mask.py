"""Pruning by a mask: what is pruned is zero after every update."""

import keras
import numpy as np

from tfcomp.core.projection import Projection, check_weights


class Mask(Projection):
    """Keeps masked weights at zero; which ones those are, somebody else decides.

    State: `mask`, boolean, true where a weight is alive.
    """

    kind = "mask"
    order = 1

    def init(self, value):
        return {"mask": np.ones(value.shape, bool)}

    def adopt(self, value, state):
        """Takes exact zeros for pruned weights, unless all are: nothing is trained yet then."""
        alive = value != 0
        return {"mask": state["mask"] & alive} if alive.any() else state

    def __call__(self, value, state):
        return keras.ops.where(state["mask"], value, 0.0), state

    def settle(self, value, state):
        # Many times as fast as np.where. Adding zero turns -0.0 into 0.0.
        value = value * state["mask"]
        value += 0
        return value


def magnitude(path, value):
    """The score of magnitude pruning, `|w|`, in at least single precision."""
    check_weights(path, value)
    return np.abs(value.astype(np.promote_types(value.dtype, np.float32), copy=False))
