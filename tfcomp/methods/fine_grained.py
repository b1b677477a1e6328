"""Ternary weights with scales for small groups.

Naveen Mellempudi et al., "Ternary Neural Networks with Fine-Grained Quantization",
arXiv:1705.01462.
"""

import math

import numpy as np
from keras import ops

from tfcomp.quantizers.base import Quantizer, register, with_gradient
from tfcomp.quantizers.scales import other_axes
from tfcomp.validation import check_integer


@register("fine_grained_ternary")
class FineGrainedTernary(Quantizer):
    """`α sign(x)` or zero, with a threshold and an α for every `group_size` weights of a filter.

    In each group of consecutive weights the `k` largest magnitudes are kept, and α is their mean;
    `k` is the one that leaves the least squared error: `(sum of the k largest)**2 / k` is maximal.
    The gradient is that of the identity. With one α for both signs, thresholds of their own for
    positive and negative weights would gain nothing: for any α the nearest level of `w` is zero
    where `|w| < α / 2`. So `symmetric=False` gives each sign both, a threshold and an α.

    On a layer's kernel, groups lie along the input channels. Where their number is no multiple of
    `group_size`, groups go on at the next position of the filter, and its last one may be smaller.
    Elsewhere groups lie along the last axis. Applied once to the weights of a trained network it
    is the paper's conversion without training: `tfcomp.quantize` does that for a model.

    Args:
        group_size: Weights in a group, 4 to 64 in the paper.
        symmetric: `False` for a threshold and an α for each sign.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.FineGrainedTernary(2)
    >>> np.array(q(np.array([4.0, 0.5, 1.0, -2.0], "float32"))).tolist()
    [4.0, 0.0, 1.5, -1.5]
    """

    bits = 2

    def __init__(self, group_size=4, symmetric=True):
        self.group_size = check_integer("group_size", group_size, 1)
        self.symmetric = bool(symmetric)

    def for_kernel(self, axis):
        copy = FineGrainedTernary(self.group_size, self.symmetric)
        copy.axis = tuple(axis)
        return copy

    def quantize(self, inputs):
        return with_gradient(inputs, self._levels, lambda x, g: g)

    def _levels(self, x):
        rank = len(x.shape)
        inputs = () if self.axis is None else other_axes(x, self.axis)
        inputs = inputs or (rank - 1,)
        order = [axis for axis in range(rank) if axis not in inputs] + list(inputs)
        moved = ops.transpose(x, order)
        shape = ops.shape(moved)
        # A filter is a row: its positions, and the input channels of each.
        length = math.prod(x.shape[axis] for axis in inputs)
        rows = ops.reshape(moved, (-1, length))
        rest = -length % self.group_size
        if rest:
            rows = ops.pad(rows, [(0, 0), (0, rest)])
        levels = self._best(ops.reshape(rows, (-1, self.group_size)))
        levels = ops.reshape(levels, (-1, length + rest))[:, :length]
        levels = ops.reshape(levels, shape)
        return ops.transpose(levels, np.argsort(order).tolist())

    def _best(self, groups):
        if self.symmetric:
            return best_ternary(groups)
        return best_ternary(ops.relu(groups)) - best_ternary(ops.relu(-groups))

    def get_config(self):
        return {"group_size": self.group_size, "symmetric": self.symmetric}


def best_ternary(groups):
    """The ternary vector with one scale that is nearest to each row in the least squares sense.

    Args:
        groups: Tensor `(rows, size)`.
    """
    size = groups.shape[-1]
    magnitude = ops.abs(groups)
    # Ascending is what all backends sort by.
    order = -ops.sort(-magnitude, axis=-1)
    sums = ops.cumsum(order, axis=-1)
    counts = ops.cast(np.arange(1, size + 1), groups.dtype)
    best = ops.argmax(sums * sums / counts, axis=-1)[:, None]
    alpha = ops.take_along_axis(sums, best, axis=-1) / ops.cast(best + 1, groups.dtype)
    least = ops.take_along_axis(order, best, axis=-1)
    return alpha * ops.sign(groups) * ops.cast(magnitude >= least, groups.dtype)
