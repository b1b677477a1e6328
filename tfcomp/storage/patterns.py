"""The elements of a tensor as unsigned integers, on which every form works.

Zero then means all bits zero: -0.0 is a value like any other, and so is every NaN.
"""

import ml_dtypes  # noqa: F401  (teaches numpy the names bfloat16 and float8_*)
import numpy as np


def bit_patterns(array):
    """The elements of an array as a flat array of unsigned integers of the same width."""
    array = np.ascontiguousarray(array).reshape(-1)
    return array.view(np.dtype(f"<u{array.dtype.itemsize}"))


def pieces(flat, size=1 << 16):
    """The parts of a flat array, one after the other.

    Memory for what is made of all of a large tensor takes longer to get than to fill.
    """
    return (flat[start : start + size] for start in range(0, len(flat), size))


def sorted_distinct(values):
    """The distinct values of a flat array, sorted.

    Some versions of `np.unique` hash, which takes 300 times as long where hardly any value repeats.
    """
    values = np.sort(values)
    first = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=first[1:])
    return values[first]


def from_bit_patterns(integers, shape, dtype):
    """The inverse of `bit_patterns`."""
    dtype = np.dtype(dtype)
    integers = np.ascontiguousarray(integers, f"<u{dtype.itemsize}")
    if dtype.kind == "b" and integers.size and integers.max() > 1:
        raise ValueError("Damaged record: a boolean is neither 0 nor 1.")
    return integers.view(dtype).reshape(shape)
