"""Unsigned integers as few bytes as DEFLATE and a choice of layouts can make them.

A layout says how the integers become bytes before DEFLATE sees them, which works on bytes:

    words   each integer in `width` bytes, little-endian
    planes  all lowest bytes, then all second ones, and so on: the exponents of floats lie together
    bits    each integer in `width` bits, lowest bit first; `width` 0 means all are zero

    stream := layout: u8 (+ 128 if deflated), width: u8, count: varint, size: varint, bytes
"""

import math
import zlib
from typing import NamedTuple

import numpy as np

from tfcomp.storage.patterns import sorted_distinct
from tfcomp.storage.reader import varint

LAYOUTS = ("words", "planes", "bits")

# Bytes of a short stream besides its data.
HEADER = 5

# Integers looked at to choose a layout and a compressor for a long stream.
_SAMPLE = 1 << 15
# Where the share of distinct integers is larger, whole ones are not looked for.
_REPEATING = 7 / 8
# Fastest first, each a level and a strategy of zlib. Indices without repetition gain nothing from a
# search for matches, which takes up to a hundred times as long as the Huffman coder alone.
_WITHOUT_SEARCH = ((9, zlib.Z_HUFFMAN_ONLY), (9, zlib.Z_RLE))
_GLANCE, _SEARCH = (1, zlib.Z_DEFAULT_STRATEGY), (6, zlib.Z_DEFAULT_STRATEGY)
_THOROUGH = ((9, zlib.Z_FILTERED), (9, zlib.Z_DEFAULT_STRATEGY))
_SPEED = (None, *_WITHOUT_SEARCH, _GLANCE, _SEARCH, *_THOROUGH)
# A search is worth a try, or a longer one, where a shorter one came as near to the smallest.
_NEAR, _NEARER = 1.2, 1.04
# Of ways that differ by less the fastest is taken: where all integers were looked at, and else.
_TOLERANCE, _SAMPLE_TOLERANCE = 1.002, 1.01


class Stream(NamedTuple):
    """Packed unsigned integers.

    Attributes:
        layout: One of `LAYOUTS`.
        width: Bytes of one integer; bits of one for the layout `"bits"`.
        count: How many integers.
        deflated: Whether `data` is a zlib stream.
        data: The bytes.
    """

    layout: str
    width: int
    count: int
    deflated: bool
    data: bytes

    @property
    def packed_bytes(self):
        """Number of bytes before DEFLATE."""
        if self.layout == "bits":
            return (self.count * self.width + 7) // 8
        return self.count * self.width


def _to_bits(integers, width):
    if width == 1:
        return np.packbits(integers, bitorder="little").tobytes()
    chunks = []
    # Chunks of whole bytes, so that a large tensor does not become eight times as large.
    for start in range(0, len(integers), 1 << 20):
        chunk = integers[start : start + (1 << 20), None]
        bits = (chunk >> np.arange(width, dtype=chunk.dtype)).astype(np.uint8) & 1
        chunks.append(np.packbits(bits, bitorder="little").tobytes())
    return b"".join(chunks)


def _laid_out(integers, layout, width):
    if layout == "bits":
        return _to_bits(integers, width) if width else b""
    integers = np.ascontiguousarray(integers, f"<u{width}")
    if layout == "planes":
        return integers.view(np.uint8).reshape(-1, width).T.tobytes()
    return integers.tobytes()


def as_they_are(integers):
    """The layouts that keep the width of integers."""
    width = integers.dtype.itemsize
    return [("words", width)] + [("planes", width)] * (width > 1)


def _layouts(integers):
    """The layouts worth a try, with their widths."""
    largest = int(integers.max()) if len(integers) else 0
    bits = largest.bit_length()
    width = next(size for size in (1, 2, 4, 8) if bits <= 8 * size)
    if bits == 0:
        return [("bits", 0)]
    if bits < 8:
        return [("bits", bits), ("words", 1)]
    return [("words", width), ("planes", width)] if width > 1 else [("words", 1)]


def _compressed(data, compressor):
    if compressor is None:
        return data
    level, strategy = compressor
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    return compressor.compress(data) + compressor.flush()


class Way(NamedTuple):
    """How to pack: layout, width, level and strategy of zlib if any, and the bytes to expect."""

    layout: str
    width: int
    compressor: tuple | None
    bytes: float

    @property
    def is_searched(self):
        """Whether zlib looks for what comes again."""
        return self.compressor is not None and self.compressor not in _WITHOUT_SEARCH


def _tried(data, repeats, least):
    """Yields compressors and what they make of bytes, none that has no chance against `least`."""
    yield None, len(data)
    least = min(least, len(data))
    for compressor in (*_WITHOUT_SEARCH, _GLANCE):
        size = len(_compressed(data, compressor))
        least = min(least, size)
        yield compressor, size
    for compressors, near in (((_SEARCH,), _NEAR), (_THOROUGH, _NEARER)):
        # Where no value comes again, a longer search finds what a shorter one finds, or nothing.
        if size > (near if repeats else 1) * least:
            return
        for compressor in compressors:
            size = len(_compressed(data, compressor))
            least = min(least, size)
            yield compressor, size


def _ways(integers, layouts, repeats):
    """Yields ways to pack integers, with their bytes."""
    least = math.inf
    for layout, width in layouts:
        data = _laid_out(integers, layout, width)
        for compressor, size in _tried(data, repeats, least):
            least = min(least, size)
            yield Way(layout, width, compressor, size)


def best_way(integers, layouts=None):
    """The `Way` in which integers become smallest; arguments as those of `pack`.

    For long arrays the way is chosen on a sample. Of ways that hardly differ the fastest is taken.
    """
    sample, tolerance = integers, _TOLERANCE
    if len(integers) > _SAMPLE:
        middle = len(integers) // 2
        sample = np.concatenate([integers[: _SAMPLE // 2], integers[middle:][: _SAMPLE // 2]])
        tolerance = _SAMPLE_TOLERANCE
    layouts = _layouts(integers) if layouts is None else layouts
    planes = [layout for layout in layouts if layout[0] == "planes"]
    repeats = not planes or len(sorted_distinct(sample)) < _REPEATING * len(sample)
    ways = list(_ways(sample, layouts if repeats else planes, repeats))
    least = tolerance * min(way.bytes for way in ways)
    good = [way for way in ways if way.bytes <= least]
    way = min(good, key=lambda way: _SPEED.index(way.compressor))
    return way._replace(bytes=way.bytes * len(integers) / max(len(sample), 1))


def pack(integers, layouts=None, way=None):
    """Packs unsigned integers into the smallest stream found.

    Args:
        integers: 1D numpy array of an unsigned integer dtype.
        layouts: Optional list of `(layout, width)` to choose from.
        way: How, where `best_way` has been asked before.

    Returns:
        A `Stream`.

    Example:

    >>> import numpy as np
    >>> from tfcomp.storage import stream
    >>> packed = stream.pack(np.array([1, 0, 2, 3, 1, 1], "uint8"))
    >>> packed.layout, packed.width, packed.data.hex()
    ('bits', 2, 'e105')
    >>> stream.unpack(packed).tolist()
    [1, 0, 2, 3, 1, 1]
    """
    way = way or best_way(integers, layouts)
    data = _laid_out(integers, way.layout, way.width)
    deflated = _compressed(data, way.compressor)
    # A sample may promise what does not come true.
    smaller = len(deflated) < len(data)
    data = deflated if smaller else data
    return Stream(way.layout, way.width, len(integers), smaller, data)


def to_bytes(stream):
    """Returns the bytes of a `Stream`, which tell their end."""
    layout = LAYOUTS.index(stream.layout) | (128 if stream.deflated else 0)
    head = bytes([layout, stream.width]) + varint(stream.count)
    return head + varint(len(stream.data)) + stream.data


def read(reader):
    """Reads a `Stream`; raises if there is none, or it declares more than the reader allows."""
    layout, width = reader.byte(), reader.byte()
    deflated, layout = layout >= 128, layout & 127
    widths = (range(9), (1, 2, 4, 8))[layout < 2]
    if layout >= len(LAYOUTS) or width not in widths:
        raise ValueError(f"Damaged record: no layout {layout} of width {width}.")
    count = reader.varint()
    # Widths of 0 bits cost no bytes in the record, but one byte each when unpacked.
    reader.check_size(count * max(width, 1) // (8 if width and layout == 2 else 1))
    return Stream(LAYOUTS[layout], width, count, deflated, reader.take(reader.varint()))


def dtype_of(stream):
    """The numpy dtype of the integers that `unpack` returns."""
    return np.dtype(np.uint8 if stream.layout == "bits" else f"<u{stream.width}")


def _inflate(data, size):
    # Never more than the declared size, whatever a damaged stream would grow to.
    try:
        inflater = zlib.decompressobj()
        out = inflater.decompress(data, size + 1)
        complete = len(out) == size and inflater.eof and not inflater.unused_data
        if not complete and len(out) == size:
            complete = not inflater.decompress(inflater.unconsumed_tail, 1) and inflater.eof
    except zlib.error as error:
        raise ValueError(f"Damaged stream: {error}.") from error
    if not complete:
        raise ValueError(f"Damaged stream: DEFLATE data does not hold {size} bytes.")
    return out


def unpack(stream):
    """Unpacks a stream.

    Args:
        stream: A `Stream`.

    Returns:
        1D numpy array of `stream.count` unsigned integers.

    Raises:
        ValueError: If the data does not fit the header. Nothing larger than the declared size is
            allocated.
    """
    size = stream.packed_bytes
    data = _inflate(stream.data, size) if stream.deflated else stream.data
    if len(data) != size:
        raise ValueError(f"Damaged stream: expected {size} bytes, received {len(data)}.")
    if stream.layout == "words":
        return np.frombuffer(data, f"<u{stream.width}")
    data = np.frombuffer(data, np.uint8)
    if stream.layout == "planes":
        planes = np.ascontiguousarray(data.reshape(stream.width, -1).T)
        return planes.reshape(-1).view(f"<u{stream.width}")
    if stream.width == 0:
        return np.zeros(stream.count, np.uint8)
    integers = np.zeros(stream.count, np.uint8)
    # 2**20 integers at a time: whole bytes for every width.
    for start in range(0, stream.count, 1 << 20):
        count = min(1 << 20, stream.count - start)
        first = start * stream.width // 8
        part = data[first : first + (count * stream.width + 7) // 8]
        bits = np.unpackbits(part, count=count * stream.width, bitorder="little")
        weights = (1 << np.arange(stream.width)).astype(np.uint8)
        integers[start : start + count] = bits.reshape(count, stream.width) @ weights
    return integers
