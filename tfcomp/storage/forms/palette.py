"""Palette: the table of distinct values, and for every element its index in the table."""

import numpy as np

from tfcomp.storage import stream
from tfcomp.storage.distinct import distinct

# Tables of so many values are not worth the planes that TensorFlow has to put together.
_SHORT = 256


class Palette:
    """Values as indices in a table.

    Args:
        table: Their distinct bit patterns, sorted.
        model: The coder's model of the indices.
        packed: The table as a `Stream`.
        lookup: `Lookup` of the table, to code.
    """

    NAME = "palette"

    def __init__(self, table, model, packed, lookup=None):
        self.table, self.model, self.packed, self._lookup = table, model, packed, lookup
        self.bits = 8 * (len(packed.data) + stream.HEADER) + model.bits

    @classmethod
    def of(cls, parts, coder, most=1 << 16):
        """The palette of the values of arrays, or `None` where they are more than `most`."""
        lookup = distinct(parts, min(most, coder.PALETTE))
        if lookup is None:
            return None
        table = lookup.table
        model = coder.model((lookup.indices(part) for part in parts), np.ones(len(table), int))
        # Zeros alone need no bytes.
        layouts = stream.as_they_are(table) if table[-1] else [("bits", 0)]
        if coder.WHOLE and len(table) <= _SHORT:
            layouts = layouts[:1]
        return cls(table, model, stream.pack(table, layouts), lookup)

    @classmethod
    def read(cls, reader, itemsize, coder):
        """Reads what `to_bytes` wrote."""
        packed = stream.read(reader)
        known = 1 <= packed.count <= coder.PALETTE
        if not known or stream.dtype_of(packed).itemsize > itemsize:
            raise ValueError("Damaged record: no palette of these elements.")
        table = stream.unpack(packed).astype(f"<u{itemsize}", copy=False)
        return cls(table, coder.read(reader, np.ones(len(table), int)), packed)

    def to_bytes(self):
        """The table and the model as bytes."""
        return stream.to_bytes(self.packed) + self.model.to_bytes()

    def fields(self, values):
        """The fields of some values, for the coder: their indices and its model."""
        return [(self._lookup.indices(values), self.model)]

    def stored(self, values):
        """What is stored without a coder: nothing."""
        return b""

    def take(self, decoder, reader, count):
        """The next so many values from a coder's decoder."""
        indices = decoder.take(self.model, count)
        if count and int(indices.max()) >= len(self.table):
            raise ValueError("Damaged record: an index exceeds the palette.")
        return self.table[indices]
