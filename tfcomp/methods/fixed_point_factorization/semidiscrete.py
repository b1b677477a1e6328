"""A matrix as a sum of scaled products of ternary vectors, and the full precision behind it.

Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972, on Dianne P. O'Leary
and Shmuel Peleg's semidiscrete decomposition.
"""

from typing import NamedTuple

import numpy as np

# How far a full-precision factor may be from its ternary value: in half precision, too, it rounds
# to that.
_REACH = 0.49


class Semidiscrete(NamedTuple):
    """`W` of shape `(m, n)` as `X diag(d) Yᵀ`.

    Attributes:
        x: Array `(m, k)` of -1, 0 and 1, or near them after `recover`.
        d: Array `(k,)`, not negative.
        y: Array `(n, k)`, as `x`.
    """

    x: np.ndarray
    d: np.ndarray
    y: np.ndarray

    def product(self):
        """Returns `X diag(d) Yᵀ`."""
        return (self.x * self.d) @ self.y.T


def best_support(scores):
    """The ternary vector `x` with the largest `(xᵀ s)² / |x|²`.

    Its `J` non-zeros have the signs of the `J` largest magnitudes, with `J` where
    `(sum of the J largest)² / J` is largest.

    Args:
        scores: Array `s`.

    Returns:
        The vector, and that largest value.
    """
    magnitude = np.abs(scores)
    order = np.argsort(-magnitude)
    gain = np.cumsum(magnitude[order], dtype=np.float64) ** 2 / np.arange(1, len(scores) + 1)
    last = int(np.argmax(gain))
    x = np.zeros_like(scores)
    chosen = order[: last + 1]
    x[chosen] = np.sign(scores[chosen])
    return x, gain[last]


def _times(matrix, vector):
    # One pass over memory either way; BLAS would wake all its threads for each.
    return np.einsum("ij,j->i", matrix, vector)


def _component(residual, y, sweeps, tolerance):
    """`x`, `y` and `(xᵀ R y)² / (|x|² |y|²)`, which no change of `x` or `y` alone makes larger."""
    gain = 0.0
    for _ in range(sweeps):
        x, _ = best_support(_times(residual, y))
        y, reached = best_support(_times(residual.T, x))
        reached /= np.count_nonzero(x)
        if reached <= gain * (1 + tolerance):
            break
        gain = reached
    return x, y, reached


def semidiscrete(matrix, rank, sweeps=20, tolerance=0.01, seed=0, progress=None):
    """Decomposes a matrix greedily into `k` products of ternary vectors.

    Of each component, `x` given `y` and `y` given `x` are found in turn, exactly, by sorting. The
    better is kept of two that start at the unit vector of the largest column of the residual `R`,
    from which blocks are found, and at a random vector drawn near the largest singular one, from
    which dense components are. Then `d = xᵀ R y / (|x|² |y|²)`, and the product leaves `R`.

    Args:
        matrix: Array `(m, n)`.
        rank: `k`; may be more than `m` and `n`.
        sweeps: At most so many turns for each component.
        tolerance: A component is done when a turn explains less than this fraction more.
        seed: Seed of the random vectors.
        progress: Optional function that is called after each component.

    Returns:
        A `Semidiscrete`. Where nothing is left of the residual before `k` components, the others
        are zero.

    Example:

    >>> import numpy as np
    >>> from tfcomp.methods.fixed_point_factorization.semidiscrete import semidiscrete
    >>> found = semidiscrete(np.array([[2.0, -2.0], [0.0, 0.0], [2.0, -2.0]]), rank=1)
    >>> found.d.tolist(), found.y[:, 0].tolist()
    ([2.0], [1.0, -1.0])
    """
    residual = np.array(matrix, np.float32)
    m, n = residual.shape
    x, d, y = np.zeros((m, rank), "f4"), np.zeros(rank, "f4"), np.zeros((n, rank), "f4")
    product = np.empty_like(residual)
    nothing = (np.finfo(np.float32).eps * np.linalg.norm(residual)) ** 2
    rng = np.random.default_rng(seed)
    for k in range(rank):
        columns = np.einsum("ij,ij->j", residual, residual)
        if columns.max() > nothing:
            unit = np.zeros(n, "f4")
            unit[np.argmax(columns)] = 1
            near = _times(residual.T, _times(residual, rng.standard_normal(n, "f4")))
            found = [_component(residual, start, sweeps, tolerance) for start in (unit, near)]
            x[:, k], y[:, k], gain = max(found, key=lambda component: component[-1])
            d[k] = np.sqrt(gain / (np.count_nonzero(x[:, k]) * np.count_nonzero(y[:, k])))
            residual -= np.multiply.outer(d[k] * x[:, k], y[:, k], out=product)
        if progress is not None:
            progress()
    return Semidiscrete(x, d, y)


def recover(matrix, factors, sweeps=10):
    """Full-precision factors that still round to the ternary ones, for fine-tuning to start at.

    Minimizes `|W - X̂ diag(d) Ŷᵀ|²` over all `|X̂ - X| < 1/2` and `|Ŷ - Y| < 1/2`, in turn over `X̂`
    and `Ŷ`, one column after the other, each of them exactly.

    Args:
        matrix: `W`.
        factors: Its `Semidiscrete`.
        sweeps: How often to go over both factors; 0 leaves them as they are.

    Returns:
        A `Semidiscrete` with real `x` and `y`.
    """
    matrix = np.asarray(matrix, np.float32)
    x, d, y = factors
    real_x, real_y = x.T.copy(), y.T.copy()
    for _ in range(sweeps):
        _fit(real_x, x.T, real_y * d[:, None], matrix.T)
        _fit(real_y, y.T, real_x * d[:, None], matrix)
    return Semidiscrete(real_x.T, d, real_y.T)


def _fit(rows, ternary, others, matrix):
    """Minimizes `|M - othersᵀ rows|²` over one row after the other, near its ternary values."""
    gram, target = others @ others.T, others @ matrix
    for k in np.flatnonzero(gram.diagonal()):
        step = (target[k] - gram[k] @ rows) / gram[k, k]
        np.clip(rows[k] + step, ternary[k] - _REACH, ternary[k] + _REACH, out=rows[k])
