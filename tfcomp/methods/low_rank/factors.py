"""Kernels of low rank as chains of smaller kernels.

A kernel has the axes `(*window, inputs, outputs)`, a matrix none of the first. A chain is a list of
kernels, of which each covers some of the window's axes and is 1 wide along the others, so that
their product, `numpy.matmul` with its broadcasting, is the kernel that they stand for, and so are
the layers one behind the other.

Misha Denil et al., "Predicting Parameters in Deep Learning", arXiv:1306.0543 (matrices);
Max Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions",
arXiv:1405.3866 (one axis of the window, then the others);
Xiangyu Zhang et al., "Accelerating Very Deep Convolutional Networks for Classification and
Detection", arXiv:1505.06798 (fewer filters, then 1×1; factors from responses);
Yong-Deok Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power
Mobile Applications", arXiv:1511.06530 (Tucker-2).
"""

import functools

import numpy as np

# So that inputs that are always alike count for nothing.
_LEAST_DAMPING = 1e-6
# How often Tucker's two factors are improved in turn.
_SWEEPS = 3


def product(chain):
    """The kernel that a chain stands for."""
    return functools.reduce(np.matmul, chain)


def covered(method, rank):
    """The axes of a window of so many axes that each kernel of a chain covers."""
    every = tuple(range(rank))
    if method == "tucker":
        return [(), every, ()]
    return [every[:1], every[1:]] if method == "spatial" else [every, ()]


def unfoldings(kernel, method):
    """List of matrices; a rank is how many singular values of each are kept."""
    if method == "tucker":
        sides = (np.moveaxis(kernel, axis, 0) for axis in (-2, -1))
        return [side.reshape(len(side), -1) for side in sides]
    if method == "spatial":
        inputs = kernel.shape[0] * kernel.shape[-2]
        return [np.moveaxis(kernel, -2, 1).reshape(inputs, -1)]
    return [kernel.reshape(-1, kernel.shape[-1])]


def spectrum(matrix):
    """Squared singular values, largest first."""
    small = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    return np.maximum(np.linalg.eigvalsh(small @ small.T)[::-1], 0)


def rank_of(energy, squares):
    """The smallest rank that keeps a share of the sum of squared singular values.

    Args:
        energy: The share, in (0, 1].
        squares: Array whose last axis has the squared singular values, largest first; other axes
            are those of kernels that have their rank in common.
    """
    kept = np.cumsum(squares.reshape(-1, squares.shape[-1]).sum(axis=0))
    # What rounding leaves of zero singular values asks for no rank.
    return 1 + int(np.searchsorted(kept, energy * kept[-1] * (1 - 1e-12)))


def shares(energy, method):
    """What each unfolding has to keep, so that the kernel keeps `energy`.

    The error of a Tucker decomposition is at most the sum of what both sides lose.
    """
    return [(1 + energy) / 2] * 2 if method == "tucker" else [energy]


def chain_of(kernel, method, ranks):
    """The chain of given ranks that is next to a kernel, or nearly so with Tucker's.

    Args:
        kernel: Array `(*window, inputs, outputs)`.
        method: `"svd"`, `"spatial"` or `"tucker"`.
        ranks: One rank, or with `"tucker"` those of inputs and outputs.
    """
    if method == "tucker":
        return _tucker(kernel, *ranks)
    *window, inputs, outputs = kernel.shape
    u, s, v = np.linalg.svd(unfoldings(kernel, method)[0], full_matrices=False)
    (rank,) = ranks
    # Both parts as large as each other: they are trained at one rate.
    scale = np.sqrt(s[:rank])
    first, second = u[:, :rank] * scale, scale[:, None] * v[:rank]
    here, there = covered(method, len(window))
    return [
        first.reshape(*_covering(window, here), inputs, rank),
        _filters_first(second, _covering(window, there), outputs),
    ]


def _covering(window, axes):
    return [size if axis in axes else 1 for axis, size in enumerate(window)]


def _filters_first(matrix, window, outputs):
    """A kernel of `(rank, window × outputs)`."""
    return np.moveaxis(matrix.reshape(-1, *window, outputs), 0, -2)


def _leading(matrix, rank):
    """The first so many left singular vectors."""
    return np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1][:, :rank]


def _tucker(kernel, inputs, outputs):
    """Higher-order SVD of inputs and outputs, then higher-order orthogonal iteration."""
    left, right = (
        _leading(side, rank) for side, rank in zip(unfoldings(kernel, "tucker"), (inputs, outputs))
    )
    for _ in range(_SWEEPS):
        left = _leading(unfoldings(kernel @ right, "tucker")[0], inputs)
        right = _leading(unfoldings(left.T @ kernel, "tucker")[1], outputs)
    ones = (1,) * (kernel.ndim - 2)
    core = left.T @ kernel @ right
    return [left.reshape(*ones, *left.shape), core, right.T.reshape(*ones, *right.T.shape)]


def _nearest(gram, cross, start, damping):
    """The `w` of the least error on data, and `start` in directions that data say nothing of."""
    added = max(damping, _LEAST_DAMPING) * np.trace(gram) / len(gram) or 1.0
    return start + np.linalg.solve(gram + added * np.eye(len(gram)), cross - gram @ start)


def _design(kernel, window):
    """Matrix from a last kernel of a chain, as a column for each output, to the whole kernel.

    Args:
        kernel: The product of those before it.
        window: The axes of its window.
    """
    columns = []
    for place in np.ndindex(*window):
        here = np.zeros((*window, 1, 1))
        here[place] = 1
        columns.append((kernel * here).reshape(-1, kernel.shape[-1]))
    return np.concatenate(columns, axis=1)


def fitted(chain, kernel, method, gram, cross, damping=0):
    """A chain of the same ranks that fits data instead of the kernel.

    With `"svd"` it is the best one there is: regression of reduced rank. Of others, the last kernel
    is fitted to what those before it yield.

    Args:
        chain: What `chain_of` returned.
        kernel: The kernel.
        method: As there.
        gram: `X.T @ X` of the layer's inputs.
        cross: `X.T @ Y` of these and of the outputs that are wanted.
        damping: What the diagonal of `gram` is raised by, as a part of its mean.
    """
    first, last = product(chain[:-1]), chain[-1]
    if method == "svd":
        best = _nearest(gram, cross, kernel.reshape(len(gram), -1), damping)
        outputs = np.linalg.eigh(best.T @ gram @ best)[1][:, ::-1][:, : last.shape[-2]]
        first = (best @ outputs).reshape(first.shape)
        last = outputs.T.reshape(last.shape)
    design = _design(first, last.shape[:-2])
    start = last.reshape(-1, last.shape[-1])
    new = _nearest(design.T @ gram @ design, design.T @ cross, start, damping).reshape(last.shape)
    return [first, new] if method == "svd" else [*chain[:-1], new]


def error(kernel, gram, cross, energy):
    """`|Y - X w|**2` of a kernel `w`."""
    matrix = kernel.reshape(len(gram), -1)
    return max(0.0, energy - 2 * np.sum(matrix * cross) + np.sum(matrix * (gram @ matrix)))
