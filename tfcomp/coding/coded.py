"""A tensor in coded form, and the view of its elements that every coding works on."""

import math
from typing import NamedTuple

import ml_dtypes  # noqa: F401  (teaches numpy the names bfloat16 and float8_*)
import numpy as np


class Coded(NamedTuple):
    """A tensor in coded form.

    Attributes:
        coding: Name of the coding.
        shape: Shape of the tensor, a tuple of ints.
        dtype: Name of its dtype.
        parts: Dict from the names in the coding's `PARTS` to `Stream` or `Coded`.
    """

    coding: str
    shape: tuple
    dtype: str
    parts: dict

    @property
    def size(self):
        """Number of weights."""
        return math.prod(self.shape)

    @property
    def itemsize(self):
        """Bytes of one weight."""
        return np.dtype(self.dtype).itemsize

    @property
    def payload_bytes(self):
        """Bytes of all streams, without the few that describe them."""
        return sum(
            part.payload_bytes if isinstance(part, Coded) else len(part.data)
            for part in self.parts.values()
        )

    @property
    def chain(self):
        """Names of the codings from the outside in, such as `"gaps/palette"`."""
        inner = [part.chain for part in self.parts.values() if isinstance(part, Coded)]
        return "/".join([self.coding, *inner[-1:]])


def bit_patterns(array):
    """The elements of an array as a flat array of unsigned integers of the same width."""
    array = np.ascontiguousarray(array).reshape(-1)
    return array.view(np.dtype(f"<u{array.dtype.itemsize}"))


def from_bit_patterns(integers, shape, dtype):
    """The inverse of `bit_patterns`."""
    dtype = np.dtype(dtype)
    integers = np.ascontiguousarray(integers, f"<u{dtype.itemsize}")
    if dtype.kind == "b" and integers.size and integers.max() > 1:
        raise ValueError("Damaged record: a boolean is neither 0 nor 1.")
    return integers.view(dtype).reshape(shape)
