"""What a look at a tensor says about how small each coding would make it."""

import functools

import numpy as np

from tfcomp.coding.coded import bit_patterns
from tfcomp.coding.stream import pack

MAX_PALETTE = 1 << 16

# Elements looked at before all of a large tensor are sorted to find the distinct ones. Of a table
# of 65536 values drawn evenly, 3% are seen twice; of continuous floats, practically none.
_PROBE, _MOSTLY_DISTINCT = 4096, 0.99
_SAMPLE = 1 << 18


def entropy(counts):
    """Shannon entropy in bits of a histogram."""
    counts = counts[counts > 0]
    if len(counts) < 2:
        return 0.0
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


class Stats:
    """Lazily computed facts about an array's bit patterns.

    Args:
        array: Numpy array.
    """

    def __init__(self, array):
        self.patterns = bit_patterns(array)
        self.size = len(self.patterns)
        self.itemsize = array.dtype.itemsize

    @functools.cached_property
    def sample(self):
        """The first elements."""
        return self.patterns[:_SAMPLE]

    @functools.cached_property
    def nonzeros(self):
        """Number of elements with a bit set."""
        return int(np.count_nonzero(self.patterns))

    @functools.cached_property
    def table(self):
        """Sorted distinct patterns, or `None` where a palette of them would be no use."""
        if self.size > 16 * _PROBE:
            probe = self.patterns[:: self.size // _PROBE]
            probe = probe[probe != 0]
            if len(probe) > 256 and len(np.unique(probe)) > _MOSTLY_DISTINCT * len(probe):
                return None
        table = np.unique(self.patterns)
        return table if 1 <= len(table) <= MAX_PALETTE else None

    @functools.cached_property
    def _histogram(self):
        return np.bincount(np.searchsorted(self.table, self.sample), minlength=len(self.table))

    @functools.cached_property
    def entropy(self):
        """Bits per element of the palette's indices."""
        return entropy(self._histogram)

    @functools.cached_property
    def raw_ratio(self):
        """The share of its bytes that DEFLATE leaves of a raw sample."""
        sample = self.sample[: 1 << 14]
        if not len(sample):
            return 1.0
        layouts = [("words", self.itemsize), ("planes", self.itemsize)]
        return len(pack(sample, layouts).data) / sample.nbytes

    @functools.cached_property
    def values_bytes(self):
        """Bytes to expect for the non-zero elements alone."""
        if self.table is None:
            return self.nonzeros * self.itemsize * 0.9
        counts = self._histogram[1:] if self.table[0] == 0 else self._histogram
        return len(self.table) * self.itemsize + self.nonzeros * entropy(counts) / 8

    def without_zero(self):
        """What is known of the non-zero elements alone."""
        other = Stats(np.empty(0, f"u{self.itemsize}"))
        table = self.table
        other.table = table[1:] if table is not None and len(table) and table[0] == 0 else table
        return other
