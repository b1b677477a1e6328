"""Factors of large positive definite matrices, where there is memory for one of them only.

A symmetric matrix says everything twice. Its factors are made in its upper triangle, block by
block, while its lower one keeps what it was.
"""

import contextlib

import numpy as np

# Rows and columns of a block.
_WIDTH = 512


def _parts(size):
    return [slice(begin, min(begin + _WIDTH, size)) for begin in range(0, size, _WIDTH)]


def _put(matrix, part, values):
    """Sets the upper triangle of a block on the diagonal."""
    upper = np.triu_indices(part.stop - part.start)
    matrix[part, part][upper] = values[upper]


def factorize(matrix):
    """Overwrites the upper triangle by the factor `U` of the matrix, which is `U @ U.T`."""
    parts = _parts(len(matrix))
    for k, own in reversed(list(enumerate(parts))):
        # NumPy reads the lower triangle, which is the upper one from its end.
        corner = np.linalg.cholesky(matrix[own, own][::-1, ::-1])[::-1, ::-1]
        _put(matrix, own, corner)
        above = matrix[: own.start, own]
        above[...] = np.linalg.solve(corner, above.T).T
        for part in parts[:k]:
            row = matrix[part, own]
            matrix[: part.start, part] -= matrix[: part.start, own] @ row.T
            _put(matrix, part, matrix[part, part] - row @ row.T)


def _invert(matrix):
    """Overwrites the upper triangle, a factor, by its inverse."""
    parts = _parts(len(matrix))
    for k, own in enumerate(parts):
        corner = np.linalg.inv(np.triu(matrix[own, own]))
        for part in parts[:k]:
            between = slice(part.stop, own.start)
            column = np.triu(matrix[part, part]) @ matrix[part, own]
            column += matrix[part, between] @ matrix[between, own]
            matrix[part, own] = -column @ corner
        _put(matrix, own, corner)


def _mirror(matrix, diagonal):
    """Makes a matrix symmetric again, by its lower triangle."""
    for own in _parts(len(matrix)):
        matrix[: own.start, own] = matrix[own, : own.start].T
        lower = np.tril(matrix[own, own], -1)
        matrix[own, own] = lower + lower.T
    np.einsum("ii->i", matrix)[...] = diagonal


@contextlib.contextmanager
def inverse_factor(matrix):
    """Context in which the upper triangle is the `R` of the inverse, which is `R.T @ R`.

    Args:
        matrix: Positive definite array of doubles; it is as before when the context is left.
    """
    diagonal = np.diagonal(matrix).copy()
    try:
        factorize(matrix)
        _invert(matrix)
        yield matrix
    finally:
        _mirror(matrix, diagonal)


def solve(matrix, vector):
    """Solves a positive definite system; a large matrix is overwritten."""
    if len(matrix) <= _WIDTH:
        return np.linalg.solve(matrix, vector)
    factorize(matrix)
    parts, found = _parts(len(matrix)), np.array(vector)
    for own in reversed(parts):
        rest = found[own] - matrix[own, own.stop :] @ found[own.stop :]
        found[own] = np.linalg.solve(np.triu(matrix[own, own]), rest)
    for own in parts:
        rest = found[own] - matrix[: own.start, own].T @ found[: own.start]
        found[own] = np.linalg.solve(np.triu(matrix[own, own]).T, rest)
    return found
