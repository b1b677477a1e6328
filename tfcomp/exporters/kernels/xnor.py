"""Products of signs: XNOR and a count of bits, where a float kernel multiplies and adds.

A sum of `n` products of signs is `n - 2 m`, where `m` counts the bits that differ. The sums over
positions of the window and words are written out term by term, which is what XLA turns into vector
instructions; a loop or a reduction over them is ten times slower. To be called within
`tf.function(jit_compile=True)`, all shapes being static.

Mohammad Rastegari, Vicente Ordonez, Joseph Redmon, Ali Farhadi, "XNOR-Net: ImageNet Classification
Using Binary Convolutional Neural Networks", arXiv:1603.05279.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels.words import (
    BITS,
    PLACES,
    collected,
    pack_array,
    sum_of_places,
    words_of,
)

# Terms that are written out; more of them are split into a further axis, which is summed up.
_TERMS = 320
# Up to so many terms, weights of eight outputs at a time stay in registers.
_FEW_TERMS = 9
# Lanes of a dense layer whose outputs are not packed. Its weights, which are read once, lie in the
# order in which they are read. Those of a convolution have whole words: fewer blocks to put in
# order.
_DENSE_LANES = 16


class Window(NamedTuple):
    """What a convolution does with space; a dense layer's has no axes.

    Attributes:
        size: Positions along each axis.
        strides: As in Keras.
        dilation: As in Keras.
        pads: `(before, after)` for each axis.
        pad_value: -1, 0 or 1.
        groups: Groups of channels.
    """

    size: tuple = ()
    strides: tuple = ()
    dilation: tuple = ()
    pads: tuple = ()
    pad_value: int = 0
    groups: int = 1

    @property
    def offsets(self):
        """Positions in the window, in the order of a kernel's axes."""
        return list(itertools.product(*(range(size) for size in self.size)))

    def outputs(self, space):
        """Lengths of the outputs for inputs of such lengths."""
        reach = [(size - 1) * step + 1 for size, step in zip(self.size, self.dilation)]
        padded = [length + sum(pads) for length, pads in zip(space, self.pads)]
        return [(p - r) // s + 1 for p, r, s in zip(padded, reach, self.strides)]

    def cut(self, offset, space):
        """Slices of the axes of space of padded inputs: what lies under one position."""
        cut = []
        for o, step, stride, length in zip(
            offset, self.dilation, self.strides, self.outputs(space)
        ):
            first = o * step
            cut.append(slice(first, first + (length - 1) * stride + 1, stride))
        return cut

    def seen(self, array, offset, space):
        """The part of padded inputs, their axes of space last, under one position."""
        return array[(..., *self.cut(offset, space))]


class SignWeights(NamedTuple):
    """Signs of weights as they are multiplied.

    Attributes:
        words: int64 array of shape `(blocks, terms, lanes)`; a term is one word at one position.
        scale: float32 array, one magnitude for each output, or `None` where all are 1.
        outputs: Number of outputs of a group.
    """

    words: np.ndarray
    scale: np.ndarray | None
    outputs: int

    def unpacked(self, window):
        """The same with the lanes that are best where the outputs are not packed."""
        lanes = BITS if window.size else _DENSE_LANES
        terms = self.words.shape[1]
        of_outputs = self.words.transpose(0, 2, 1).reshape(-1, lanes, terms)
        return self._replace(words=np.ascontiguousarray(of_outputs.transpose(0, 2, 1)))

    def of_lanes(self, of_outputs):
        """An array of a number for each output as one of shape `(blocks, lanes)`."""
        blocks, _, lanes = self.words.shape
        return np.pad(of_outputs, (0, blocks * lanes - self.outputs)).reshape(blocks, lanes)


def sign_weights(kernel, groups=1):
    """Lays out a kernel of signs, each output times one magnitude.

    Args:
        kernel: Float array of shape `(*window, inputs of a group, outputs)`.
        groups: Groups of channels.

    Returns:
        List of `SignWeights`, one for each group, or `None` if the kernel is another.
    """
    flat = kernel.reshape(-1, kernel.shape[-1])
    scale = np.abs(flat).max(axis=0)
    if not np.all(np.abs(flat) == scale) or not np.all(scale > 0):
        return None
    signs = kernel.reshape(-1, *kernel.shape[-2:]) > 0
    scale = None if np.all(scale == 1) else scale.astype(np.float32)
    each = signs.shape[-1] // groups
    found = []
    for group in range(groups):
        part = slice(group * each, (group + 1) * each)
        words = _laid_out(signs[..., part])
        found.append(SignWeights(words, None if scale is None else scale[part], each))
    return found


def _laid_out(signs):
    taps, inputs, outputs = signs.shape
    terms = taps * words_of(inputs)
    lanes = 8 if terms <= _FEW_TERMS else BITS
    # Whole words come out, even of eight lanes at a time.
    signs = np.pad(signs, ((0, 0), (0, 0), (0, -outputs % BITS)))
    words = pack_array(signs.transpose(2, 0, 1)).reshape(-1, lanes, terms)
    return np.ascontiguousarray(words.transpose(0, 2, 1))


def padded(words, window, channels):
    """Pads words of shape `(words, batch, *space)` as the window asks; zero counts as -1 here."""
    if not any(map(any, window.pads)):
        return words
    widths = [[0, 0], [0, 0], *map(list, window.pads)]
    if window.pad_value != 1:
        return tf.pad(words, widths)
    # Padded are channels that there are, and not the bits beyond them.
    full = pack_array(np.ones(channels, bool)).reshape(-1, *[1] * (len(words.shape) - 1))
    return tf.bitwise.bitwise_xor(tf.pad(tf.bitwise.bitwise_xor(words, full), widths), full)


def mismatches(words, weights, window):
    """Counts the bits in which inputs and weights differ.

    Args:
        words: int64 tensor of shape `(words, batch, *space)`, padded.
        weights: int64 tensor of shape `(blocks, terms, lanes)`, as `SignWeights.words`.
        window: A `Window`.

    Returns:
        int64 tensor of shape `(blocks, batch, *space, lanes)`.
    """
    pads = [sum(pair) for pair in window.pads]
    space = [length - pad for length, pad in zip(words.shape[2:], pads)]
    # One position after the other, with all words of it.
    terms = [window.seen(words, offset, space) for offset in window.offsets]
    count = int(weights.shape[1])
    if count > _TERMS and len(terms) == 1:
        return _in_parts(terms[0], weights)
    words_first = [part[word] for part in terms for word in range(words.shape[0])]
    total = None
    for number, inputs in enumerate(words_first):
        differ = _differing(inputs[None, ..., None], _spread(weights[:, number], inputs))
        total = differ if total is None else total + differ
    return total


def _differing(inputs, weights):
    bits = tf.bitwise.bitwise_xor(inputs, weights)
    return tf.cast(tf.raw_ops.PopulationCount(x=bits), tf.int64)


def _spread(weights, inputs):
    """Weights `(blocks, lanes)` over a batch and its positions."""
    blocks, lanes = weights.shape
    return tf.reshape(weights, [blocks, *[1] * len(inputs.shape), lanes])


def _in_parts(inputs, weights):
    """The same for one position of many words: the sum of each 64 of them is written out."""
    blocks, count, lanes = weights.shape
    rest = -count % BITS
    inputs = tf.pad(inputs, [[0, rest]] + [[0, 0]] * (len(inputs.shape) - 1))
    weights = tf.pad(weights, [[0, 0], [0, rest], [0, 0]])
    parts = (count + rest) // BITS
    inputs = tf.reshape(inputs, [parts, BITS, *inputs.shape[1:]])
    weights = tf.reshape(weights, [blocks, parts, BITS, lanes])
    total = None
    for word in range(BITS):
        part = inputs[:, word]
        ones = [1] * (len(part.shape) - 1)
        spread = tf.reshape(weights[:, :, word], [blocks, parts, *ones, lanes])
        differ = _differing(part[None, ..., None], spread)
        total = differ if total is None else total + differ
    return tf.reduce_sum(total, 1)


def outside(kernel, window, space):
    """What padding with -1 instead of 0 adds to each output.

    Args:
        kernel: Float array of shape `(*window, inputs of a group, outputs)`, of signs.
        window: A `Window`.
        space: Lengths of the inputs.

    Returns:
        int64 array of shape `(*space of outputs, outputs)`, or 0 without such padding.
    """
    if window.pad_value != 0 or not any(map(any, window.pads)):
        return 0
    sums = -kernel.sum(axis=-2, dtype=np.int64).reshape(len(window.offsets), -1)
    away = np.pad(np.zeros(space, bool), window.pads, constant_values=True)
    added = 0
    for offset, of_tap in zip(window.offsets, sums):
        added = added + window.seen(away, offset, space)[..., None] * of_tap
    return added


def in_blocks(array, lanes):
    """An array `(..., outputs)` as `(blocks, 1, ..., lanes)`, as `mismatches` has its axes."""
    rest = -array.shape[-1] % BITS
    array = np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, rest)])
    array = array.reshape(*array.shape[:-1], -1, lanes)
    return np.moveaxis(array, -2, 0)[:, None]


def products(counted, entries, added):
    """Sums of products from counts of differing bits.

    Args:
        counted: What `mismatches` returns.
        entries: Number of products in a sum.
        added: What `outside` returns.

    Returns:
        float32 tensor of the shape of `counted`.
    """
    sums = entries - 2 * counted
    if not np.isscalar(added):
        sums = sums - in_blocks(added, counted.shape[-1])
    return tf.cast(sums, tf.float32)


def in_order(blocks, outputs):
    """Puts outputs one after the other, outside of what is compiled.

    XLA would compute an output at a time if it had to put it where it belongs.

    Args:
        blocks: Tensor of shape `(blocks, batch, *space, lanes)`.
        outputs: Number of outputs.

    Returns:
        Tensor of shape `(batch, *space, outputs)`.
    """
    count, *outer, lanes = blocks.shape
    if count > 1 and any(size != 1 for size in outer):
        blocks = tf.transpose(blocks, [*range(1, len(outer) + 1), 0, len(outer) + 1])
    found = tf.reshape(blocks, [*outer, count * lanes])
    return found if count * lanes == outputs else found[..., :outputs]


def limits(most, lanes):
    """Lays out how many bits of each output may differ for it to fire; never, for lanes beyond.

    Args:
        most: int64 array of shape `(outputs,)` or `(*space, outputs)`; -1 for never.
        lanes: Lanes of the weights.

    Returns:
        int64 array, as `fired` takes it.
    """
    rest = [(0, 0)] * (most.ndim - 1) + [(0, -most.shape[-1] % BITS)]
    return in_blocks(np.pad(most, rest, constant_values=-1), lanes)


def fired(counted, most):
    """Which outputs have few enough differing bits, packed.

    Args:
        counted: What `mismatches` returns, of shape `(blocks, batch, *space, lanes)`.
        most: What `limits` returns.

    Returns:
        int64 tensor of shape `(words, batch, *space)`.
    """
    spread = [*most.shape[:1], *[1] * (len(counted.shape) - len(most.shape)), *most.shape[1:]]
    bits = counted <= tf.reshape(most, spread)
    blocks, *outer, lanes = bits.shape
    if lanes == BITS:
        return collected(bits) if blocks <= 2 else sum_of_places(bits)
    bits = tf.reshape(bits, [blocks * lanes // BITS, BITS // lanes, *outer, lanes])
    places = PLACES.reshape([1, BITS // lanes, *[1] * len(outer), lanes])
    return tf.reduce_sum(tf.where(bits, places, tf.zeros((), tf.int64)), [1, len(bits.shape) - 1])


def any_of(words, window):
    """Max-pooling of signs: whether any of the bits under a window is 1.

    Args:
        words: int64 tensor of shape `(words, batch, *space)`.
        window: A `Window`; outside of the inputs nothing is 1.

    Returns:
        int64 tensor of shape `(words, batch, *space)`.
    """
    space = words.shape[2:]
    words = tf.pad(words, [[0, 0], [0, 0], *map(list, window.pads)])
    parts = [window.seen(words, offset, space) for offset in window.offsets]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2])
        left = parts[len(parts) // 2 * 2 :]
        parts = [tf.bitwise.bitwise_or(a, b) for a, b in pairs] + left
    return parts[0]
