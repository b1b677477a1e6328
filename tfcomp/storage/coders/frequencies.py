"""Frequencies of symbols in seven bits each, and the same integers from them on every machine.

A frequency is stored as a level: 0 where the symbol never occurs, else its logarithm in steps of
an eighth of an octave, counted from the most frequent symbol down. That is wrong by 4.4 % at most,
which costs less than 0.001 bits for each symbol coded.

What a decoder makes of the levels has to be the same everywhere, or it decodes nonsense. So they
are turned into integers that sum to 2**20 by integer arithmetic alone. Where a level stands for a
range of symbols, its width is a power of two of at most 2**9: the shares are dyadic fractions of
29 bits, which sum and scale without rounding in double precision.
"""

import numpy as np

LEVELS = 127
_STEPS = 8
# 2**(7 + step / 8), rounded: integers, so that no two machines round them differently.
_OCTAVE = (128, 140, 152, 166, 181, 197, 215, 235)
SIZES = np.array(
    [0] + [_OCTAVE[i % _STEPS] << (i // _STEPS) for i in range(LEVELS)], dtype=np.int64
)
TOTAL = 1 << 20
MAX_WIDTH = 1 << 9


def levels(counts):
    """Returns the level of each count, a uint8 array.

    Args:
        counts: Numpy array of integers of at least 0 and below 2**40, one of them positive.

    Example:

    >>> from tfcomp.storage.coders import frequencies
    >>> levels = frequencies.levels([0, 1, 2, 1000])
    >>> levels.tolist(), frequencies.shares(levels, [1, 1, 1, 1]).tolist()
    ([0, 47, 55, 127], [0.0, 1021.0, 2042.0, 1045513.0])
    """
    counts = np.asarray(counts, np.int64)
    scaled = counts * int(SIZES[-1]) // int(counts.max())
    middles = (SIZES[1:-1] + SIZES[2:]) // 2
    found = 1 + np.searchsorted(middles, scaled, side="right")
    return np.where(counts > 0, found, 0).astype(np.uint8)


def shares(levels, widths):
    """Returns the share of every symbol of `TOTAL`, a float64 array of exact numbers.

    Args:
        levels: Array of levels, one of them positive.
        widths: How many symbols each level stands for, a power of two of at most `MAX_WIDTH`.
    """
    sizes = SIZES[levels]
    frequencies = sizes * TOTAL // sizes.sum()
    frequencies[np.argmax(frequencies)] += TOTAL - frequencies.sum()
    return np.repeat(frequencies / np.asarray(widths, np.float64), widths)
