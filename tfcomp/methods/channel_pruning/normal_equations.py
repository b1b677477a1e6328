"""Which channels to keep, and which weights make up best for those gone, in Gram form.

A layer that reads channels computes `X @ W`, with some columns of `X` for each channel, one for
each place of its window. All there is to know is `X.T @ X`, `X.T @ Y` and `|Y|**2`, where `Y` is
what the layer computed in the whole model; of several layers that read the same channels these add
up.

Yihui He, Xiangyu Zhang, Jian Sun, "Channel Pruning for Accelerating Very Deep Neural Networks",
arXiv:1707.06168. Babak Hassibi, David G. Stork, "Second order derivatives for network pruning:
Optimal Brain Surgeon", NIPS 1992, here for blocks of weights.
"""

import numpy as np

_LEAST_DAMPING = 1e-9


class NormalEquations:
    """The least-squares problem of one layer that reads channels.

    Args:
        gram: Array `(inputs, inputs)`, `X.T @ X`.
        moment: Array `(inputs, outputs)`, `X.T @ Y`.
        power: `|Y|**2`.
        weight: Array `(inputs, outputs)`, the weights as they are; what the data do not tell stays
            near them.
        owners: Array `(inputs,)`, the channel that an input belongs to, -1 for those that are no
            channels of the group.
        alive: Boolean array `(inputs,)`, false for inputs that are gone already.
        damping: Fraction of the mean of the diagonal of `gram` by which weights are held.
    """

    def __init__(self, gram, moment, power, weight, owners, alive, damping):
        # Never nothing: inputs may be copies of each other, or always zero.
        hold = max(damping, _LEAST_DAMPING) * float(np.mean(np.diagonal(gram))) or 1.0
        self.gram = gram + hold * np.eye(len(gram))
        self.moment = moment + hold * weight
        self.weight, self.owners, self.alive = weight, owners, alive
        # Of what is minimized, that is, with what the holding costs.
        self.power = power + hold * float(np.sum(weight**2))

    def refit(self, alive):
        """The weights on some inputs that are nearest to what the layer computed.

        Args:
            alive: Boolean array `(inputs,)`.
        """
        new = np.zeros_like(self.weight)
        if alive.any():
            new[alive] = np.linalg.solve(self.gram[np.ix_(alive, alive)], self.moment[alive])
        return new

    def error(self, weight):
        """`|Y - X W|**2 / |Y|**2` of some weights."""
        loss = self.power + np.sum(weight * (self.gram @ weight - 2 * self.moment))
        return max(float(loss / self.power), 0.0) if self.power else 0.0


class Quotas:
    """How many channels may still go.

    Args:
        cells: Integer array `(channels,)`, the cell of each channel.
        kept: Array with the number of channels to keep of each cell.
    """

    def __init__(self, cells, kept):
        self.cells = cells
        self.left = np.bincount(cells, minlength=len(kept)) - kept

    def open(self):
        """Boolean array, which channels may go."""
        return self.left[self.cells] > 0

    def take(self, channel):
        """Notes that a channel goes."""
        self.left[self.cells[channel]] -= 1


def block_obs(problems, quotas):
    """Chooses the channels to keep: those go that cost least when all others are refitted.

    One at a time; the inverse Hessians are brought up to date every time.

    Args:
        problems: List of `NormalEquations`.
        quotas: `Quotas`.

    Returns:
        Boolean array `(channels,)`, true where a channel is kept.
    """
    kept = np.ones(len(quotas.cells), bool)
    states = [_Elimination(problem) for problem in problems]
    while (free := kept & quotas.open()).any():
        cost = np.where(free, sum(state.costs(len(kept)) for state in states), np.inf)
        channel = int(np.argmin(cost))
        kept[channel] = False
        quotas.take(channel)
        for state in states:
            state.remove(channel)
    return kept


class _Elimination:
    """The inverse Hessian and the best weights on the inputs that are left."""

    def __init__(self, problem):
        self.inputs = np.flatnonzero(problem.alive)
        owners = problem.owners[self.inputs]
        self.inverse = np.linalg.inv(problem.gram[np.ix_(self.inputs, self.inputs)])
        self.weight = self.inverse @ problem.moment[self.inputs]
        # Channels with as many inputs each are looked at together.
        sizes = np.bincount(owners[owners >= 0])
        self.blocks = {int(c): np.flatnonzero(owners == c) for c in np.flatnonzero(sizes)}

    def costs(self, channels):
        total = np.zeros(channels)
        by_size = {}
        for channel, rows in self.blocks.items():
            by_size.setdefault(len(rows), []).append(channel)
        for members in by_size.values():
            rows = np.stack([self.blocks[channel] for channel in members])
            pivots = self.inverse[rows[:, :, None], rows[:, None, :]]
            weights = self.weight[rows]
            total[members] = np.sum(weights * np.linalg.solve(pivots, weights), axis=(1, 2))
        return total

    def remove(self, channel):
        rows = self.blocks.pop(channel, None)
        if rows is None:
            return
        across = self.inverse[:, rows]
        part = np.linalg.solve(across[rows], np.concatenate([across.T, self.weight[rows]], axis=1))
        size = len(self.inverse)
        self.weight -= across @ part[:, size:]
        self.inverse -= across @ part[:, :size]


def lasso(problems, quotas):
    """Chooses the channels to keep by the path of the lasso on one scale for each channel.

    With `Z_i` what channel `i` adds to the outputs, `min |Y - sum_i beta_i Z_i|**2` is a problem of
    as many unknowns as channels, exact over all outputs. Channels are kept in the order in which
    least angle regression takes them up, exactly as many as are wanted.

    Args:
        problems: List of `NormalEquations`.
        quotas: `Quotas`.

    Returns:
        Boolean array `(channels,)`, true where a channel is kept.
    """
    from sklearn.linear_model import lars_path_gram

    channels = len(quotas.cells)
    gram, moment = np.zeros((channels, channels)), np.zeros(channels)
    for problem in problems:
        own = np.flatnonzero((problem.owners >= 0) & problem.alive)
        owners, weight = problem.owners[own], problem.weight[own]
        # What the channels of other groups add stays as it is.
        others = np.flatnonzero((problem.owners < 0) & problem.alive)
        rest = problem.moment[own] - problem.gram[np.ix_(own, others)] @ problem.weight[others]
        moment += np.bincount(owners, np.sum(rest * weight, axis=1), channels)
        pairs = problem.gram[np.ix_(own, own)] * (weight @ weight.T)
        sums = np.zeros((channels, len(own)))
        np.add.at(sums, owners, pairs)
        gram += np.stack([np.bincount(owners, row, channels) for row in sums])
    _, active, _ = lars_path_gram(
        Xy=moment, Gram=gram, n_samples=1, method="lar", max_iter=channels, copy_Gram=True
    )
    last = [channel for channel in np.argsort(-np.abs(moment)) if channel not in set(active)]
    kept = np.zeros(channels, bool)
    room = np.bincount(quotas.cells, minlength=len(quotas.left)) - quotas.left
    for channel in [*active, *last]:
        cell = quotas.cells[channel]
        if room[cell] > 0:
            kept[channel], room[cell] = True, room[cell] - 1
    return kept
