"""TensorFlow ops that decode what `tfcomp.coding` codes.

All codings but the scaled one work on bit patterns: no kernel of TensorFlow then rounds, flushes
or normalizes a float on its way. A new coding that is to be exported gets a function here.
"""

import math

import tensorflow as tf

# Integers that TensorFlow scatters and gathers, by their bytes.
_PATTERNS = {1: tf.uint8, 2: tf.uint16, 4: tf.int32, 8: tf.int64}

# The codings that have a decoder here.
CODINGS = ("raw", "palette", "bitmap", "gaps", "scaled")


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


def _positive(integers, dtype):
    # Two bytes are unsigned in `_PATTERNS`; four and eight never reach the sign here.
    return tf.cast(integers, dtype)


def _raw(coded, source):
    return _integers(coded.parts["elements"], source)


def _palette(coded, source):
    table = _integers(coded.parts["table"], source)
    indices = _positive(_integers(coded.parts["indices"], source), tf.int32)
    return tf.gather(table, indices)


def _scatter(positions, coded, source):
    values = _flat(coded.parts["values"], source)
    shape = tf.constant([coded.size], positions.dtype)
    return tf.scatter_nd(positions[:, tf.newaxis], values, shape)


def _bitmap(coded, source):
    mask = _integers(coded.parts["mask"], source)
    return _scatter(tf.reshape(tf.where(mask > 0), [-1]), coded, source)


def _gaps(coded, source):
    dtype = tf.int32 if coded.size < 1 << 31 else tf.int64
    gaps = _positive(_integers(coded.parts["gaps"], source), dtype)
    return _scatter(tf.cumsum(gaps + 1) - 1, coded, source)


_FLAT = {"raw": _raw, "palette": _palette, "bitmap": _bitmap, "gaps": _gaps}


def _flat(coded, source):
    return _FLAT[coded.coding](coded, source)


def is_decodable(dtype):
    """Whether TensorFlow can make tensors of a dtype out of bit patterns; of float8 it cannot."""
    return not tf.as_dtype(dtype).name.startswith("float8")


def decode(coded, source):
    """Builds the ops that decode a tensor.

    Args:
        coded: A `tfcomp.coding.Coded` in one of `CODINGS`.
        source: Callable that makes a scalar string tensor of bytes.

    Returns:
        A tensor of the shape and dtype of the one that was coded.
    """
    if coded.coding == "scaled":
        scales, units = coded.parts["scales"], coded.parts["units"]
        return decode(scales, source) * decode(units, source)
    patterns = _flat(coded, source)
    dtype = tf.as_dtype(coded.dtype)
    if dtype.is_bool:
        value = tf.cast(patterns, tf.bool)
    else:
        value = patterns if patterns.dtype == dtype else tf.bitcast(patterns, dtype)
    return value if coded.shape == (math.prod(coded.shape),) else tf.reshape(value, coded.shape)
