"""Matrices of which each output has few values, as codes of a few bits.

A code stands for a number by one of three rules, which take few instructions to carry out:

    steps   the code itself: a uniform grid, with zero on it or not
    powers  a sign and an exponent; no exponent is zero
    bits    a sum, to which each bit adds a number of its own, such as the two scales of trained
            ternary weights
"""

from typing import NamedTuple

import numpy as np

from tfcomp.exporters.kernels.grids import integers

# What 4 bits can tell apart.
_LEVELS = 16
# Exponents, or none, of which the steps between them need half as many bits again as 4.
_EXPONENTS = 15
_BITS = 4
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
        factors: float32 array of shape `(numbers that a code stands for, outputs)`.
        offset: float32 array, one for each output.
    """

    kind: str
    bits: int
    codes: np.ndarray
    factors: np.ndarray
    offset: np.ndarray

    @property
    def numbers(self):
        """How many numbers a code stands for: each bit is one, or all are one together."""
        return len(self.factors)


def codes_of(matrix):
    """The codes of a matrix, by the rule that is carried out fastest.

    Args:
        matrix: float32 array of shape `(inputs, outputs)`.

    Returns:
        `Codes`, or `None` if there are none of up to four bits, or the values are no powers of two.
    """
    found = None
    if matrix.size and np.all(np.isfinite(matrix[:_SAMPLE])):
        found = _steps(matrix) or _powers(matrix) or _sums(matrix)
    return found


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
    most = max(map(len, numbers))
    factors = np.array([[*own, *[0] * (most - len(own))] for own in numbers], np.float32).T
    bits = _bits_for(2**most - 1)
    return Codes("bits", bits, np.stack(codes, 1), factors, np.array(offset, np.float32))


def _fewest_terms(levels):
    """What is to be added up to get some numbers.

    Args:
        levels: Ascending array.

    Returns:
        A first number, the list of those that are added to it or not, and uint32 array, the bits
        that say which of them, for each level; or `None` if more than four would be needed.
    """
    if len(levels) > _LEVELS:
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
            if len(numbers) == _BITS:
                return None
            # In the order of codes: those with the new bit after those without it.
            code = len(sums)
            numbers.append(rests[place])
            sums = np.append(sums, sums + rests[place])
        codes[place] = code
    return first, numbers, codes
