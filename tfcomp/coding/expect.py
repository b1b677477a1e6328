"""How small a coding would make a tensor, judged by a sample of it."""

import numpy as np

from tfcomp.coding.coded import Coded, bit_patterns

# Tensors of up to this many elements are coded in every way; of larger ones, so many are.
SAMPLE = 1 << 14


def sample(array):
    """The first elements of an array and some from its middle, in two runs."""
    flat = array.reshape(-1)
    middle = len(flat) // 2
    return np.concatenate([flat[: SAMPLE // 2], flat[middle : middle + SAMPLE // 2]])


def _grown(coded, factor, table):
    total = 0
    for name, part in coded.parts.items():
        if isinstance(part, Coded):
            total += _grown(part, factor, table)
        elif name == "table" and table is not None:
            # All of a palette is there once, however large the tensor.
            total += table.nbytes
        else:
            total += factor * len(part.data)
    return total


def expected_bytes(coding, array, stats):
    """Bytes to expect of a coding.

    Args:
        coding: One of the modules in `tfcomp.coding.CODINGS`.
        array: Numpy array.
        stats: Its `Stats`.

    Returns:
        A number of bytes, infinite where the coding does not apply.
    """
    if coding.NAME == "palette" and stats.table is None:
        return np.inf
    part = sample(array) if array.size > SAMPLE else array
    coded = coding.encode(part)
    if coded is None:
        return np.inf
    return _grown(coded, array.size / max(len(bit_patterns(part)), 1), stats.table)
