"""The numbers that say how far a tensor is compressed."""

from typing import NamedTuple

import numpy as np

from tfcomp.coding.choose import encode
from tfcomp.coding.coded import bit_patterns


class Description(NamedTuple):
    """How far a tensor is compressed.

    Attributes:
        size: Number of weights.
        nonzeros: How many of them are not zero (-0.0 is zero).
        distinct: Number of distinct values.
        coded_bytes: Bytes in the smallest coding, without its header.
        coding: Its name, `"gaps/palette"` for instance.
    """

    size: int
    nonzeros: int
    distinct: int
    coded_bytes: int
    coding: str

    @property
    def sparsity(self):
        """Share of zeros, 0 for an empty tensor."""
        return 1 - self.nonzeros / self.size if self.size else 0.0

    @property
    def bits_per_weight(self):
        """Bits per weight in the smallest coding, 0 for an empty tensor."""
        return 8 * self.coded_bytes / self.size if self.size else 0.0


def describe(array):
    """Describes how far a tensor is compressed.

    Args:
        array: Array of any shape and of a boolean, integer or floating dtype.

    Returns:
        A `Description`.

    Example:

    >>> import numpy as np
    >>> from tfcomp import coding
    >>> described = coding.describe(np.array([0.0, 0.5, 0.0, -0.5], "float32"))
    >>> described.sparsity, described.distinct
    (0.5, 3)
    """
    array = np.asarray(array)
    coded = encode(array)
    distinct = len(np.unique(bit_patterns(array)))
    return Description(
        array.size, int(np.count_nonzero(array)), distinct, coded.payload_bytes, coded.chain
    )
