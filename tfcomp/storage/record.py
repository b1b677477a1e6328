"""A tensor as bytes and back, bit for bit.

    tensor := form: u8, [rank: varint, dimensions of the scales: varints, tensor of scales], plain
    plain  := crc32 of the elements: u32
              [bytes of the positions, their model]
              bytes of the values, with their models
              chunks
    chunk  := [number of positions' symbols: varint]
              size: varint, the coder's bytes: positions, then values
              bytes that are stored without the coder
    form   := values + 2 * positions, + 8 if scaled

What positions, values and models are in bytes is said where they are defined. Shape and dtype are
not stored. A tensor without elements is no bytes at all.
"""

import math
import zlib

import numpy as np

from tfcomp.storage import choose
from tfcomp.storage.coders import named
from tfcomp.storage.forms import Bitmap, Gaps, Palette, Raw, RelativeIndex
from tfcomp.storage.patterns import bit_patterns, from_bit_patterns
from tfcomp.storage.reader import Reader, varint

_VALUES = (Raw, Palette)
_POSITIONS = (None, Gaps, RelativeIndex, Bitmap)
_SCALED = 8


def _form(coded):
    positions = None if coded.positions is None else type(coded.positions)
    plain = _VALUES.index(type(coded.values)) + 2 * _POSITIONS.index(positions)
    return plain + (0 if coded.scales is None else _SCALED)


def write(coded, coder):
    """Returns the bytes of a `Coded`, by the coder that it was made for."""
    parts = [bytes([_form(coded)])]
    if coded.scales is not None:
        shape = coded.scales.array.shape
        parts += [varint(len(shape)), *map(varint, shape), write(coded.scales, coder)]
    parts.append(zlib.crc32(bit_patterns(coded.array)).to_bytes(4, "little"))
    if coded.positions is not None:
        parts += [coded.positions.to_bytes(), coded.model.to_bytes()]
    parts.append(coded.values.to_bytes())
    for chunk in coded.chunks:
        symbols, values = chunk
        if symbols is not None:
            parts.append(varint(len(symbols)))
        data = coder.encode(coded.fields(chunk))
        parts += [varint(len(data)), data, coded.values.stored(values)]
    return b"".join(parts)


def encode(array, coding):
    """Codes a tensor in its smallest form, exactly.

    Args:
        array: Array of any shape and of a boolean, integer or floating dtype.
        coding: `"deflate"`, `"ans"` or `"huffman"`.

    Returns:
        Bytes, which do not tell shape and dtype.

    Raises:
        ValueError: If the array is no array of numbers.

    Example:

    >>> import numpy as np
    >>> from tfcomp import storage
    >>> kernel = np.random.default_rng(0).choice([-0.5, 0.5], (64, 64)).astype("float32")
    >>> data = storage.encode(kernel, "ans")
    >>> kernel.nbytes, len(data) < 4096 / 8 + 50
    (16384, True)
    >>> bool((storage.decode(data, (64, 64), kernel.dtype, "ans") == kernel).all())
    True
    """
    array, coder = choose.numbers(array), named(coding)
    return write(choose.smallest(array, coder), coder) if array.size else b""


def _split_form(form):
    """Classes of the positions and the values, and whether there are scales."""
    if form >= 2 * _SCALED:
        raise ValueError(f"Damaged record: no form {form}.")
    return _POSITIONS[form >> 1 & 3], _VALUES[form & 1], bool(form & _SCALED)


def _read_scales(reader, shape, dtype, coder):
    if dtype != np.float32 or reader.varint() != len(shape):
        raise ValueError(f"Damaged record: no scales of a tensor of shape {shape}.")
    scales = tuple(reader.varint() for _ in shape)
    if not all(size in (1, axis) for size, axis in zip(scales, shape)):
        raise ValueError(f"Damaged record: scales of shape {scales} of a tensor of {shape}.")
    positions, values, scaled = _split_form(reader.byte())
    if scaled:
        raise ValueError("Damaged record: scales of scales.")
    return _read_plain(reader, positions, values, scales, dtype, coder)


def _read_chunk(reader, out, positions, model, values, coder):
    count = reader.varint() if positions is not None else len(out)
    if count > len(out):
        raise ValueError("Damaged record: more positions than elements.")
    decoder = coder.Decoder(reader.take(reader.varint()))
    if positions is None:
        out[:] = values.take(decoder, reader, count)
    else:
        places = positions.places(decoder.take(model, count), len(out))
        out[places] = values.take(decoder, reader, len(places))
    decoder.finish()


def _read_plain(reader, positions, values, shape, dtype, coder):
    crc = int.from_bytes(reader.take(4), "little")
    model = None
    if positions is not None:
        positions = positions.read(reader)
        model = coder.read(reader, positions.widths)
    values = values.read(reader, dtype.itemsize, coder)
    flat = np.zeros(math.prod(shape), f"<u{dtype.itemsize}")
    for part in choose.chunks_of(flat, coder):
        _read_chunk(reader, part, positions, model, values, coder)
    if zlib.crc32(flat) != crc:
        raise ValueError("Damaged record: the tensor's checksum differs.")
    return from_bit_patterns(flat, shape, dtype)


def decode(data, shape, dtype, coding, max_bytes=1 << 33):
    """Decodes a tensor that `encode` coded.

    Args:
        data: The bytes.
        shape: Its shape.
        dtype: Its dtype.
        coding: What it was encoded with.
        max_bytes: Refuse a tensor that is larger than this.

    Returns:
        The numpy array.

    Raises:
        ValueError: If it is damaged, or larger than `max_bytes`.
    """
    shape, dtype, coder = tuple(shape), np.dtype(dtype), named(coding)
    reader = Reader(data, max_bytes)
    reader.check_size(math.prod(shape) * dtype.itemsize)
    if math.prod(shape):
        positions, values, scaled = _split_form(reader.byte())
        scales = _read_scales(reader, shape, dtype, coder) if scaled else None
        value = _read_plain(reader, positions, values, shape, dtype, coder)
        if scaled:
            with np.errstate(all="ignore"):
                value *= scales
    else:
        value = np.zeros(shape, dtype)
    if reader.left:
        raise ValueError(f"Damaged record: {reader.left} bytes follow its end.")
    return value


def name_of(data):
    """Names the form of a tensor's bytes, `"gaps/palette"` for instance."""
    if not data:
        return "empty"
    positions, values, scaled = _split_form(data[0])
    names = ["scaled"] * scaled + ([positions.NAME] if positions else []) + [values.NAME]
    return "/".join(names)
