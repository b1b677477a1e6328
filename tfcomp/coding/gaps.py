"""Gaps: how many zeros precede each non-zero element, and the non-zero elements in order.

Song Han et al., "Deep Compression", https://arxiv.org/abs/1510.00149, section 2: a gap too long
for its bits is bridged by a stored zero.
"""

import numpy as np

from tfcomp.coding import stream
from tfcomp.coding.coded import Coded, bit_patterns, from_bit_patterns
from tfcomp.coding.sparse import decode_values, encode_values

NAME, ID = "gaps", 3
PARTS = {"gaps": "stream", "values": "record"}

# Gaps take one byte where that asks for at most one bridge in sixteen elements.
_LONGEST, _BRIDGES = 255, 16


def _bridge(gaps, values):
    """Breaks up gaps above 255: each bridge is a gap of 255 and a zero, 256 elements in all."""
    bridges = gaps // (_LONGEST + 1)
    ends = np.cumsum(bridges + 1) - 1
    short = np.full(ends[-1] + 1, _LONGEST, np.uint8)
    filled = np.zeros(len(short), values.dtype)
    short[ends] = gaps % (_LONGEST + 1)
    filled[ends] = values
    return short, filled


def encode(array, stats=None):
    """Codes any array; zero means all bits zero, so -0.0 is a value.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        A `Coded`.
    """
    patterns = bit_patterns(array)
    positions = np.flatnonzero(patterns)
    gaps = np.diff(positions, prepend=-1) - 1
    values = patterns[positions]
    largest = int(gaps.max(initial=0))
    if largest > _LONGEST and int((gaps // (_LONGEST + 1)).sum()) <= len(gaps) / _BRIDGES:
        gaps, values = _bridge(gaps, values)
        stats = None
    else:
        bits = largest.bit_length()
        gaps = gaps.astype(f"u{next(size for size in (1, 2, 4, 8) if bits <= 8 * size)}")
    parts = {
        "gaps": stream.pack(gaps),
        "values": encode_values(values, array.dtype, stats),
    }
    return Coded(NAME, array.shape, array.dtype.name, parts)


def decode(coded):
    """Returns the array."""
    gaps = stream.unpack(coded.parts["gaps"]).astype(np.uint64)
    # Unsigned, and checked one by one: a sum that wraps around must not pass for a position.
    if len(gaps) > coded.size or gaps.max(initial=0) >= max(coded.size, 1):
        raise ValueError(f"Damaged record: no gaps of a tensor of shape {coded.shape}.")
    positions = np.cumsum(gaps + np.uint64(1)) - np.uint64(1)
    if len(positions) and int(positions[-1]) >= coded.size:
        raise ValueError("Damaged record: the gaps lead beyond the end of the tensor.")
    patterns = np.zeros(coded.size, f"<u{coded.itemsize}")
    patterns[positions.astype(np.int64)] = decode_values(coded, len(positions))
    return from_bit_patterns(patterns, coded.shape, coded.dtype)
