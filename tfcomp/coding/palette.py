"""Palette: the table of distinct values, and for every element its index in the table."""

import numpy as np

from tfcomp.coding import stream
from tfcomp.coding.coded import Coded, bit_patterns, from_bit_patterns
from tfcomp.coding.stats import MAX_PALETTE

NAME, ID = "palette", 1
PARTS = {"table": "stream", "indices": "stream"}


def encode(array, stats=None):
    """Codes an array of at most 65536 distinct bit patterns.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        A `Coded`, or `None` where there are more, or none at all.
    """
    patterns = bit_patterns(array)
    table = np.unique(patterns) if stats is None else stats.table
    if table is None or not 1 <= len(table) <= MAX_PALETTE:
        return None
    indices = np.searchsorted(table, patterns)
    indices = indices.astype(np.uint8 if len(table) <= 256 else np.uint16)
    parts = {
        "table": stream.pack(table, [("words", array.dtype.itemsize)]),
        "indices": stream.pack(indices),
    }
    return Coded(NAME, array.shape, array.dtype.name, parts)


def decode(coded):
    """Returns the array."""
    table, indices = coded.parts["table"], coded.parts["indices"]
    if indices.count != coded.size or stream.dtype_of(table).itemsize != coded.itemsize:
        raise ValueError(f"Damaged record: no palette of a tensor of shape {coded.shape}.")
    table, indices = stream.unpack(table), stream.unpack(indices)
    if len(indices) and int(indices.max()) >= len(table):
        raise ValueError(f"Damaged record: an index exceeds the palette of {len(table)} values.")
    return from_bit_patterns(table[indices], coded.shape, coded.dtype)
