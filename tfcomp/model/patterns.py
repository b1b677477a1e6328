"""Which weights are pruned together: one by one, in blocks, or m of every n.

A pattern turns the scores of single weights into scores of its units, and a choice of units back
into a mask over the weights. Blocks and groups are those of the weight as a matrix of its inputs by
its outputs, see `tfcomp.model.axes.as_matrix`.
"""

import numpy as np

from tfcomp.validation import invalid

_ALL = 1 << 62


def keep_largest(scores, keep):
    """Chooses exactly `keep` of the scores, the largest; among equals the first ones.

    Args:
        scores: Array of floats, any shape; a negative one is never kept.
        keep: How many to keep, at most as many as are not negative.

    Returns:
        Boolean array of the same shape, true where kept.
    """
    flat = np.ravel(scores)
    if keep <= 0:
        return np.zeros(scores.shape, bool)
    if keep >= flat.size - np.count_nonzero(flat < 0):
        return np.asarray(scores >= 0)
    threshold = _ordered(flat, flat.size - keep)
    kept = flat > threshold
    missing = keep - np.count_nonzero(kept)
    kept[np.flatnonzero(flat == threshold)[:missing]] = True
    return kept.reshape(scores.shape)


def _ordered(flat, place):
    """`np.sort(flat)[place]`, in less than half the time of a partition where there are many."""
    if flat.size < 2**18:
        return np.partition(flat, place)[place]
    # A sample brackets the place, and only what lies between is partitioned.
    sample = np.sort(flat[:: flat.size >> 16])
    rank, margin = place * sample.size // flat.size, sample.size // 64
    low, high = sample[max(rank - margin, 0)], sample[min(rank + margin, sample.size - 1)]
    below = np.count_nonzero(flat < low)
    between = flat[(flat >= low) & (flat <= high)]
    if below <= place < below + between.size:
        return np.partition(between, place - below)[place - below]
    return np.partition(flat, place)[place]


def count(amount, size):
    """How many of `size` units an amount in [0, 1] stands for, halves rounded up."""
    return int(amount * size + 0.5)


class Unstructured:
    """Every weight by itself."""

    def units(self, scores, alive):
        """Scores of the units: those of the weights, -1 for what is pruned; made in place."""
        # Arithmetic with booleans is many times as fast as masked assignment.
        scores *= alive
        scores -= ~alive
        return scores

    def expand(self, kept, shape):
        """Mask over the weights from a choice of units."""
        return kept

    def check_reach(self, path, shape, amount):
        """Does nothing: single weights come to any sparsity, but for the one that is kept."""


class Blocks:
    """Rectangular blocks of a matrix `(inputs, outputs)`.

    Args:
        block_size: `(rows, columns)`; blocks at the edges may be smaller. `None` for either stands
            for all of them, so that `(None, 1)` is all that leads to one output.
        pooling: `"mean"`, `"rms"` (root of the mean square) or `"max"` of the scores in a block.

    Raises:
        ValueError: If a size is not a positive integer, or the pooling is unknown.
    """

    argument = "block_size"

    def __init__(self, block_size, pooling="mean"):
        try:
            # Larger than any weight is as good as all of it.
            rows, columns = (_ALL if size is None else int(size) for size in block_size)
        except (TypeError, ValueError):
            rows = columns = 0
        if rows < 1 or columns < 1:
            raise invalid("block_size", block_size, "a pair of positive integers or None")
        if pooling not in ("mean", "rms", "max"):
            raise invalid("block_pooling", pooling, "'mean', 'rms' or 'max'")
        self.rows, self.columns = rows, columns
        self.pooling = pooling

    def units(self, scores, alive):
        """Scores of the blocks, shape `(block rows, block columns)`; -1 for dead ones."""
        pool = np.maximum if self.pooling == "max" else np.add
        pooled = self._pool(pool, np.where(alive, self.worth(scores), 0))
        if self.pooling != "max":
            pooled = pooled / self._pool(np.add, np.ones_like(scores))
        if self.pooling == "rms":
            pooled = np.sqrt(pooled)
        return np.where(self._pool(np.maximum, alive), pooled, -1)

    def worth(self, scores):
        """What is added up, or the largest is taken of."""
        return scores**2 if self.pooling == "rms" else scores

    def _pool(self, function, matrix):
        rows = np.arange(0, matrix.shape[0], self.rows)
        columns = np.arange(0, matrix.shape[1], self.columns)
        return function.reduceat(function.reduceat(matrix, rows, axis=0), columns, axis=1)

    def expand(self, kept, shape):
        """Mask over the weights from a choice of blocks."""
        rows, columns = shape
        mask = np.repeat(kept, min(self.rows, rows), axis=0)[:rows]
        return np.repeat(mask, min(self.columns, columns), axis=1)[:, :columns]

    def check_reach(self, path, shape, amount):
        """Raises where too few blocks are there to come to a sparsity: one at least is kept."""
        blocks = -(-shape[0] // self.rows) * -(-shape[1] // self.columns)
        if amount and count(amount, blocks) >= blocks:
            raise invalid(
                self.argument,
                (min(self.rows, shape[0]), min(self.columns, shape[1])),
                f"more than the {blocks} blocks that {path} has, a matrix of {shape[0]} inputs by "
                f"{shape[1]} outputs, so that {amount:.0%} of them can be pruned",
            )


class MByN:
    """`m` zeros in every `n` consecutive weights along the inputs of each output.

    Groups run along the inputs, which a matrix product sums over, as sparse tensor cores need it. A
    last group of fewer than `n` weights counts the missing ones as zeros.

    Args:
        m_by_n: The pair `(m, n)`, `(2, 4)` for example.

    Raises:
        ValueError: If it is not a pair of integers with 0 < m < n.
    """

    def __init__(self, m_by_n):
        try:
            m, n = (int(number) for number in m_by_n)
        except (TypeError, ValueError):
            m = n = 0
        if not 0 < m < n:
            raise invalid("m_by_n", m_by_n, "a pair of integers (m, n) with 0 < m < n")
        self.m, self.n = m, n

    def mask(self, scores, alive, amount):
        """Mask with `amount * n` zeros a group, at most `m`: the dead, then the smallest scores."""
        zeros = min(count(amount, self.n), self.m)
        matrix = np.where(alive, scores, -1).T
        groups = -(-matrix.shape[1] // self.n)
        padded = np.full((matrix.shape[0], groups * self.n), -2.0, matrix.dtype)
        padded[:, : matrix.shape[1]] = matrix
        order = np.argsort(padded.reshape(-1, self.n), axis=1, kind="stable")
        kept = np.ones(order.shape, bool)
        np.put_along_axis(kept, order[:, :zeros], False, axis=1)
        return kept.reshape(padded.shape)[:, : matrix.shape[1]].T

    def check_reach(self, path, shape, amount):
        """Raises where an output has fewer than `n` inputs."""
        if shape[0] < self.n:
            raise invalid(
                "m_by_n",
                (self.m, self.n),
                f"groups of at most {shape[0]} weights for {path}, whose outputs have no more "
                "inputs; or leave it out of `targets`",
            )
