"""Which distinct values a tensor has, found once for all codings."""

import functools

import numpy as np

from tfcomp.coding.coded import bit_patterns

MAX_PALETTE = 1 << 16

# Elements looked at before all of a large tensor are sorted to find the distinct ones. Of a table
# of 65536 values drawn evenly, 3% are seen twice; of continuous floats, practically none.
_PROBE, _MOSTLY_DISTINCT = 4096, 0.99
_FEW = 256


class Stats:
    """The distinct bit patterns of an array, found when first asked for.

    Args:
        array: Numpy array.
    """

    def __init__(self, array):
        self.patterns = bit_patterns(array)
        self.size = len(self.patterns)

    @functools.cached_property
    def table(self):
        """Sorted distinct patterns, or `None` where a palette of them would be no use."""
        if self.size > 16 * _PROBE:
            probe = self.patterns[:: self.size // _PROBE]
            probe = probe[probe != 0]
            if len(probe) > 256 and len(np.unique(probe)) > _MOSTLY_DISTINCT * len(probe):
                return None
        table = np.unique(self.patterns)
        packed = table.nbytes + self.size * (len(table) - 1).bit_length() / 8
        if self.size > _FEW and packed >= self.patterns.nbytes:
            return None
        return table if 1 <= len(table) <= MAX_PALETTE else None

    def without_zero(self):
        """What is known of the non-zero elements alone."""
        other = Stats(self.patterns[:0])
        table = self.table
        other.table = table[1:] if table is not None and len(table) and table[0] == 0 else table
        return other
