"""TensorFlow ops that decode what `tfcomp.storage.streams` packs.

All forms work on bit patterns, until scales are multiplied: no kernel of TensorFlow then rounds,
flushes or normalizes a float on its way. A form that is to be exported has its decoder here.

Tensors of one kind are decoded in a loop, so that a SavedModel holds their ops once, and TensorFlow
prepares them once, however many tensors there are: each costs its bytes and a few numbers.
"""

import math
from typing import NamedTuple

import tensorflow as tf

# Integers that TensorFlow scatters and gathers, by their bytes.
_PATTERNS = {1: tf.uint8, 2: tf.uint16, 4: tf.int32, 8: tf.int64}
# How many tensors are decoded at a time, each of which takes several times its size.
_AT_ONCE = 4


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
    """What tensors have in common that one loop decodes."""

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


def _decoded(kind, numbers, data):
    """The elements of a tensor, flat.

    Args:
        kind: Its `_Kind`.
        numbers: int64 vector: the number of elements, and then width and count of each stream.
        data: List of the bytes of each stream, scalar string tensors.
    """
    pairs = iter(zip(data, tf.unstack(numbers[1::2]), tf.unstack(numbers[2::2])))
    packings = (kind.positions, kind.table, kind.values)
    integers = [packing and _integers(packing, *next(pairs)) for packing in packings]
    return _elements(kind, numbers[0], *integers)


def _loop(kind, numbers, data):
    """The elements of tensors of a kind, from a row of `numbers` and of each of `data` for each."""
    count = len(numbers)
    numbers = tf.constant(numbers, tf.int64)
    if count == 1:
        return [_decoded(kind, numbers[0], [tf.reshape(strings, []) for strings in data])]
    found = tf.TensorArray(tf.as_dtype(kind.dtype), count, element_shape=[None], infer_shape=False)

    def step(index, found):
        row = [tf.gather(strings, index) for strings in data]
        return index + 1, found.write(index, _decoded(kind, tf.gather(numbers, index), row))

    _, found = tf.while_loop(
        lambda index, _: index < count, step, [0, found], parallel_iterations=_AT_ONCE
    )
    return [found.read(index) for index in range(count)]


def is_decodable(dtype):
    """Whether TensorFlow can make tensors of a dtype out of bit patterns; of float8 it cannot."""
    return not tf.as_dtype(dtype).name.startswith("float8")


def _kind(packed, is_file):
    def packing(stream):
        if stream is None:
            return None
        width = None if stream.layout == "bits" and stream.width else stream.width
        return _Packing(stream.layout, width, stream.deflated, is_file(stream.data))

    streams = (packing(stream) for stream in (packed.positions, packed.table, packed.values))
    is_large = math.prod(packed.shape) >= 1 << 31
    return _Kind(packed.dtype.name, is_large, packed.where, *streams)


def decode(tensors, source):
    """Builds the ops that decode tensors.

    Args:
        tensors: List of `tfcomp.storage.packed.Streams`.
        source: Has the bytes of streams. `source.is_file(data)` says whether it has them in a file;
            `source.strings(list)` returns a string tensor of bytes or, where they are in files, of
            the paths of these.

    Returns:
        List of tensors of the shapes and dtypes of those that were coded.
    """
    scales = [packed.scales for packed in tensors if packed.scales is not None]
    groups = {}
    for packed in [*tensors, *scales]:
        if packed.values is not None:
            groups.setdefault(_kind(packed, source.is_file), []).append(packed)
    flat = {}
    for kind, group in groups.items():
        rows = [packed.own() for packed in group]
        numbers = [
            [math.prod(packed.shape)] + [n for stream in row for n in (stream.width, stream.count)]
            for packed, row in zip(group, rows)
        ]
        data = [source.strings([stream.data for stream in column]) for column in zip(*rows)]
        flat.update(zip(map(id, group), _loop(kind, numbers, data)))

    def tensor(packed):
        if packed.values is None:
            return tf.zeros(packed.shape, tf.as_dtype(packed.dtype))
        value = tf.reshape(flat[id(packed)], packed.shape)
        return value if packed.scales is None else tensor(packed.scales) * value

    return [tensor(packed) for packed in tensors]
