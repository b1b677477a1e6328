"""Products with weights of a few bits, decoded while they are multiplied.

A word of 32 bits holds the codes of several inputs of one output. Each code is masked where it
stands, made a float, and multiplied by the input times the inverse of its place, which is exact.
A weight is `scale * (code - zero)`, so that the grid of an output contains 0.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels.gathered import summed

LANES = 256
# Inputs that are written out, in so many sums.
_UNROLLED = 64
_SUMS = 8
# What 4 bits can tell apart.
_LEVELS = 16
# Two units in the last place of single precision.
_ROUNDING = 2.0**-22


class Fields(NamedTuple):
    """A matrix of codes.

    Attributes:
        words: int32 array of shape `(blocks, parts, words, lanes)`.
        scale: float32 array, one for each output.
        zero: float32 array, the code of 0 of each output.
        bits: Bits of a code.
    """

    words: np.ndarray
    scale: np.ndarray
    zero: np.ndarray
    bits: int


def _grid(column):
    """Scale, zero and codes of values on a grid of at most 16 steps, or `None`."""
    # Sorted: `np.unique` hashes, which takes far longer.
    ordered = np.sort(column)
    levels = ordered[np.append(True, np.diff(ordered) > 0)]
    if len(levels) > _LEVELS:
        return None
    if len(levels) == 1:
        scale = np.abs(levels[0]) or np.float32(1)
        return scale, np.float32(-np.sign(levels[0])), np.zeros(len(column), np.uint32)
    step = np.diff(levels).min()
    # A multiple of a step is rounded, and a difference of two even more: take the step from the
    # largest level, and let the others be as near as rounding brings them.
    codes = np.rint(levels / step)
    largest = np.argmax(np.abs(levels))
    scale = np.float32(levels[largest] / codes[largest])
    off = np.abs(codes * np.float64(scale) - levels)
    if np.any(off > _ROUNDING * np.abs(levels)) or codes[-1] - codes[0] >= _LEVELS:
        return None
    first = codes[0]
    return scale, np.float32(-first), (np.rint(column / scale) - first).astype(np.uint32)


def fields(matrix):
    """Lays out a matrix of which each output has values on a uniform grid that contains zero.

    Args:
        matrix: float32 array of shape `(inputs, outputs)`.

    Returns:
        `Fields`, or `None` if the values are others, or need more than 4 bits.
    """
    found = []
    for column in matrix.T:
        found.append(_grid(column))
        if found[-1] is None:
            return None
    scale, zero, codes = (np.stack(part) for part in zip(*found))
    codes = codes.T
    bits = 2 if codes.max(initial=0) < 4 else 4
    per = 32 // bits
    rests = (-codes.shape[0] % _UNROLLED, -codes.shape[1] % LANES)
    codes = np.pad(codes, [(0, rest) for rest in rests])
    words = np.zeros((codes.shape[0] // per, codes.shape[1]), np.uint32)
    for place in range(per):
        words |= codes[place::per] << np.uint32(bits * place)
    words = words.reshape(-1, _UNROLLED // per, codes.shape[1] // LANES, LANES)
    words = np.ascontiguousarray(words.transpose(2, 0, 1, 3)).view(np.int32)
    return Fields(words, scale.astype(np.float32), zero.astype(np.float32), bits)


def sums(inputs, words, bits):
    """Sums of inputs times codes, within `tf.function(jit_compile=True)`.

    Args:
        inputs: float32 tensor of static shape `(samples, inputs)`.
        words: Tensor as in `Fields`.
        bits: As in `Fields`.

    Returns:
        Tensor of shape `(blocks, samples, lanes)`.
    """
    samples, count = inputs.shape
    parts, per_part = words.shape[1:3]
    per = 32 // bits
    rest = parts * _UNROLLED - count
    split = tf.reshape(tf.pad(inputs, [[0, 0], [0, rest]]), [samples, parts, per_part, per])

    def terms():
        for word in range(per_part):
            codes = words[:, :, word][:, :, None]
            for place in range(per):
                each = tf.transpose(split[:, :, word, place])[None, :, :, None]
                yield _decoded(codes, bits, place) * (each * np.float32(2.0 ** (-bits * place)))

    return tf.reduce_sum(summed(terms(), _SUMS), 1)


def product(inputs, found, scale, zero):
    """The products with the weights that the codes stand for.

    Args:
        inputs: As `sums` takes them.
        found: What `sums` returned.
        scale: Tensor as in `Fields`.
        zero: Tensor as in `Fields`.

    Returns:
        Tensor of shape `(samples, outputs)`.
    """
    total = tf.reshape(tf.transpose(found, (1, 0, 2)), [inputs.shape[0], -1])
    return scale * (total[:, : scale.shape[0]] - zero * tf.reduce_sum(inputs, 1, keepdims=True))


def _decoded(words, bits, place):
    """The codes at one place of each word, times the value of that place."""
    if place < 32 // bits - 1:
        mask = np.int32((2**bits - 1) << (bits * place))
        return tf.cast(tf.bitwise.bitwise_and(words, mask), tf.float32)
    # The highest would be a negative number: shift it down, and give it its place again.
    shift = np.uint32(bits * place)
    code = tf.bitwise.right_shift(tf.bitcast(words, tf.uint32), shift)
    return tf.cast(tf.bitcast(code, tf.int32), tf.float32) * np.float32(2.0 ** (bits * place))
