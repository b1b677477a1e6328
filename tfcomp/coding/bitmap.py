"""Bitmap: one bit for every element that says whether it is zero, then the others in order."""

import numpy as np

from tfcomp.coding import stream
from tfcomp.coding.coded import Coded, bit_patterns, from_bit_patterns
from tfcomp.coding.sparse import decode_values, encode_values

NAME, ID = "bitmap", 2
PARTS = {"mask": "stream", "values": "record"}


def encode(array, stats=None):
    """Codes any array; zero means all bits zero, so -0.0 is a value.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        A `Coded`.
    """
    patterns = bit_patterns(array)
    mask = patterns != 0
    parts = {
        "mask": stream.pack(mask.view(np.uint8), [("bits", 1)]),
        "values": encode_values(patterns[mask], array.dtype, stats),
    }
    return Coded(NAME, array.shape, array.dtype.name, parts)


def decode(coded):
    """Returns the array."""
    mask = coded.parts["mask"]
    if mask.count != coded.size or (mask.layout, mask.width) != ("bits", 1):
        raise ValueError(f"Damaged record: no bitmap of a tensor of shape {coded.shape}.")
    mask = stream.unpack(mask) != 0
    patterns = np.zeros(coded.size, f"<u{coded.itemsize}")
    patterns[mask] = decode_values(coded, int(mask.sum()))
    return from_bit_patterns(patterns, coded.shape, coded.dtype)
