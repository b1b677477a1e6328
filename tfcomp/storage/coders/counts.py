"""How often symbols occur, and the bits that they take in their entropy."""

import numpy as np

from tfcomp.storage import stream


def counted(parts, alphabet):
    """Counts the symbols below `alphabet` in several arrays."""
    counts = np.zeros(alphabet, np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=alphabet)
    return counts


def entropy_bits(counts):
    """Bits of symbols that occur so often, each in its entropy.

    Example:

    >>> from tfcomp.storage.coders.counts import entropy_bits
    >>> entropy_bits([2, 0, 1, 1])
    6.0
    """
    counts = np.asarray(counts, np.float64)
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())


def read_levels(reader, count, most):
    """Reads a stream of at most so many bytes, none above `most` and not all of them 0."""
    packed = stream.read(reader)
    if not 1 <= packed.count <= count:
        raise ValueError(f"Damaged record: {packed.count} symbols, of {count} at most.")
    levels = stream.unpack(packed)
    if levels.dtype != np.uint8 or not 1 <= levels.max() <= most:
        raise ValueError("Damaged record: the frequency of a symbol is out of range.")
    return levels
