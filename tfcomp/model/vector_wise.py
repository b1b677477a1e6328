"""The vector-wise pattern: groups of outputs, in any order, that keep the same inputs.

Guyue Huang et al., "Shfl-BW: Accelerating Deep Neural Network Inference with Tensor-Core Aware
Weight Pruning", arXiv:2203.05016; Yijun Tan et al., "Accelerating Sparse Convolution with Column
Vector-Wise Sparsity", NeurIPS 2022.
"""

from typing import NamedTuple

import numpy as np

from tfcomp.model.axes import as_matrix
from tfcomp.model.patterns import Blocks, count
from tfcomp.validation import check_integer

# Iterations to find the direction in which outputs differ most.
_POWER = 15
# Rounds of exchanges at most, and outputs of a group that are tried in one.
_ROUNDS, _TRIED = 30, 6
# A round that gains less, of what is kept, is the last.
_WORTH = 2e-4


class Vectors(Blocks):
    """What one input has for the outputs of one group: a block of one row, outputs in any order.

    Args:
        size: Outputs in a group; the last group may be smaller.
        pooling: See `Blocks`.
        order: Integer array, the outputs group by group; `None` for the order they have.
        is_new: Whether the groups are others than those of the mask so far.

    Raises:
        ValueError: If the size is not a positive integer, or the pooling is unknown.
    """

    argument = "vector_size"

    def __init__(self, size, pooling="rms", order=None, is_new=False):
        self.size = check_integer("vector_size", size, 1)
        super().__init__((1, self.size), pooling)
        self.order, self.is_new = slice(None) if order is None else order, is_new

    def renewed(self, scores, alive, amount):
        """The same in groups that are made anew.

        Args:
            scores: Array `(inputs, outputs)` of floats that are not negative.
            alive: Boolean array, the mask so far.
            amount: Fraction of the vectors that is not kept in the end: what is kept until then
                only has no say.
        """
        begin = None if alive.all() else self.order
        order = grouped(self.worth(scores * alive), self.size, amount, begin)
        return Vectors(self.size, self.pooling, order, is_new=True)

    def units(self, scores, alive):
        """Scores of the vectors, shape `(inputs, groups)`; -1 for dead ones."""
        return super().units(scores[:, self.order], alive[:, self.order])

    def expand(self, kept, shape):
        """Mask over the weights from a choice of vectors."""
        mask = np.empty(shape, bool)
        mask[:, self.order] = super().expand(kept, shape)
        return mask


class Outputs(NamedTuple):
    """Where the outputs of a weight lie.

    Attributes:
        axes: Tuple of negative axes.
        parts: How many matrices, side by side, the weight consists of.
    """

    axes: tuple
    parts: int

    def order(self, mask):
        """The outputs of each part, those that keep the same inputs beside each other.

        Of what many have in common comes first, so that a smaller group is the last.
        """
        parts = np.split(as_matrix(mask, self.axes), self.parts, axis=-1)
        return np.concatenate([_alike(part) for part in parts]).astype(np.int32)


def _alike(mask):
    _, kinds, counts = np.unique(
        np.packbits(mask, axis=0), axis=1, return_inverse=True, return_counts=True
    )
    kinds = kinds.ravel()
    return np.lexsort((kinds, -counts[kinds]))


def grouped(scores, size, amount, order=None):
    """Groups the outputs of a matrix so that vectors of large scores can be kept.

    A vector is what one input has for the outputs of one group. What is kept are the vectors of
    largest mean; the order is one for which the sum of their scores is large. Outputs are first
    halved, again and again, by the direction in which their scores differ most; then pairs of
    groups exchange outputs where that gains. The result depends on nothing but the arguments.

    Args:
        scores: Array of floats that are not negative, of shape `(inputs, outputs)`.
        size: Outputs in a group; the last group has fewer where it does not divide them.
        amount: Fraction of vectors that are not kept, in [0, 1].
        order: Integer array, an order to begin with instead of that of halving.

    Returns:
        int32 array: outputs, each once, the first `size` of which are the first group.
    """
    outputs = np.ascontiguousarray(scores.T, np.float32)
    groups = -(-len(outputs) // size)
    if groups == 1:
        return np.arange(len(outputs), dtype=np.int32)
    order = _halved(outputs, size, np.arange(len(outputs)), groups) if order is None else order
    return _exchanged(outputs, np.array(order), size, amount).astype(np.int32)


def _halved(outputs, size, chosen, groups):
    """The chosen outputs in the order of groups: those of the first half of them, then the rest."""
    if groups == 1:
        return np.sort(chosen)
    place = np.argsort(_direction(outputs[chosen]), kind="stable")
    cut = groups // 2 * size
    parts = (chosen[place[:cut]], groups // 2), (chosen[place[cut:]], groups - groups // 2)
    return np.concatenate([_halved(outputs, size, *part) for part in parts])


def _direction(rows):
    """Where each row lies along the direction in which rows differ most."""
    rows = rows - rows.mean(axis=0)
    found = np.random.default_rng(0).standard_normal(len(rows)).astype(rows.dtype)
    for _ in range(_POWER):
        found = rows @ (rows.T @ found)
        found /= max(np.linalg.norm(found), np.finfo(rows.dtype).tiny)
    return found


class _Groups:
    """Outputs in groups, and the sums of their scores.

    Attributes:
        sums: Array `(groups, inputs)`.
        least: Array `(groups, 1)`: the sums from which on a vector is kept.
    """

    def __init__(self, outputs, order, size, amount):
        self.outputs, self.order, self.size, self.amount = outputs, order, size, amount
        self.starts = np.arange(0, len(order), size)
        self.counts = np.diff(self.starts, append=len(order))[:, None].astype(outputs.dtype)
        self.sums = np.add.reduceat(outputs[order], self.starts, axis=0)
        self.look()

    def look(self):
        """Finds from which sums on vectors are kept; returns the sum of these."""
        means = (self.sums / self.counts).ravel()
        pruned = min(count(self.amount, means.size), means.size - 1)
        self.least = np.partition(means, pruned)[pruned] * self.counts
        return self.sums.sum(where=self.sums >= self.least, dtype=np.float64)

    def wishes(self):
        """How much more would be kept of each output in each group: `(outputs, groups)`.

        Outputs are in the order of groups. In its own an output has a say in what is kept, so that
        counts which the others would keep without it.
        """
        outputs = self.outputs[self.order]
        found = outputs @ (self.sums >= self.least).T.astype(outputs.dtype)
        for group, start in enumerate(self.starts):
            members = outputs[start : start + self.size]
            left = self.counts[group] - 1
            wanted = self.sums[group] - members >= self.least[group] * left / (left + 1)
            own = np.sum(members * wanted, axis=1)
            found[start : start + self.size] -= own[:, None]
            found[start : start + self.size, group] = -np.inf
        return found

    def exchange(self, wishes, pair):
        """Exchanges outputs of two groups as long as that gains; returns whether any was."""
        (g, g_tried), (h, h_tried) = (
            (group, self._most_wishing(wishes, group, other)) for group, other in (pair, pair[::-1])
        )
        found = False
        while g_tried.size and h_tried.size:
            rows, others = (self.outputs[self.order[tried]] for tried in (g_tried, h_tried))
            moved = others[None] - rows[:, None]
            gains = self._gain(g, moved) + self._gain(h, -moved)
            a, b = np.unravel_index(np.argmax(gains), gains.shape)
            if gains[a, b] <= 1e-6 * self.least[g]:
                break
            self.sums[g] += moved[a, b]
            self.sums[h] -= moved[a, b]
            swapped = [g_tried[a], h_tried[b]]
            self.order[swapped] = self.order[swapped[::-1]]
            g_tried, h_tried, found = np.delete(g_tried, a), np.delete(h_tried, b), True
        return found

    def _most_wishing(self, wishes, group, other):
        start = self.starts[group]
        members = wishes[start : start + self.size, other]
        return start + np.argsort(-members, kind="stable")[:_TRIED]

    def _gain(self, group, moved):
        sums, least = self.sums[group], self.least[group]
        return np.maximum(sums + moved - least, 0).sum(-1) - np.maximum(sums - least, 0).sum()


def _exchanged(outputs, order, size, amount):
    groups = _Groups(outputs, order, size, amount)
    kept = groups.look()
    for _ in range(_ROUNDS):
        wishes = groups.wishes()
        best = np.maximum.reduceat(wishes, groups.starts, axis=0)
        for pair in _pairs(best + best.T):
            groups.exchange(wishes, pair)
        before, kept = kept, groups.look()
        if kept <= before * (1 + _WORTH):
            break
    return groups.order


def _pairs(gains):
    """Pairs of groups, each group in one at most, those of largest gain first."""
    rows, columns = np.triu_indices(len(gains), 1)
    worth = gains[rows, columns]
    free = np.ones(len(gains), bool)
    for place in np.argsort(-worth, kind="stable")[: np.count_nonzero(worth > 0)]:
        g, h = rows[place], columns[place]
        if free[g] and free[h]:
            free[[g, h]] = False
            yield g, h
