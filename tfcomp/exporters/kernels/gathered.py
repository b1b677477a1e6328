"""Products with a matrix of which single weights are pruned, in any pattern.

The inputs of each weight are gathered. For one sample the lanes of a vector are outputs, for a few
they are samples. Every output has as many weights as the one with the most, filled up with zeros.
For one sample, outputs with far fewer of them are apart.
"""

import itertools

import numpy as np
import tensorflow as tf

LANES = 16
# Weights of an output whose products are written out; several sums run beside each other, since
# each addition waits for the one before.
_UNROLLED, _SUMS = 32, 4
# The same where lanes are outputs, of which as many are written out as leave least to fill up: what
# is more at once does not fit into registers.
_UNROLLED_LANES, _SUMS_LANES = range(16, 25), 2
# Outputs with fewer weights are apart if that saves such a share of the products.
_APART = 0.25


def padded_rows(matrix, multiple=_UNROLLED):
    """Positions and values of the weights of each output.

    Args:
        matrix: Array of shape `(inputs, outputs)`.
        multiple: The number of weights of an output is made a multiple of this.

    Returns:
        int32 array of inputs and array of values, of shape `(outputs, weights)`.
    """
    kept = matrix.T != 0
    most = max(1, int(kept.sum(axis=1).max()))
    most = -(-most // multiple) * multiple
    # The kept inputs of each output first, in their order.
    order = np.argsort(~kept, axis=1, kind="stable")[:, :most]
    order = np.pad(order, ((0, 0), (0, most - order.shape[1])))
    values = np.take_along_axis(matrix.T, order, axis=1)
    values[:, kept.shape[1] :] = 0
    return np.where(values != 0, order, 0).astype(np.int32), values


def by_outputs(matrix):
    """Lays out a matrix for one sample.

    Returns:
        List of arrays: inputs, uint16 if they are few enough, and values, both of shape
        `(blocks, parts, unrolled, lanes)`; or these of outputs with few weights, of the others, and
        an int32 array of where each output stands among all of them.
    """
    counts = np.count_nonzero(matrix, axis=0)
    unrolled = _unrolled(max(1, counts.max()))
    order = np.argsort(counts, kind="stable")
    heights = np.array(
        [counts[order[begin:][:LANES]].max() for begin in range(0, len(order), LANES)]
    )
    heights = np.maximum(-(-heights // unrolled), 1)
    # Products if so many blocks are apart.
    apart = np.arange(len(heights))
    products = apart * heights[apart - 1] + (len(heights) - apart) * heights[-1]
    cut = int(np.argmin(products))
    if products[cut] > (1 - _APART) * products[0]:
        return _lanes(matrix, unrolled)
    parts = [_lanes(matrix[:, part], unrolled) for part in np.split(order, [cut * LANES])]
    return [*itertools.chain(*parts), _inverse(order)]


def _unrolled(most):
    """How many weights of an output to write out, of so many at most."""
    numbers = range(min(most, _UNROLLED_LANES[0]), _UNROLLED_LANES[-1] + 1)
    return min(numbers, key=lambda number: (-(-most // number) * number, -number))


def _inverse(order):
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order))
    return places


def _lanes(matrix, unrolled):
    rest = -matrix.shape[1] % LANES
    kept, values = padded_rows(np.pad(matrix, ((0, 0), (0, rest))), unrolled)
    # Without a sign: XLA has nothing to do about negative numbers then.
    if matrix.shape[0] <= np.iinfo(np.uint16).max:
        kept = kept.astype(np.uint16)
    blocks = kept.shape[0] // LANES
    laid = [a.reshape(blocks, LANES, -1).transpose(0, 2, 1) for a in (kept, values)]
    return [np.ascontiguousarray(a.reshape(blocks, -1, unrolled, LANES)) for a in laid]


def by_samples(matrix):
    """Lays out a matrix for a few samples: arrays of shape `(outputs, parts, unrolled)`."""
    return [a.reshape(a.shape[0], -1, _UNROLLED) for a in padded_rows(matrix)]


def summed(terms, sums=_SUMS):
    """Adds up terms in several sums, which are added at last, pair by pair."""
    totals = [None] * sums
    for number, term in enumerate(terms):
        total = totals[number % sums]
        totals[number % sums] = term if total is None else total + term
    totals = [total for total in totals if total is not None]
    while len(totals) > 1:
        pairs = [a + b for a, b in zip(totals[::2], totals[1::2])]
        totals = pairs + totals[len(totals) // 2 * 2 :]
    return totals[0]


def product_of_one(inputs, *arrays):
    """Multiplies one sample, within `tf.function(jit_compile=True)`.

    Args:
        inputs: Tensor of shape `(1, inputs)`.
        *arrays: Tensors as from `by_outputs`.

    Returns:
        Tensor of shape `(1, outputs)`, all outputs and, if they are in order, zeros beyond.
    """
    found = [_product_of_lanes(inputs, *pair) for pair in zip(arrays[::2], arrays[1::2])]
    return found[0] if len(found) == 1 else tf.gather(tf.concat(found, 1), arrays[-1], axis=1)


def _product_of_lanes(inputs, kept, values):
    terms = (
        tf.gather(inputs[0], tf.cast(kept[:, :, number], tf.int32)) * values[:, :, number]
        for number in range(kept.shape[2])
    )
    return tf.reshape(tf.reduce_sum(summed(terms, _SUMS_LANES), 1), [1, -1])


def product_of_columns(columns, kept, values):
    """Multiplies a few samples, within `tf.function(jit_compile=True)`.

    The samples are columns, transposed before: XLA would read across the gaps of a transposition of
    its own.

    Args:
        columns: Tensor of shape `(inputs, samples)`.
        kept: Tensor as from `by_samples`.
        values: Tensor as from `by_samples`.

    Returns:
        Tensor of shape `(outputs, samples)`.
    """
    terms = (
        tf.gather(columns, kept[:, :, number]) * values[:, :, number, None]
        for number in range(kept.shape[2])
    )
    return tf.reduce_sum(summed(terms), 1)
