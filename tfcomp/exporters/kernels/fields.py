"""Products with weights of a few bits, decoded while they are multiplied.

A word of 32 bits holds the codes of several inputs of one output. What a code stands for is a float
after a few instructions, but for a power of two that the input is multiplied by beforehand, which
is exact: the number that is masked where it stands; or the bits of a float, where the code has been
shifted to its sign and exponent.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels.codes import codes_of
from tfcomp.exporters.kernels.compiled import compiled
from tfcomp.exporters.kernels.gathered import summed

# Outputs that are computed together, which share what is done to inputs. Of codes of up to two bits
# there is room for more of them.
_LANES, _MANY_LANES = 256, 1024
# Inputs that are written out, in so many sums.
_UNROLLED = 64
_SUMS = 8
# Where a float has its exponent, and what its powers of two are offset by.
_EXPONENT, _BIAS = 23, 127
# Products are so much smaller than they should be, by their exponents: neither inputs of 1e15 nor
# of 1e-15 leave the range of floats on the way.
_RANGE = 60


class Fields(NamedTuple):
    """A matrix of codes, laid out.

    Attributes:
        kind: As in `Codes`.
        bits: As in `Codes`.
        words: int32 array of shape `(blocks, parts, words, lanes)`.
        factors: float32 array of shape `(numbers, blocks, lanes)`.
        offset: float32 array of shape `(blocks, lanes)`.
    """

    kind: str
    bits: int
    words: np.ndarray
    factors: np.ndarray
    offset: np.ndarray


def fields(matrix):
    """Lays out a matrix of which each output has few values.

    Args:
        matrix: float32 array of shape `(inputs, outputs)`.

    Returns:
        `Fields`, or `None` if there are no such codes.
    """
    found = codes_of(matrix)
    if found is None:
        return None
    per = 32 // found.bits
    lanes = _lanes(found.bits, matrix.shape[1])
    rests = (-matrix.shape[0] % _UNROLLED, -matrix.shape[1] % lanes)
    codes = np.pad(found.codes, [(0, rest) for rest in rests])
    words = np.zeros((codes.shape[0] // per, codes.shape[1]), np.uint32)
    for place in range(per):
        words |= codes[place::per] << np.uint32(found.bits * place)
    blocks = codes.shape[1] // lanes
    words = words.reshape(-1, _UNROLLED // per, blocks, lanes)
    words = np.ascontiguousarray(words.transpose(2, 0, 1, 3)).view(np.int32)
    factors, offset = (
        np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, rests[1])])
        for array in (found.factors * _unit(found.kind), found.offset)
    )
    factors = np.float32(factors).reshape(-1, blocks, lanes)
    return Fields(found.kind, found.bits, words, factors, offset.reshape(blocks, lanes))


def _lanes(bits, outputs):
    """Many lanes where no more of them are filled up than of few."""
    is_filled = -outputs % _MANY_LANES <= -outputs % _LANES
    return _MANY_LANES if bits <= 2 and is_filled else _LANES


def _unit(kind):
    return np.float32(1 if kind == "steps" else 2.0**_RANGE)


@functools.cache
def multiply(kind, bits, outputs):
    """The compiled function that multiplies by codes of a kind, one for all matrices.

    Returns:
        Function of inputs, a float32 tensor of static shape `(samples, inputs)`, and the arrays of
        `Fields` as tensors. It returns a tensor of shape `(samples, outputs)`.
    """
    decode = _DECODED[kind]

    def product(inputs, words, factors, offset):
        found = offset[:, None] * _sum(inputs)[None, :, None]
        terms = _terms(inputs, words, bits, decode)
        each = _SUMS // factors.shape[0]
        for factor, number in zip(tf.unstack(factors), zip(*terms)):
            found += factor[:, None] * tf.reduce_sum(summed(number, each), 1)
        return _in_order(found, outputs)

    return compiled(product)


def _sum(inputs):
    """The sum of each sample, vector by vector: XLA adds up numbers one after the other."""
    padded = tf.pad(inputs, [[0, 0], [0, -inputs.shape[1] % _UNROLLED]])
    return tf.reduce_sum(tf.reduce_sum(tf.reshape(padded, [inputs.shape[0], -1, _UNROLLED]), 1), 1)


def _terms(inputs, words, bits, decode):
    """Lists of products with the numbers that codes stand for, for each input written out."""
    samples, count = inputs.shape
    parts, per_part = words.shape[1:3]
    per = 32 // bits
    rest = parts * _UNROLLED - count
    split = tf.reshape(tf.pad(inputs, [[0, 0], [0, rest]]), [samples, parts, per_part, per])
    for word in range(per_part):
        codes = words[:, :, word][:, :, None]
        for place in range(per):
            each = tf.transpose(split[:, :, word, place])[None, :, :, None]
            found = decode(codes, bits, place)
            yield [number * (each * np.float32(unit)) for number, unit in found]


def _in_order(blocks, outputs):
    """Sums by blocks as a tensor of shape `(samples, outputs)`."""
    count, samples, lanes = blocks.shape
    return tf.reshape(tf.transpose(blocks, (1, 0, 2)), [samples, count * lanes])[:, :outputs]


# ---- what codes at one place of each word stand for: floats, and what they lack


def _steps(words, bits, place):
    if place < 32 // bits - 1:
        mask = np.int32((2**bits - 1) << (bits * place))
        return [(tf.cast(tf.bitwise.bitwise_and(words, mask), tf.float32), 2.0 ** (-bits * place))]
    # The highest would be a negative number: shift it down.
    code = tf.bitcast(_shifted(words, -bits * place), tf.int32)
    return [(tf.cast(code, tf.float32), 1.0)]


def _powers(words, bits, place):
    # To the sign of a float, and from there to its exponent, which copies the sign to the bits
    # between them.
    top = _shifted(words, 32 - bits * (place + 1))
    moved = tf.bitwise.right_shift(top, np.int32(32 - _EXPONENT - bits))
    mask = ((1 << (bits - 1)) - 1) << _EXPONENT
    return [(_masked(moved, mask - (1 << 31)), 2.0 ** (_BIAS - _RANGE))]


def _bits(words, bits, place):
    found = []
    for bit in range(bits * place, bits * (place + 1)):
        byte, at = divmod(bit, 8)
        moved = _shifted(words, _EXPONENT - 8 * byte)
        found.append((_masked(moved, 1 << (_EXPONENT + at)), 2.0 ** (_BIAS - 2**at - _RANGE)))
    return found


_DECODED = {"steps": _steps, "powers": _powers, "bits": _bits}


def _shifted(words, up):
    if up >= 0:
        return tf.bitwise.left_shift(words, np.int32(up)) if up else words
    down = tf.bitwise.right_shift(tf.bitcast(words, tf.uint32), np.uint32(-up))
    return tf.bitcast(down, tf.int32)


def _masked(words, mask):
    return tf.bitcast(tf.bitwise.bitwise_and(words, np.int32(mask)), tf.float32)
