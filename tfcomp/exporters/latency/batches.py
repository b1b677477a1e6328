"""One function for all batch sizes, out of functions for some."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfcomp.exporters.trace import called

# The smallest and largest sizes that are computed alike.
BUCKETS = ((1, 1), (2, 3), (4, 8), (9, None))
# Kernels that are compiled for one size get large batches in parts of so many samples.
_PART = 8


class Way(NamedTuple):
    """How batches of some sizes are computed.

    Attributes:
        call: Function of tensors, for any batch, or for parts of the size below.
        part: Samples in a part; `None` where the call takes a whole batch.
        single: Function for parts of one sample, for what is left over.
    """

    call: Callable
    part: int | None = None
    single: Any = None


def bucket_of(size):
    """The index of the bucket that a batch size is in."""
    return next(i for i, (_, most) in enumerate(BUCKETS) if most is None or size <= most)


def part_of(size):
    """In how many samples at a time a batch is computed by kernels for one size."""
    return 1 if size <= 3 else min(size, _PART)


def covering(sizes):
    """Small batch sizes at which all is computed that is there for some sizes.

    As many samples as a part has, and where something is left over of parts.
    """
    found = set()
    for size in sizes:
        part, (least, most) = part_of(size), BUCKETS[bucket_of(size)]
        alike = range(least, (most or least) + 1)
        found.update([part] if part in alike else [])
        found.update([number for number in alike if number % part][:1])
    return sorted(found)


def dispatched(args, ways, is_small=False):
    """Computes a batch of any size.

    Args:
        args: List of structures of tensors, whose first axes are the batch.
        ways: List of `Way`, one for each of `BUCKETS`.
        is_small: Whether the calls of ways are of a few ops.

    Returns:
        Structure of tensors.
    """
    first, last = keras.tree.flatten(args)[0], BUCKETS[-1][0]
    # Where the size is known there is nothing to choose at a call.
    fixed = first.shape[0]
    size = tf.shape(first)[0] if fixed is None else fixed

    def kind_of(number):
        # An empty batch is computed as a large one.
        way = ways[bucket_of(number) if number else -1]
        return way, number == way.part

    def call(kind):
        way, is_one_part = kind
        return at_once(args, way) if is_one_part else in_parts(args, way, size)

    def branch(kind):
        way, is_one_part = kind
        taken = functools.partial(call, kind)
        # A branch that is not taken is passed over op by op. Where that takes longer than the call
        # of a function, it is one; not for a single sample, though, which has least time to lose.
        has_few = is_small and (is_one_part or way.part is None)
        return taken if kind == table[1] or has_few else called(taken)

    if fixed is not None:
        return _of_size(call(kind_of(fixed)), fixed)
    table = [kind_of(number) for number in range(last + 1)]
    kinds = list(dict.fromkeys(table))
    if len(kinds) == 1:
        return call(kinds[0])
    which = tf.gather(tf.constant([kinds.index(kind) for kind in table]), tf.minimum(size, last))
    return tf.switch_case(which, [branch(kind) for kind in kinds])


def _of_size(outputs, size):
    """Tells TensorFlow the batch size of what was computed in parts."""
    for tensor in keras.tree.flatten(outputs):
        tensor.set_shape([size, *tensor.shape[1:]])
    return outputs


def in_parts(args, way, size):
    """Computes a batch by one way."""
    if way.part is None:
        return way.call(*args)
    if way.part == 1:
        return _looped(way.call, args, 1, size)
    whole = size // way.part * way.part
    begun = _looped(way.call, _cut(args, 0, whole), way.part, whole)
    rest = _looped(way.single, _cut(args, whole, size), 1, size - whole)
    return keras.tree.map_structure(lambda a, b: tf.concat([a, b], 0), begun, rest)


def at_once(args, way):
    """Computes a batch that is as large as one part."""
    return way.call(*_some(args, 0, way.part))


def _cut(args, begin, end):
    return keras.tree.map_structure(lambda x: x[begin:end], args)


def _some(args, begin, size):
    """So many samples, as a shape that is known when the function is traced."""
    if keras.tree.flatten(args)[0].shape[0] == size:
        return args
    parts = _cut(args, begin, begin + size)
    for part in keras.tree.flatten(parts):
        part.set_shape([size, *part.shape[1:]])
    return parts


def _looped(call, args, part, size):
    """Calls a function on one part of the batch after the other."""
    traced = call.get_concrete_function(
        *keras.tree.map_structure(lambda x: tf.TensorSpec([part, *x.shape[1:]], x.dtype), args)
    )
    specs = keras.tree.flatten(traced.structured_outputs)
    count = size // part
    arrays = [
        tf.TensorArray(spec.dtype, count, element_shape=spec.shape, infer_shape=False)
        for spec in specs
    ]

    def body(number, arrays):
        outputs = keras.tree.flatten(call(*_some(args, number * part, part)))
        return number + 1, [a.write(number, x) for a, x in zip(arrays, outputs)]

    _, arrays = tf.while_loop(
        lambda number, _: number < count, body, [0, arrays], parallel_iterations=1
    )
    found = [
        tf.ensure_shape(array.concat(), [None, *spec.shape[1:]])
        for array, spec in zip(arrays, specs)
    ]
    return keras.tree.pack_sequence_as(traced.structured_outputs, found)
