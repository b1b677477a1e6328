"""Weights that are integers, times one scale for each output."""

import numpy as np

# Two units in the last place of single precision, beside the largest value.
_ROUNDING = 2.0**-22
_SAMPLE = 16


def integers(matrix, most):
    """Finds the integers that the values of each column are multiples of one number by.

    Args:
        matrix: float32 array of shape `(inputs, outputs)`.
        most: The largest magnitude that an integer may have.

    Returns:
        int16 array of the shape of the matrix, and float32 array, the scale of each column; the
        integers of a column are as small as they can be. `None` if there are no such.
    """
    largest = np.abs(matrix).max(axis=0, initial=0).astype(np.float64)
    if not np.all(np.isfinite(largest)):
        return None
    unit = np.where(largest > 0, largest, 1.0)
    # Most matrices are told by a few of their rows.
    rows = np.linspace(0, len(matrix) - 1, min(_SAMPLE, len(matrix))).astype(int)
    few = matrix[rows] / unit
    codes, scales = np.zeros(matrix.shape, np.int16), unit.astype(np.float32)
    left = largest > 0
    for number in range(1, most + 1):
        here = np.flatnonzero(left & _fits(few, number))
        whole = matrix[:, here] / unit[here]
        fits = _fits(whole, number)
        here = here[fits]
        codes[:, here] = np.rint(whole[:, fits] * number)
        scales[here] = unit[here] / number
        left[here] = False
        if not np.any(left):
            return codes, scales
    return None


def _fits(shares, number):
    """Whether columns, as shares of their largest values, are multiples of its part."""
    scaled = shares * number
    return np.all(np.abs(scaled - np.rint(scaled)) <= number * _ROUNDING, axis=0)
