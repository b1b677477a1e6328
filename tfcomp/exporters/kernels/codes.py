"""Matrices of which each output has few values, as codes of a few bits.

A code stands for a number by one of three rules, which take few instructions to carry out:

    steps   the code itself: a uniform grid, with zero on it or not
    powers  a sign and an exponent; no exponent is zero
    bits    a sum, to which each of two bits adds a number of its own, such as the two scales of
            trained ternary weights

A third number to add, or a look at a table of any 16 numbers, takes longer than what dense products
take.
"""

from typing import NamedTuple

import numpy as np

from tfcomp.exporters.kernels.grids import integers

# What the codes of a grid can tell apart, and those of two bits.
_LEVELS, _SUMS = 16, 4
# Exponents of the powers of two that an output has.
_EXPONENTS = 15
# Two units in the last place of single precision, beside the largest value.
_ROUNDING = 2.0**-22
# Most matrices are told by a few of their rows.
_SAMPLE = 16


class Codes(NamedTuple):
    """A matrix as codes: a weight is `offset` and the factors times what its code stands for.

    Attributes:
        kind: `"steps"`, `"powers"` or `"bits"`.
        bits: Bits of a code, a divisor of 32.
        codes: uint32 array of shape `(inputs, outputs)`.
        factors: float32 array of shape `(1, outputs)`, or `(2, outputs)` for `"bits"`.
        offset: float32 array, one for each output.
    """

    kind: str
    bits: int
    codes: np.ndarray
    factors: np.ndarray
    offset: np.ndarray


def codes_of(matrix):
    """The codes of a matrix, by the rule that is carried out fastest.

    Args:
        matrix: float32 array of shape `(inputs, outputs)`.

    Returns:
        `Codes`, or `None` if the values of some output are others.
    """
    if not matrix.size or not np.all(np.isfinite(matrix)):
        return None
    return _steps(matrix) or _powers(matrix) or _sums(matrix)


def _bits_for(largest):
    """Bits of codes up to a largest one, so many that they fill a word."""
    return next(bits for bits in (1, 2, 4, 8) if largest < 2**bits)


def _steps(matrix):
    offset = matrix.min(axis=0)
    found = integers(matrix - offset, _LEVELS - 1)
    if found is None:
        return None
    codes, scale = found
    return Codes("steps", _bits_for(codes.max()), codes.astype(np.uint32), scale[None], offset)


def _powers(matrix):
    if _exponents(matrix[:_SAMPLE]) is None:
        return None
    found = _exponents(matrix)
    if found is None:
        return None
    size, exponent, used = found
    top = np.where(used, exponent, -1000).max(axis=0)
    span = int(np.where(used, top - exponent, 0).max()) + 1
    if span > _EXPONENTS:
        return None
    bits = _bits_for(2 * span)
    codes = np.where(used, exponent - top + span, 0) + ((matrix < 0) << (bits - 1))
    factor = np.ldexp(size, np.where(used.any(axis=0), top - span, 0))
    offset = np.zeros(len(factor), np.float32)
    return Codes("powers", bits, codes.astype(np.uint32), np.float32(factor)[None], offset)


def _exponents(matrix):
    """The one mantissa of each column, exponents, and where they are; `None` if there are more."""
    mantissa, exponent = np.frexp(np.abs(matrix))
    used = matrix != 0
    size = mantissa.max(axis=0)
    return (size, exponent, used) if np.all((mantissa == size) | ~used) else None


def _sums(matrix):
    found = []
    for column in matrix.T:
        # Sorted: `np.unique` hashes, which takes far longer.
        ordered = np.sort(column)
        levels = ordered[np.append(True, np.diff(ordered) > 0)]
        terms = _fewest_terms(levels)
        if terms is None:
            return None
        offset, numbers, codes = terms
        found.append((offset, numbers, codes[np.searchsorted(levels, column)]))
    offset, numbers, codes = zip(*found)
    factors = np.array([[*own, *[0] * (2 - len(own))] for own in numbers], np.float32).T
    return Codes("bits", 2, np.stack(codes, 1), factors, np.array(offset, np.float32))


def _fewest_terms(levels):
    """What is to be added up to get some numbers.

    Args:
        levels: Ascending array.

    Returns:
        A first number, the list of those that are added to it or not, and uint32 array, the bits
        that say which of them, for each level; or `None` if more than two would be needed.
    """
    if len(levels) > _SUMS:
        return None
    # Zeros remain zeros where that needs no more terms.
    firsts = [np.float32(0)] * (0 in levels) + [levels[0]]
    found = [_terms(levels, first) for first in firsts]
    return min((terms for terms in found if terms), key=lambda t: len(t[1]), default=None)


def _terms(levels, first):
    close = _ROUNDING * np.abs(levels).max()
    rests = levels.astype(np.float64) - first
    numbers, sums, codes = [], np.zeros(1), np.zeros(len(levels), np.uint32)
    for place in np.argsort(np.abs(rests), kind="stable"):
        off = np.abs(sums - rests[place])
        code = int(np.argmin(off))
        if off[code] > close:
            if len(sums) == _SUMS:
                return None
            # In the order of codes: those with the new bit after those without it.
            code = len(sums)
            numbers.append(rests[place])
            sums = np.append(sums, sums + rests[place])
        codes[place] = code
    return first, numbers, codes
