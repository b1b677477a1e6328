"""The distinct values of an array and, for each element, which of them it is."""

import numpy as np

from tfcomp.storage.patterns import pieces, sorted_distinct

# Elements sorted to begin with. Others are looked up; only what is not found is sorted, too.
_SAMPLE = 1 << 14
_SLOTS = 16


class Lookup:
    """Finds bit patterns in a table.

    Patterns are multiplied by an odd number whose upper bits tell those of the table apart. That
    takes a tenth of the time of a binary search, in which a processor guesses every turn wrongly.

    Args:
        table: Sorted array of distinct unsigned integers, at most 65536 of them.
    """

    def __init__(self, table):
        self.table = table
        self._shift = table.dtype.itemsize * 8 - _SLOTS
        self._factor = self._find_factor() if len(table) <= 256 and self._shift > 0 else None
        if self._factor is not None:
            self._slots = np.zeros(1 << _SLOTS, np.uint16)
            self._slots[self._hash(table)] = np.arange(len(table))

    def _hash(self, patterns):
        return (patterns * self._factor) >> patterns.dtype.type(self._shift)

    def _find_factor(self):
        rng = np.random.default_rng(0)
        kind = self.table.dtype.type
        for _ in range(64):
            self._factor = kind(int(rng.integers(1 << 63)) * 2 + 1 & np.iinfo(kind).max)
            if len(sorted_distinct(self._hash(self.table))) == len(self.table):
                return self._factor
        return None

    def indices(self, patterns):
        """Indices in the table, a uint16 array; arbitrary for patterns that are not in it."""
        found = np.empty(len(patterns), np.uint16)
        for piece, out in zip(pieces(patterns), pieces(found)):
            if self._factor is not None:
                # No slot is out of range: what `mode` says costs least.
                np.take(self._slots, self._hash(piece), out=out, mode="wrap")
            else:
                out[:] = np.minimum(np.searchsorted(self.table, piece), len(self.table) - 1)
        return found

    def missing(self, patterns):
        """The patterns that are not in the table, in order."""
        parts = [piece[self.table[self.indices(piece)] != piece] for piece in pieces(patterns)]
        return np.concatenate(parts) if parts else patterns


def distinct(parts, most):
    """Finds the distinct integers of several arrays.

    Args:
        parts: Iterable of arrays of one unsigned dtype.
        most: How many there may be, at most 65536.

    Returns:
        A `Lookup` of them, or `None` if there are too many, or none at all.

    Example:

    >>> import numpy as np
    >>> from tfcomp.storage.distinct import distinct
    >>> parts = [np.array([7, 3, 7], "uint8"), np.array([3, 4], "uint8")]
    >>> distinct(parts, most=10).table.tolist()
    [3, 4, 7]
    """
    lookup, sample = None, max(_SAMPLE, 2 * most)
    for part in parts:
        rest = part
        while len(rest):
            new = sorted_distinct(rest[:sample])
            if lookup is not None:
                new = sorted_distinct(np.concatenate([lookup.table, new]))
            if len(new) > most:
                return None
            if lookup is None or len(new) > len(lookup.table):
                lookup = Lookup(new)
            rest = lookup.missing(rest[sample:])
    return lookup
