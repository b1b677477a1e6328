"""A coded tensor as bytes.

    record := coding: u8, dtype: u8 length + ASCII, rank: varint, dimensions: varints, parts
    part   := a record, or a stream, as the coding's `PARTS` says
    stream := layout: u8 (+ 128 if deflated), width: u8, count: varint, size: varint, bytes

Varints are as in `tfcomp.coding.reader`.
"""

import math

import numpy as np

from tfcomp.coding.coded import Coded
from tfcomp.coding.reader import Reader, varint
from tfcomp.coding.registry import BY_ID, CODINGS
from tfcomp.coding.stream import LAYOUTS, Stream

# A coding holds codings two deep; more is damage.
_DEPTH = 4


def to_bytes(coded):
    """Returns the record of a `Coded` or the bytes of a `Stream`."""
    if isinstance(coded, Stream):
        layout = LAYOUTS.index(coded.layout) | (128 if coded.deflated else 0)
        head = bytes([layout, coded.width]) + varint(coded.count)
        return head + varint(len(coded.data)) + coded.data
    coding = CODINGS[coded.coding]
    name = coded.dtype.encode("ascii")
    head = bytes([coding.ID, len(name)]) + name + varint(len(coded.shape))
    dimensions = b"".join(map(varint, coded.shape))
    return head + dimensions + b"".join(to_bytes(coded.parts[part]) for part in coding.PARTS)


class RecordReader(Reader):
    """Reads streams and records; see `Reader`."""

    def stream(self):
        """The next `Stream`."""
        layout, width = self.byte(), self.byte()
        deflated, layout = layout >= 128, layout & 127
        widths = (range(9), (1, 2, 4, 8))[layout < 2]
        if layout >= len(LAYOUTS) or width not in widths:
            raise ValueError(f"Damaged record: no layout {layout} of width {width}.")
        count = self.varint()
        # Widths of 0 bits cost no bytes in the record, but one byte each when unpacked.
        self.check_size(count * max(width, 1) // (8 if width and layout == 2 else 1))
        return Stream(LAYOUTS[layout], width, count, deflated, self.take(self.varint()))

    def record(self, depth=0):
        """The next `Coded`."""
        coding = BY_ID.get(self.byte())
        if coding is None or depth >= _DEPTH:
            raise ValueError("Damaged record: unknown coding.")
        name = self.take(self.byte())
        try:
            dtype = np.dtype(name.decode("ascii"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"Damaged record: no dtype is called {name!r}.") from error
        if dtype.hasobject or dtype.itemsize not in (1, 2, 4, 8):
            raise ValueError(f"Damaged record: no tensor has the dtype {dtype}.")
        rank = self.varint()
        if rank > 32:
            raise ValueError(f"Damaged record: a tensor of {rank} axes.")
        shape = tuple(self.varint() for _ in range(rank))
        self.check_size(math.prod(shape) * dtype.itemsize)
        readers = {"stream": self.stream, "record": lambda: self.record(depth + 1)}
        parts = {part: readers[kind]() for part, kind in coding.PARTS.items()}
        return Coded(coding.NAME, shape, dtype.name, parts)


def from_bytes(data, max_bytes=1 << 33):
    """Reads a record.

    Args:
        data: Bytes that `to_bytes` made.
        max_bytes: Refuse tensors that would be larger than this once decoded.

    Returns:
        A `Coded`.

    Raises:
        ValueError: If the bytes are no record, or declare more than `max_bytes`.
    """
    reader = RecordReader(data, max_bytes)
    coded = reader.record()
    if reader.at != len(data):
        raise ValueError(f"Damaged record: {len(data) - reader.at} bytes follow its end.")
    return coded
