"""Bits, 64 to a word.

Bit `i` of word `j` is channel `64 j + i`, and 1 stands for +1, 0 for -1. Bits beyond the last
channel are 0 in inputs and weights alike, so that they never differ.
"""

import functools

import numpy as np
import tensorflow as tf

BITS = 64
# The value of each bit of a word; the last is the sign.
PLACES = (np.uint64(1) << np.arange(BITS, dtype=np.uint64)).view(np.int64)
# Eight bytes of 0 or 1, multiplied by this, leave their bits in the top byte.
_COLLECT = np.int64(0x0102040810204080)


def words_of(channels):
    """How many words hold so many channels."""
    return -(-channels // BITS)


def pack_array(bits):
    """Packs the last axis of a NumPy array.

    Args:
        bits: Boolean array of shape `(..., channels)`.

    Returns:
        int64 array of shape `(..., words)`.
    """
    rest = -bits.shape[-1] % BITS
    bits = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, rest)])
    packed = np.packbits(np.ascontiguousarray(bits), axis=-1, bitorder="little")
    return packed.view("<i8").astype(np.int64, copy=False)


def pack(bits):
    """Packs the last axis of a tensor; the words come first.

    Args:
        bits: Boolean tensor of static shape `(..., channels)`.

    Returns:
        int64 tensor of shape `(words, ...)`.
    """
    *outer, channels = bits.shape
    rest = -channels % BITS
    if rest:
        bits = tf.pad(bits, [[0, 0]] * len(outer) + [[0, rest]])
    lanes = tf.reshape(bits, [*outer, words_of(channels), BITS])
    return tf.transpose(by_eights(lanes), [len(outer), *range(len(outer))])


def sum_of_places(lanes):
    """Packs an axis of 64 bits, the last, by adding up the values of their places."""
    return tf.reduce_sum(tf.where(lanes, PLACES, tf.zeros((), tf.int64)), -1)


def by_eights(lanes):
    """The same in two steps, where the bits are there and cost nothing to compute again.

    XLA would write the values of all places down to add them up.
    """
    eights = tf.reshape(lanes, [*lanes.shape[:-1], 8, 8])
    values = tf.where(eights, PLACES.reshape(8, 8), tf.zeros((), tf.int64))
    columns = tf.unstack(tf.reduce_sum(values, -2), axis=-1)
    return functools.reduce(tf.bitwise.bitwise_or, columns)


def collected(lanes):
    """The same by bytes, which is faster where there is little else to do for a word."""
    outer = lanes.shape[:-1]
    eights = tf.bitcast(tf.reshape(tf.cast(lanes, tf.uint8), [*outer, 8, 8]), tf.int64)
    top = tf.bitwise.right_shift(tf.bitcast(eights * _COLLECT, tf.uint64), np.uint64(56))
    return tf.bitcast(tf.cast(top, tf.uint8), tf.int64)
