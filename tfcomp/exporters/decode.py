"""TensorFlow ops that decode what `tfcomp.storage.streams` packs.

All forms work on bit patterns, until scales are multiplied: no kernel of TensorFlow then rounds,
flushes or normalizes a float on its way. A form that is to be exported has its decoder here.
"""

import math

import tensorflow as tf

# Integers that TensorFlow scatters and gathers, by their bytes.
_PATTERNS = {1: tf.uint8, 2: tf.uint16, 4: tf.int32, 8: tf.int64}


@tf.function(
    input_signature=[
        tf.TensorSpec([None], tf.uint8),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([], tf.int64),
    ],
    autograph=False,
)
def _unpack_bits(data, width, count):
    """Integers of `width` bits each, lowest first, out of bytes.

    One function for all widths, so that a SavedModel holds its ops once.
    """
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


def _integers(stream, source):
    """The integers of a stream, as bytes where they fit and else as in `_PATTERNS`."""
    if stream.layout == "bits" and stream.width == 0:
        return tf.zeros([stream.count], tf.uint8)
    data = source(stream.data)
    if stream.deflated:
        data = tf.io.decode_compressed(data, compression_type="ZLIB")
    data = tf.io.decode_raw(data, tf.uint8)
    if stream.layout == "bits":
        return _unpack_bits(data, stream.width, stream.count)
    if stream.width == 1:
        return data
    if stream.layout == "planes":
        data = tf.transpose(tf.reshape(data, [stream.width, stream.count]))
    else:
        data = tf.reshape(data, [stream.count, stream.width])
    return tf.bitcast(data, _PATTERNS[stream.width])


def _positions(where, stream, size, source):
    """Positions of the elements that are stored."""
    integers = _integers(stream, source)
    if where == "bitmap":
        return tf.reshape(tf.where(integers > 0), [-1])
    # Two bytes are unsigned in `_PATTERNS`; four never reach the sign here.
    gaps = tf.cast(integers, tf.int32 if size < 1 << 31 else tf.int64)
    return tf.cumsum(gaps + 1) - 1


def _patterns(packed, source):
    """All elements, as integers of as many bits."""
    values = _integers(packed.values, source)
    if packed.table is not None:
        table = _integers(packed.table, source)
        if packed.table.width == 0:
            table = tf.cast(table, _PATTERNS[packed.dtype.itemsize])
        values = tf.gather(table, tf.cast(values, tf.int32))
    if packed.positions is None:
        return values
    size = math.prod(packed.shape)
    positions = _positions(packed.where, packed.positions, size, source)
    return tf.scatter_nd(positions[:, tf.newaxis], values, tf.constant([size], positions.dtype))


def is_decodable(dtype):
    """Whether TensorFlow can make tensors of a dtype out of bit patterns; of float8 it cannot."""
    return not tf.as_dtype(dtype).name.startswith("float8")


def decode(packed, source):
    """Builds the ops that decode a tensor.

    Args:
        packed: `tfcomp.storage.packed.Streams`.
        source: Callable that makes a scalar string tensor of bytes.

    Returns:
        A tensor of the shape and dtype of the one that was coded.
    """
    dtype = tf.as_dtype(packed.dtype)
    if packed.values is None:
        return tf.zeros(packed.shape, dtype)
    value = _patterns(packed, source)
    if dtype.is_bool:
        value = tf.cast(value, tf.bool)
    elif value.dtype != dtype:
        value = tf.bitcast(value, dtype)
    if len(packed.shape) != 1:
        value = tf.reshape(value, packed.shape)
    return value if packed.scales is None else decode(packed.scales, source) * value
