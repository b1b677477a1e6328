"""Products with a pruned matrix in which groups of outputs keep the same inputs.

The kept inputs of each group are gathered, and all groups are multiplied at once by a batched
matrix product: plain ops, for any batch size.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# A group's outputs are split into blocks of one of these sizes.
SIZES = (8, 16, 32, 64, 128, 256)
# Blocks are multiplied in so many parts at most, each as tall as the tallest of its blocks.
_PARTS = 4
# More multiplications than this share of the dense ones are not worth the gathering.
_WORTH = 0.6
# An output joins a group that has at least this share of its inputs, and so many that have exactly
# the same inputs are a group.
_ALIKE, _SAME = 0.75, 4


class Blocks(NamedTuple):
    """Some blocks of one height.

    Attributes:
        inputs: int32 array of shape `(blocks, height)`, the inputs that are kept.
        values: Array of shape `(blocks, height, size)`.
    """

    inputs: np.ndarray
    values: np.ndarray


class Shared(NamedTuple):
    """A matrix in blocks.

    Attributes:
        parts: List of `Blocks`.
        order: int32 array: where output `n` stands among the columns of all blocks, or `None` where
            it is column `n`.
    """

    parts: list
    order: np.ndarray | None

    @property
    def arrays(self):
        """The arrays of all parts, and the order if there is one, for `product_of_arrays`."""
        arrays = [array for part in self.parts for array in part]
        return arrays if self.order is None else [*arrays, self.order]

    def factors(self, of_outputs):
        """What each of `arrays` is multiplied by for the outputs to be: arrays, or `None` for none.

        Args:
            of_outputs: Array of shape `(outputs,)`.
        """
        sizes = [len(part.values) * part.values.shape[2] for part in self.parts]
        of_columns = np.ones(sum(sizes), of_outputs.dtype)
        of_columns[np.arange(len(of_outputs)) if self.order is None else self.order] = of_outputs
        found = []
        for part, some in zip(self.parts, np.split(of_columns, np.cumsum(sizes)[:-1])):
            found += [None, some.reshape(len(part.values), 1, -1)]
        return found if self.order is None else [*found, None]

    @property
    def products(self):
        """Number of multiplications for one sample."""
        return sum(part.values.size for part in self.parts)


def groups_of_outputs(matrix):
    """Finds outputs that keep the same inputs.

    Several that keep exactly the same ones are a group, however much it has in common with others.
    Any other output joins the group that is most like it, if that has nearly all of its inputs:
    values that are zero by chance, or because they are quantized, do not tear groups apart.

    Args:
        matrix: Array of shape `(inputs, outputs)`.

    Returns:
        List of arrays of outputs, or `None` where there are too many groups to be of use.
    """
    kept = (matrix != 0).T
    _, first, kinds, counts = np.unique(
        np.packbits(kept, axis=1),
        axis=0,
        return_index=True,
        return_inverse=True,
        return_counts=True,
    )
    patterns = np.float32(kept[first])
    sizes = patterns.sum(axis=1)
    most = max(1, len(kept) // 4)
    heads, place_of, found = np.zeros((most, kept.shape[1]), np.float32), {}, 0
    for kind in np.lexsort((first, -sizes, counts < _SAME)):
        place = found if counts[kind] >= _SAME else _joined(heads[:found], patterns[kind])
        if place == most:
            return None
        heads[place] = np.maximum(heads[place], patterns[kind])
        found, place_of[kind] = max(found, place + 1), place
    groups = np.array([place_of[kind] for kind in kinds.ravel()])
    return [np.flatnonzero(groups == place) for place in range(found)]


def _joined(heads, kept):
    """The group that an output joins, or the number of a new one."""
    common, size = heads @ kept, kept.sum()
    alike = np.where(common >= _ALIKE * size, common + 1, 0) / (
        heads.sum(axis=1) + size - common + 1
    )
    return int(np.argmax(alike)) if alike.any() else len(heads)


def shared(matrix):
    """Lays out a matrix in blocks, in the size with the fewest multiplications.

    Args:
        matrix: Float array of shape `(inputs, outputs)`.

    Returns:
        A `Shared`, or `None` where groups of outputs would not save enough.
    """
    groups = groups_of_outputs(matrix)
    if groups is None:
        return None
    tried = [_in_blocks(matrix, groups, size) for size in SIZES if size <= matrix.shape[1]]
    # Of equal ones the largest block, which is multiplied fastest.
    best = min(reversed(tried), key=lambda found: found.products, default=None)
    if best is None or best.products > _WORTH * matrix.size:
        return None
    return best


def _in_blocks(matrix, groups, size):
    blocks = []
    for outputs in groups:
        inputs = np.flatnonzero(matrix[:, outputs].any(axis=1))
        for begin in range(0, len(outputs), size):
            blocks.append((inputs, outputs[begin : begin + size]))
    blocks.sort(key=lambda block: len(block[0]))
    parts, columns = [], []
    for some in _split(blocks):
        height = max(1, len(some[-1][0]))
        inputs = np.zeros((len(some), height), np.int32)
        values = np.zeros((len(some), height, size), matrix.dtype)
        for number, (rows, outputs) in enumerate(some):
            inputs[number, : len(rows)] = rows
            values[number, : len(rows), : len(outputs)] = matrix[np.ix_(rows, outputs)]
            columns.append(np.pad(outputs, (0, size - len(outputs)), constant_values=-1))
        parts.append(Blocks(inputs, values))
    columns = np.concatenate(columns)
    order = np.zeros(matrix.shape[1], np.int32)
    order[columns[columns >= 0]] = np.flatnonzero(columns >= 0)
    same = len(columns) == len(order) and np.array_equal(order, np.arange(len(order)))
    return Shared(parts, None if same else order)


def _split(blocks):
    """Splits blocks, sorted by height, where that saves most, as often as it saves a tenth."""
    heights = np.array([max(1, len(rows)) for rows, _ in blocks])
    parts = [(0, len(blocks))]
    while len(parts) < _PARTS:
        gains = []
        for begin, end in parts:
            cuts = np.arange(begin + 1, end)
            saved = (cuts - begin) * (heights[end - 1] - heights[cuts - 1])
            best = int(np.argmax(saved)) if len(cuts) else 0
            gains.append((saved[best] if len(cuts) else 0, begin, begin + 1 + best, end))
        saved, begin, cut, end = max(gains)
        total = sum((end - begin) * heights[end - 1] for begin, end in parts)
        if saved < 0.1 * total:
            break
        parts.remove((begin, end))
        parts += [(begin, cut), (cut, end)]
    return [blocks[begin:end] for begin, end in sorted(parts)]


def product(inputs, parts, order, gather=tf.gather):
    """Multiplies.

    Args:
        inputs: Float tensor of shape `(samples, inputs)`.
        parts: List of pairs of tensors, as `Blocks`.
        order: Tensor as in `Shared`, or `None`.
        gather: Function of a tensor and of places along its first axis, as `tf.gather`.

    Returns:
        Tensor of shape `(samples, outputs)`.
    """
    columns = tf.transpose(inputs)
    samples = tf.shape(inputs)[0]
    found = []
    for kept, values in parts:
        products = tf.matmul(gather(columns, kept), values, transpose_a=True)
        width = values.shape[0] * values.shape[2]
        found.append(tf.reshape(tf.transpose(products, (1, 0, 2)), [samples, width]))
    outputs = found[0] if len(found) == 1 else tf.concat(found, 1)
    return outputs if order is None else tf.gather(outputs, order, axis=1)


def product_of_arrays(inputs, arrays, has_order, gather=tf.gather):
    """The same from a list of tensors, as `Shared.arrays`.

    Args:
        inputs: As of `product`.
        arrays: List of tensors.
        has_order: Whether the last of them is the order.
        gather: As of `product`.
    """
    parts = arrays[: len(arrays) - has_order]
    order = arrays[-1] if has_order else None
    return product(inputs, list(zip(parts[::2], parts[1::2])), order, gather)
