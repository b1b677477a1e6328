"""Optimal brain surgeon on a linear map `x -> x @ w`.

With `H = X.T @ X` the error `|X w - X w'|**2` is exactly quadratic in `w'`, and every column of the
weights has a problem of its own with the same `H`.

Babak Hassibi, David G. Stork, "Second order derivatives for network pruning: Optimal Brain
Surgeon", NIPS 1992. Elias Frantar, Sidak Pal Singh, Dan Alistarh, "Optimal Brain Compression",
arXiv:2208.11580 (all columns of a layer ranked together). Elias Frantar, Dan Alistarh, "SparseGPT",
arXiv:2301.00774 (one order of inputs for all columns).
"""

import contextlib

import numpy as np

from tfcomp.methods.optimal_brain_surgeon import triangles
from tfcomp.model.patterns import count

# Numbers that a batch of inverse Hessians may hold at a time.
_BATCH = 1 << 24
# Rows or columns of weights that are worked on together.
_ROWS = 256


def remove(weight, inverse, index):
    """Removes one weight and lets all others make up for it.

    Args:
        weight: Array `(..., inputs)`.
        inverse: Array `(..., inputs, inputs)`, the inverse Hessian over the weights left.
        index: Integer array `(...)`, the weight to remove.

    Returns:
        The weights left, and the inverse Hessian over them, zero in the removed row and column.
    """
    row = np.take_along_axis(inverse, index[..., None, None], axis=-2)[..., 0, :]
    pivot = np.take_along_axis(row, index[..., None], axis=-1)
    removed = np.take_along_axis(weight, index[..., None], axis=-1)
    weight = weight - removed / pivot * row
    inverse = inverse - row[..., :, None] * (row / pivot)[..., None, :]
    np.put_along_axis(weight, index[..., None], 0, axis=-1)
    np.put_along_axis(inverse, index[..., None, None], 0, axis=-2)
    np.put_along_axis(inverse, index[..., None, None], 0, axis=-1)
    return weight, inverse


@contextlib.contextmanager
def damped(hessian, damping):
    """Context in which a fraction of the mean of the diagonal is added to the diagonal.

    Args:
        hessian: Array `(inputs, inputs)`.
        damping: The fraction.
    """
    diagonal = np.einsum("ii->i", hessian)
    before = diagonal.copy()
    # Inputs that are always zero leave the weights on them without any effect.
    diagonal += damping * diagonal.mean() or 1.0
    try:
        yield hessian
    finally:
        diagonal[...] = before


def greedy(weight, hessian, alive, pruned):
    """Removes weights one by one, each time the one that costs least, compensating every time.

    The cost of a column grows with the third power of its inputs.

    Args:
        weight: Array `(inputs, outputs)`.
        hessian: Positive definite array `(inputs, inputs)`.
        alive: Boolean array like `weight`; what is dead stays dead.
        pruned: How many weights are to be zero, the dead ones included.

    Returns:
        Boolean array like `weight`, true where a weight is kept.
    """
    inputs, outputs = weight.shape
    inverse = np.linalg.inv(hessian)
    order = np.empty((inputs, outputs), np.int64)
    costs = np.empty((inputs, outputs))
    size = max(1, _BATCH // inputs**2)
    for begin in range(0, outputs, size):
        part = slice(begin, begin + size)
        order[:, part], costs[:, part] = _eliminate(weight[:, part].T, inverse, alive[:, part].T)
    # Rounding aside, each removal costs more than the one before; prefixes must stay prefixes.
    costs = np.maximum.accumulate(costs, axis=0)
    first = np.argsort(costs.ravel(), kind="stable")[:pruned]
    chosen = np.zeros(costs.size, bool)
    chosen[first] = True
    kept = np.ones(weight.shape, bool)
    rank, column = np.nonzero(chosen.reshape(costs.shape))
    kept[order[rank, column], column] = False
    return kept


def _eliminate(weight, inverse, alive):
    """Removes all weights of a batch of columns; in which order, and at which cost."""
    columns, inputs = weight.shape
    weight = weight.astype(np.float64)
    inverse = np.repeat(inverse[None], columns, axis=0)
    left = np.ones(weight.shape, bool)
    order, costs = np.empty((inputs, columns), np.int64), np.empty((inputs, columns))
    for step in range(inputs):
        diagonal = np.einsum("cii->ci", inverse)
        cost = np.where(left, weight**2 / np.where(left, diagonal, 1), np.inf)
        cost = np.where(left & ~alive, -1, cost)
        index = np.argmin(cost, axis=1)
        order[step], costs[step] = index, cost[np.arange(columns), index]
        weight, inverse = remove(weight, inverse, index)
        left[np.arange(columns), index] = False
    return order, costs


def sweep(weight, hessian, alive, pruned, block=128, m_by_n=None):
    """Goes once over the inputs in their order, pruning and compensating on those to come.

    The choice is made block by block; the factors of one Cholesky decomposition hold for all
    columns, so the cost is that of a few matrix products.

    Args:
        weight: Array `(inputs, outputs)`.
        hessian: Positive definite array of doubles `(inputs, inputs)`; what repeats in it is used
            to compute in, and is there again afterwards.
        alive: Boolean array like `weight`; what is dead stays dead.
        pruned: How many weights are to be zero, the dead ones included.
        block: Inputs in a block.
        m_by_n: `(m, n)` for `m` zeros in every `n` consecutive inputs of each output.

    Returns:
        The new weights, and a boolean array, true where a weight is kept.
    """
    with triangles.inverse_factor(hessian) as factor:
        return _swept(weight.astype(np.float64), factor, alive, pruned, block, m_by_n)


def _swept(weight, factor, alive, pruned, block, m_by_n):
    # From i on, row i of the factor is that of the inverse Hessian over these inputs, over a root.
    inputs, roots = len(weight), np.diagonal(factor).copy()
    kept = np.array(alive)
    # Spread over the blocks by the weights that are still alive, exact in total.
    done = np.concatenate([[0], np.cumsum(alive.sum(axis=1))])
    more = max(pruned - np.count_nonzero(~alive), 0)
    if m_by_n is not None:
        block = -(-block // m_by_n[1]) * m_by_n[1]
    for begin in range(0, inputs, block):
        end = min(begin + block, inputs)
        errors = np.empty((end - begin, weight.shape[1]))
        if m_by_n is None:
            share = [round(more * int(done[at]) / max(int(done[-1]), 1)) for at in (begin, end)]
            scores = (weight[begin:end] / roots[begin:end, None]) ** 2
            scores[~alive[begin:end]] = np.inf
            _drop_smallest(scores, kept[begin:end], share[1] - share[0])
        for row in range(begin, end):
            if m_by_n is not None and (row - begin) % m_by_n[1] == 0:
                _drop_m_by_n(weight, roots, kept, row, *m_by_n)
            error = np.where(kept[row], 0, weight[row] / roots[row])
            weight[row:end] -= np.outer(factor[row, row:end], error)
            weight[row, ~kept[row]] = 0
            errors[row - begin] = error
        for part in _chunks(end, inputs):
            weight[part] -= factor[begin:end, part].T @ errors
    return weight, kept


def _chunks(begin, end):
    return [slice(at, min(at + _ROWS, end)) for at in range(begin, end, _ROWS)]


def _drop_smallest(scores, kept, number):
    if number > 0:
        kept.flat[np.argpartition(scores, number - 1, axis=None)[:number]] = False


def _drop_m_by_n(weight, roots, kept, row, m, n):
    group = slice(row, row + n)
    scores = np.where(kept[group], (weight[group] / roots[group, None]) ** 2, -1)
    # A last group of fewer inputs counts the missing ones as zeros.
    drop = m - (n - len(scores))
    if drop > 0:
        np.put_along_axis(kept[group], np.argsort(scores, axis=0)[:drop], False, axis=0)


def refit(weight, hessian, kept):
    """The weights on `kept` that make up best for those removed: exact least squares.

    Args:
        weight: Array `(inputs, outputs)`, as it was before pruning.
        hessian: Positive definite array `(inputs, inputs)`.
        kept: Boolean array like `weight`.
    """
    result = np.zeros(weight.shape)
    for column in range(weight.shape[1]):
        on = kept[:, column]
        w = weight[:, column].astype(np.float64)
        if on.any():
            moved = hessian @ np.where(on, 0, w)
            result[on, column] = w[on] + triangles.solve(hessian[np.ix_(on, on)], moved[on])
    return result


def _is_small(inputs, outputs):
    return outputs * inputs**3 <= 2e9


def _is_refitted(kept, outputs):
    return outputs * kept**3 <= 1e12


def needed_bytes(groups, inputs, outputs, sparsity, method="auto"):
    """Bytes that `prune` takes for a layer of several groups, with all of their Hessians."""
    hessian, kept = inputs**2, inputs * (1 - sparsity)
    if method == "greedy" or (method == "auto" and _is_small(inputs, outputs)):
        work = 4 * hessian * min(outputs, max(1, _BATCH // hessian))
    else:
        work = int(kept**2) if _is_refitted(kept, outputs) else 0
    return 8 * (groups * hessian + work + 4 * groups * inputs * outputs)


def prune(weight, hessian, sparsity, method="auto", damping=0.01, block=128, m_by_n=None):
    """Prunes a linear map; exactly `sparsity` of the weights are zero, or more where more were.

    Args:
        weight: Array `(inputs, outputs)`.
        hessian: Array `(inputs, inputs)`, `X.T @ X` over any number of samples.
        sparsity: Float in [0, 1).
        method: `"greedy"`, `"sweep"`, or `"auto"` for the first where it takes seconds.
        damping: See `damped`.
        block: See `sweep`.
        m_by_n: See `sweep`.

    Returns:
        The new weights, of the same dtype, and a boolean array, true where a weight is kept.
    """
    inputs, outputs = weight.shape
    hessian = np.asarray(hessian, np.float64)
    alive = weight != 0
    pruned = count(sparsity, weight.size)
    if method == "auto":
        method = "greedy" if _is_small(inputs, outputs) and m_by_n is None else "sweep"
    with damped(hessian, damping):
        if method == "greedy":
            kept, new = greedy(weight, hessian, alive, max(pruned, np.count_nonzero(~alive))), None
        else:
            new, kept = sweep(weight, hessian, alive, pruned, block, m_by_n)
        if new is None or _is_refitted(kept.sum(axis=0).mean(), outputs):
            new = refit(weight, hessian, kept)
    new *= kept
    return new.astype(weight.dtype), kept


def error(before, after, hessian):
    """`|X w - X w'|**2 / |X w|**2`."""
    error = whole = 0.0
    for part in _chunks(0, before.shape[1]):
        weight = before[:, part].astype(np.float64)
        change = after[:, part] - weight
        whole += np.sum(weight * (hessian @ weight))
        error += np.sum(change * (hessian @ change))
    return float(error / whole) if whole > 0 else 0.0
