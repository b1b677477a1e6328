"""A tensor as symbols under an entropy coder, and back, bit for bit.

    tensor := form: u8, scaled or plain
    scaled := rank: varint, dimensions of the scales: varints, tensor of scales, tensor of units
    plain  := crc32 of the elements: u32
              [bits of a gap: u8]            if relative
              [model of the gaps]            if sparse
              table: stream, model           if palette
              coded planes: u8, models       else: bytes of each element, the highest bit lowest
              chunks
    chunk  := [number of gaps: varint]       if sparse
              size: varint, bytes of the entropy coder: gaps, then indices or planes
              bytes of the planes that are not coded

A chunk is up to `CHUNK` elements in row-major order. Zero means all bits zero: -0.0 is a value like
any other, and so is every NaN. `model` is in the words of the entropy coder, `stream` of
`tfcomp.coding`.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np

from tfcomp.archive import ans, huffman
from tfcomp.archive.lookup import Lookup, distinct
from tfcomp.archive.positions import Gaps, RelativeIndex
from tfcomp.coding import scaled, stream
from tfcomp.coding.coded import bit_patterns, from_bit_patterns
from tfcomp.coding.reader import varint
from tfcomp.coding.serial import to_bytes

CODERS = {coder.NAME: coder for coder in (ans, huffman)}
SPARSE, PALETTE, RELATIVE, SCALED = 1, 2, 4, 8
CHUNK = 1 << 20
# Distinct values of a palette; more are coded by their bytes.
MOST = 1 << 12
# Share of zeros from which positions may be shorter than zeros told one by one.
_FEW_ZEROS = 0.25
# What positions may cost more in bits, for the time that they save.
_TOLERANCE = 1.003
# A plane of bytes is coded if that takes away this share of it.
_WORTH = 0.97
# Bytes that describe a palette's two streams.
_PALETTE = 10
_BYTES = np.ones(256, int)


def _chunks(flat):
    return [flat[start : start + CHUNK] for start in range(0, len(flat), CHUNK)]


def _bits(counts, widths=None):
    """Bits of symbols that occur so often, each in its entropy."""
    counts = np.asarray(counts, np.float64)
    if widths is not None:
        widths = np.asarray(widths)
        sums = np.add.reduceat(counts, np.cumsum(widths) - widths)
        used = sums > 0
        return float((sums[used] * np.log2(sums.sum() / sums[used] * widths[used])).sum())
    counts = counts[counts > 0]
    return float((counts * np.log2(counts.sum() / counts)).sum())


class _Palette(NamedTuple):
    """Values as indices in a table."""

    table: Any
    model: Any
    bits: float
    raw = ()

    form = PALETTE

    @classmethod
    def of(cls, table, counts, coder):
        used = _bits(counts) + 8 * (table.nbytes + len(table) + _PALETTE)
        return cls(table, coder.Model.of(counts, np.ones(len(counts), int)), used)

    @classmethod
    def read(cls, reader, itemsize, coder):
        packed = reader.stream()
        if not 1 <= packed.count <= MOST or stream.dtype_of(packed).itemsize > itemsize:
            raise ValueError("Damaged record: no palette of these elements.")
        table = stream.unpack(packed).astype(f"<u{itemsize}")
        model = coder.Model.read(reader, np.ones(packed.count, int))
        return cls(table, model, 0.0)

    def to_bytes(self):
        return to_bytes(stream.pack(self.table)) + self.model.to_bytes()

    def fields(self, values):
        return [(Lookup(self.table).indices(values), self.model)]

    def take(self, decoder, reader, count):
        return self.table[decoder.take(self.model, count)]


class _Planes(NamedTuple):
    """Values as their bytes: all lowest ones, all second ones, and so on."""

    models: list
    bits: float

    form = 0

    @classmethod
    def of(cls, counts, coder):
        models, bits = [], 0.0
        for plane in counts:
            size = 8.0 * plane.sum()
            coded = _bits(plane) + 8 * 256
            worth = coded < _WORTH * size
            models.append(coder.Model.of(plane, _BYTES) if worth else None)
            bits += coded if worth else size
        return cls(models, bits)

    @classmethod
    def read(cls, reader, itemsize, coder):
        mask = reader.byte()
        if mask >> itemsize:
            raise ValueError("Damaged record: more planes than an element has bytes.")
        coded = [bool(mask >> plane & 1) for plane in range(itemsize)]
        return cls([coder.Model.read(reader, _BYTES) if yes else None for yes in coded], 0.0)

    def to_bytes(self):
        coded = [model for model in self.models if model is not None]
        mask = sum(1 << i for i, model in enumerate(self.models) if model is not None)
        return bytes([mask]) + b"".join(model.to_bytes() for model in coded)

    @property
    def raw(self):
        return [plane for plane, model in enumerate(self.models) if model is None]

    def fields(self, values):
        planes = _planes(values)
        return [(planes[:, i], model) for i, model in enumerate(self.models) if model is not None]

    def take(self, decoder, reader, count):
        planes = np.zeros((count, len(self.models)), np.uint8)
        for plane, model in enumerate(self.models):
            if model is not None:
                planes[:, plane] = decoder.take(model, count)
        for plane in self.raw:
            planes[:, plane] = np.frombuffer(reader.take(count), np.uint8)
        return planes.reshape(-1).view(f"<u{len(self.models)}")


def _planes(values):
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _best_values(chunks, table, counts, coder):
    """The palette or the planes, whichever takes fewer bits."""
    palette = None if table is None else _Palette.of(table, counts, coder)
    if palette is not None and (len(table) <= 256 and counts.sum() > 1 << 16):
        return palette
    itemsize = chunks[0].dtype.itemsize
    counts = np.zeros((itemsize, 256), np.int64)
    for chunk in chunks:
        planes = _planes(np.ascontiguousarray(chunk))
        counts += [np.bincount(planes[:, i], minlength=256) for i in range(itemsize)]
    planes = _Planes.of(counts, coder)
    return planes if palette is None or planes.bits < palette.bits else palette


def _counted(chunks, table):
    lookup = Lookup(table)
    counts = np.zeros(len(table), np.int64)
    for chunk in chunks:
        counts += np.bincount(lookup.indices(chunk), minlength=len(table))
    return counts


class _Plan(NamedTuple):
    """How a tensor is coded, and its symbols chunk by chunk."""

    form: int
    positions: Any
    gap_model: Any
    values: Any
    chunks: list
    bits: float


def _dense(chunks, coder):
    table = distinct(chunks, MOST)
    counts = None if table is None else _counted(chunks, table)
    values = _best_values(chunks, table, counts, coder)
    pairs = ((None, chunk) for chunk in chunks)
    return _Plan(values.form, None, None, values, pairs, values.bits)


def _sparse(chunks, coder, positions):
    """The plan of a tensor by its non-zero elements, and the bits of one by all elements."""
    pairs, counts = [], np.zeros(positions.widths.sum(), np.int64)
    for chunk in chunks:
        places = np.flatnonzero(chunk != 0)
        gaps = np.diff(places, prepend=-1) - 1
        pair = positions.symbols(gaps, chunk[places])
        counts += np.bincount(pair[0], minlength=len(counts))
        pairs.append(pair)
    every = [values for _, values in pairs]
    table = distinct(every, MOST)
    value_counts = None if table is None else _counted(every, table)
    values = _best_values(every, table, value_counts, coder)
    bits = _bits(counts, positions.widths) + values.bits
    relative = RELATIVE if isinstance(positions, RelativeIndex) else 0
    form = SPARSE | relative | values.form
    return _Plan(form, positions, coder.Model.of(counts, positions.widths), values, pairs, bits)


def _plan(flat, rank, coder):
    chunks = _chunks(flat)
    zeros = len(flat) - sum(int(np.count_nonzero(chunk)) for chunk in chunks)
    if not _FEW_ZEROS * len(flat) < zeros < len(flat):
        return _dense(chunks, coder)
    relative = RelativeIndex(5 if rank <= 2 else 8) if coder is huffman else Gaps()
    sparse = _sparse(chunks, coder, relative)
    # By all elements, values cost what they cost by the non-zero ones, and the zeros their share.
    if sparse.bits <= _TOLERANCE * (sparse.values.bits + _bits([zeros, len(flat) - zeros])):
        return sparse
    dense = _dense(chunks, coder)
    return dense if dense.bits < sparse.bits else sparse


def _write(plan, flat, coder):
    parts = [bytes([plan.form]), zlib.crc32(flat).to_bytes(4, "little")]
    if plan.form & RELATIVE:
        parts.append(bytes([plan.positions.span.bit_length() - 1]))
    if plan.form & SPARSE:
        parts.append(plan.gap_model.to_bytes())
    parts.append(plan.values.to_bytes())
    for gaps, values in plan.chunks:
        fields = plan.values.fields(values)
        if gaps is not None:
            parts.append(varint(len(gaps)))
            fields = [(gaps, plan.gap_model), *fields]
        data = coder.encode(fields)
        parts += [varint(len(data)), data]
        parts += [_planes(values)[:, plane].tobytes() for plane in plan.values.raw]
    return b"".join(parts)


def _may_have_scales(array, plan):
    # Channels of different scales have no value but zero in common.
    fewest = max(3, min(array.shape[-2:], default=0))
    return plan.values.form != PALETTE or len(plan.values.table) > fewest


def encode(array, coding="ans"):
    """Codes a tensor in its smallest form, exactly.

    Args:
        array: Numpy array of any shape and of a boolean, integer or floating dtype.
        coding: `"ans"` or `"huffman"`.

    Returns:
        Bytes, which do not tell shape and dtype.

    Example:

    >>> import numpy as np
    >>> from tfcomp.archive import tensor
    >>> from tfcomp.coding.serial import RecordReader
    >>> kernel = np.random.default_rng(0).choice([-0.5, 0.5], (64, 64)).astype("float32")
    >>> data = tensor.encode(kernel)
    >>> kernel.nbytes, len(data) < 4096 / 8 + 50
    (16384, True)
    >>> reader = RecordReader(data, max_bytes=1 << 20)
    >>> bool((tensor.decode(reader, (64, 64), kernel.dtype) == kernel).all())
    True
    """
    array = np.asarray(array)
    coder = CODERS[coding]
    flat = bit_patterns(array)
    if not len(flat):
        return b""
    plan = _plan(flat, array.ndim, coder)
    if _may_have_scales(array, plan):
        found = scaled.split(array)
        if found is not None:
            scales, units, _ = found
            inner = _plan(bit_patterns(units), array.ndim, coder)
            if inner.bits + 32 * scales.size < plan.bits:
                return _write_scaled(scales, inner, units, coder)
    return _write(plan, flat, coder)


def _write_scaled(scales, plan, units, coder):
    head = bytes([SCALED]) + varint(scales.ndim) + b"".join(map(varint, scales.shape))
    flat = bit_patterns(scales)
    return (
        head
        + _write(_dense(_chunks(flat), coder), flat, coder)
        + _write(plan, bit_patterns(units), coder)
    )


def _read_scaled(reader, shape, dtype, coder):
    if dtype != np.float32 or reader.varint() != len(shape):
        raise ValueError(f"Damaged record: no scales of a tensor of shape {shape}.")
    scales = tuple(reader.varint() for _ in shape)
    if not all(size in (1, axis) for size, axis in zip(scales, shape)):
        raise ValueError(f"Damaged record: scales of shape {scales} of a tensor of {shape}.")
    scales = _read(reader, reader.byte(), scales, dtype, coder)
    units = _read(reader, reader.byte(), shape, dtype, coder)
    with np.errstate(all="ignore"):
        units *= scales
    return units


def _read_positions(reader, form, coder):
    if not form & SPARSE:
        return None, None
    positions = Gaps()
    if form & RELATIVE:
        bits = reader.byte()
        if not 1 <= bits <= 8:
            raise ValueError(f"Damaged record: gaps of {bits} bits.")
        positions = RelativeIndex(bits)
    return positions, coder.Model.read(reader, positions.widths)


def _read_chunk(reader, out, positions, gap_model, values, coder):
    count = reader.varint() if positions is not None else len(out)
    if count > len(out):
        raise ValueError("Damaged record: more gaps than elements.")
    decoder = coder.Decoder(reader.take(reader.varint()))
    if positions is None:
        out[:] = values.take(decoder, reader, count)
    else:
        places = positions.positions(decoder.take(gap_model, count), len(out))
        out[places] = values.take(decoder, reader, len(places))
    decoder.finish()


def _read(reader, form, shape, dtype, coder):
    if form & ~(SPARSE | PALETTE | RELATIVE) or (form & RELATIVE and not form & SPARSE):
        raise ValueError(f"Damaged record: no form {form}.")
    crc = int.from_bytes(reader.take(4), "little")
    positions, gap_model = _read_positions(reader, form, coder)
    kind = _Palette if form & PALETTE else _Planes
    values = kind.read(reader, dtype.itemsize, coder)
    flat = np.zeros(np.prod(shape, dtype=np.int64), f"<u{dtype.itemsize}")
    for out in _chunks(flat):
        _read_chunk(reader, out, positions, gap_model, values, coder)
    if zlib.crc32(flat) != crc:
        raise ValueError("Damaged record: the tensor's checksum differs.")
    return from_bit_patterns(flat, shape, dtype)


def decode(reader, shape, dtype, coding="ans"):
    """Decodes a tensor.

    Args:
        reader: A `tfcomp.coding.serial.RecordReader` at its first byte.
        shape: Its shape, a tuple.
        dtype: Its numpy dtype.
        coding: What it was encoded with.

    Returns:
        The numpy array.

    Raises:
        ValueError: If it is damaged, or larger than the reader allows.
    """
    size = int(np.prod(shape, dtype=object))
    reader.check_size(size * dtype.itemsize)
    if not size:
        return np.zeros(shape, dtype)
    form = reader.byte()
    if form == SCALED:
        return _read_scaled(reader, shape, dtype, CODERS[coding])
    return _read(reader, form, shape, dtype, CODERS[coding])


def name_of(data):
    """Names the form of an encoded tensor, `"sparse palette"` for instance."""
    if not data:
        return "empty"
    form, prefix = data[0], ""
    if form == SCALED:
        # The units' form cannot be seen without decoding the scales.
        return "scaled"
    prefix = "relative " if form & RELATIVE else "sparse " if form & SPARSE else ""
    return prefix + ("palette" if form & PALETTE else "planes")
