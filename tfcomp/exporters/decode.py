"""TensorFlow ops that decode what `tfcomp.storage.streams` packs.

All forms work on bit patterns, until scales are multiplied: no kernel of TensorFlow then rounds,
flushes or normalizes a float on its way. A form that is to be exported has its decoder here.

The ops that decode one kind of tensor are a function, which a SavedModel holds once, however many
tensors of that kind there are: each costs a call, its bytes and a few numbers.
"""

import functools
import math
from typing import NamedTuple

import tensorflow as tf

# Integers that TensorFlow scatters and gathers, by their bytes.
_PATTERNS = {1: tf.uint8, 2: tf.uint16, 4: tf.int32, 8: tf.int64}
# Functions are called, not copied into their callers and optimized there one by one.
_CALLED = {"_noinline": True}


class _Packing(NamedTuple):
    """How a stream is packed, apart from numbers: that which decides on its ops.

    Attributes:
        layout: One of `tfcomp.storage.stream.LAYOUTS`.
        width: Bytes of an integer, 0 if all are zero, and `None` where bits are a number.
        deflated: Whether its bytes are a zlib stream.
        is_file: Whether its bytes are the path of a file that has them.
    """

    layout: str
    width: int | None
    deflated: bool
    is_file: bool


class _Kind(NamedTuple):
    """What tensors have in common that one function decodes."""

    dtype: str
    is_large: bool
    where: str | None
    positions: _Packing | None
    table: _Packing | None
    values: _Packing


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.uint8),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([], tf.int64),
    ],
    autograph=False,
    experimental_attributes=_CALLED,
)
def _unpack_bits(data, width, count):
    """Integers of `width` bits each, lowest first, out of bytes."""
    # Eight integers fill `width` bytes, and each lies in one byte or two neighbouring ones.
    groups = (count + 7) // 8
    data = tf.pad(data, [[0, groups * width - tf.size(data, tf.int64)]])
    data = tf.cast(tf.reshape(data, [groups, width]), tf.uint16)
    first = tf.range(8, dtype=tf.int64) * width
    low = tf.gather(data, first // 8, axis=1)
    high = tf.gather(data, tf.minimum(first // 8 + 1, width - 1), axis=1)
    words = tf.bitwise.bitwise_or(low, tf.bitwise.left_shift(high, tf.constant(8, tf.uint16)))
    words = tf.bitwise.right_shift(words, tf.cast(first % 8, tf.uint16))
    mask = tf.bitwise.left_shift(tf.constant(1, tf.uint16), tf.cast(width, tf.uint16)) - 1
    integers = tf.cast(tf.bitwise.bitwise_and(words, mask), tf.uint8)
    return tf.reshape(integers, [-1])[:count]


def _integers(packing, data, width, count):
    """The integers of a stream, as bytes where they fit and else as in `_PATTERNS`."""
    if packing.width == 0:
        return tf.zeros([count], tf.uint8)
    if packing.is_file:
        data = tf.io.read_file(data)
    if packing.deflated:
        data = tf.io.decode_compressed(data, compression_type="ZLIB")
    data = tf.io.decode_raw(data, tf.uint8)
    if packing.layout == "bits":
        return _unpack_bits(data, width, count)
    if packing.width == 1:
        return data
    if packing.layout == "planes":
        data = tf.transpose(tf.reshape(data, [packing.width, count]))
    else:
        data = tf.reshape(data, [count, packing.width])
    return tf.bitcast(data, _PATTERNS[packing.width])


def _positions(kind, integers):
    """Positions of the elements that are stored."""
    if kind.where == "bitmap":
        return tf.reshape(tf.where(integers > 0), [-1])
    # Two bytes are unsigned in `_PATTERNS`; four never reach the sign here.
    gaps = tf.cast(integers, tf.int64 if kind.is_large else tf.int32)
    return tf.cumsum(gaps + 1) - 1


def _elements(kind, size, positions, table, values):
    """All elements, from the integers of the streams."""
    dtype = tf.as_dtype(kind.dtype)
    if table is not None:
        table = tf.cast(table, _PATTERNS[dtype.size]) if kind.table.width == 0 else table
        values = tf.gather(table, tf.cast(values, tf.int32))
    if positions is not None:
        positions = _positions(kind, positions)
        shape = tf.cast(size, positions.dtype)[tf.newaxis]
        values = tf.scatter_nd(positions[:, tf.newaxis], values, shape)
    if dtype.is_bool:
        return tf.cast(values, tf.bool)
    return values if values.dtype == dtype else tf.bitcast(values, dtype)


@functools.cache
def _decoder(kind):
    """The function that decodes tensors of a kind.

    It takes an int64 vector, of the number of elements and then of width and count of each stream,
    and the bytes of each stream. It returns the elements.
    """
    packings = (kind.positions, kind.table, kind.values)
    number = sum(packing is not None for packing in packings)

    def decoded(numbers, *data):
        pairs = iter(zip(data, tf.unstack(numbers[1::2]), tf.unstack(numbers[2::2])))
        integers = [packing and _integers(packing, *next(pairs)) for packing in packings]
        return _elements(kind, numbers[0], *integers)

    specs = [tf.TensorSpec([1 + 2 * number], tf.int64)] + [tf.TensorSpec([], tf.string)] * number
    return tf.function(
        decoded, input_signature=specs, autograph=False, experimental_attributes=_CALLED
    )


def is_decodable(dtype):
    """Whether TensorFlow can make tensors of a dtype out of bit patterns; of float8 it cannot."""
    return not tf.as_dtype(dtype).name.startswith("float8")


def decode(packed, source):
    """Builds the ops that decode a tensor.

    Args:
        packed: `tfcomp.storage.packed.Streams`.
        source: Callable that takes bytes and returns a scalar string tensor of them, and whether it
            is the path of a file that has them instead.

    Returns:
        A tensor of the shape and dtype of the one that was coded.
    """
    if packed.values is None:
        return tf.zeros(packed.shape, tf.as_dtype(packed.dtype))
    size = math.prod(packed.shape)
    numbers, data, packings = [size], [], []
    for stream in (packed.positions, packed.table, packed.values):
        if stream is None:
            packings.append(None)
            continue
        tensor, is_file = source(stream.data)
        numbers += [stream.width, stream.count]
        data.append(tensor)
        width = None if stream.layout == "bits" and stream.width else stream.width
        packings.append(_Packing(stream.layout, width, stream.deflated, is_file))
    kind = _Kind(packed.dtype.name, size >= 1 << 31, packed.where, *packings)
    value = tf.reshape(_decoder(kind)(tf.constant(numbers, tf.int64), *data), packed.shape)
    return value if packed.scales is None else decode(packed.scales, source) * value
