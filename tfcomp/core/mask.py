"""Pruning by a mask: what is pruned is zero after every update, and its gradient is zero, too."""

import keras
import numpy as np

from tfcomp.core.projection import Projection, check_weights, is_rows


class Mask(Projection):
    """Keeps masked weights at zero; which ones those are, somebody else decides.

    The optimizer sees their gradients as zero, as it would if the model multiplied by the mask.

    State: `mask`, boolean, true where a weight is alive; where outputs are pruned in groups also
    `order`, integers: the outputs, group by group.

    Args:
        outputs: `None`, or where the outputs are that are pruned in groups, an object whose
            `order(mask)` finds the groups of a mask.
    """

    kind = "mask"
    order = 1
    takes_rows = True
    outputs = None

    def __init__(self, outputs=None):
        self.outputs = outputs

    def init(self, value):
        return self._state(np.ones(value.shape, bool))

    def _state(self, mask):
        groups = {} if self.outputs is None else {"order": self.outputs.order(mask)}
        return {"mask": mask, **groups}

    def adopt(self, value, state):
        """Takes exact zeros for pruned weights, unless all are: nothing is trained yet then."""
        alive = value != 0
        return {**state, **self._state(state["mask"] & alive)} if alive.any() else state

    def before(self, gradient, value, state):
        return where(state["mask"], gradient), value, state

    def after(self, value, state):
        return where(state["mask"], value), state


def where(mask, tensor):
    """A tensor, or a gradient of rows, that is zero where a mask is false."""
    if is_rows(tensor):
        rows = keras.ops.take(mask, tensor.indices, axis=0)
        return type(tensor)(where(rows, tensor.values), tensor.indices, tensor.dense_shape)
    return keras.ops.where(mask, tensor, 0.0)


def magnitude(path, value):
    """The score of magnitude pruning, `|w|`, in at least single precision."""
    check_weights(path, value)
    return np.abs(value.astype(np.promote_types(value.dtype, np.float32), copy=False))
