"""Symbolic tensors that carry dyes.

A tensor may have several arrays of dyes, of its rank and of length one along the axes on which they
do not vary: heads along one axis, say, and what is in a head along another.
"""

import keras
import numpy as np


def dyes_of(x):
    """List of the arrays of dyes of a tensor."""
    return getattr(x, "dyes", [])


def dye(x, arrays):
    """Gives a tensor its arrays; returns it."""
    x.dyes = [array for array in arrays if array.any()]
    return x


def flat(structure):
    """List of what is in a structure, without `None`."""
    return [leaf for leaf in keras.tree.flatten(structure) if leaf is not None]


def is_symbolic(x):
    """Whether something is a symbolic tensor."""
    return isinstance(x, keras.KerasTensor)


def is_tensor(x):
    """Whether something is a tensor, symbolic or not."""
    return is_symbolic(x) or keras.ops.is_tensor(x) or isinstance(x, (np.ndarray, keras.Variable))


def varies(array):
    """Tuple of the axes along which dyes vary."""
    return tuple(axis for axis, size in enumerate(array.shape) if size > 1)


def compact(array):
    """The array with length one along axes on which it does not vary."""
    for axis in range(array.ndim):
        if array.shape[axis] > 1 and (array == (first := array.take([0], axis))).all():
            array = first
    return array


def along(x, axis):
    """The labels of one axis where they depend on nothing else; else `None`."""
    axis %= len(x.shape)
    found = [array for array in dyes_of(x) if axis in varies(array)]
    if len(found) == 1 and varies(found[0]) == (axis,):
        return found[0].ravel()
    return None


def spread(labels, axis, rank):
    """Labels of one axis as an array of some rank."""
    shape = [1] * rank
    shape[axis % rank] = len(labels)
    return labels.reshape(shape)


def without(x, axes):
    """The arrays of a tensor that do not vary along some axes."""
    return [array for array in dyes_of(x) if not set(varies(array)) & set(axes)]


def freeze_along(dyes, x, axes, why):
    """Makes the channels stay that lie along some axes of a tensor."""
    for array in dyes_of(x):
        if set(varies(array)) & set(axes):
            dyes.freeze(array, why)


def aligned(array, rank):
    """An array with axes of length one before it, as broadcasting has it."""
    return array.reshape((1,) * (rank - array.ndim) + array.shape)


def give_up(dyes, what, inputs, outputs):
    """Makes all channels stay that flow into something that is not understood."""
    for x in inputs:
        for array in dyes_of(x):
            dyes.freeze(array, f"it goes into {what}, which is not understood")
    if any(map(dyes_of, inputs)):
        dyes.opaque.append(what)
    for output in outputs:
        dye(output, [])
