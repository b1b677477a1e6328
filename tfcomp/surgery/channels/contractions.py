"""Sums over products: letters of an equation tie channels."""

import string

import numpy as np

from tfcomp.surgery.channels.dyes import DyedVariable
from tfcomp.surgery.channels.tensors import (
    along,
    dye,
    dyes_of,
    freeze_along,
    give_up,
    spread,
    varies,
)


def without_ellipsis(equation, shapes):
    """An equation with letters in place of `...`.

    Args:
        equation: As in `keras.ops.einsum`, with the output.
        shapes: Shapes of the operands.
    """
    free = [letter for letter in string.ascii_uppercase if letter not in equation]
    terms = equation.split("->")[0].split(",")
    hidden = [len(s) - len(t.replace("...", "")) for t, s in zip(terms, shapes) if "..." in t]
    most = max(hidden, default=0)
    letters = "".join(free[:most])
    for term, number in zip([t for t in terms if "..." in t], hidden):
        equation = equation.replace(term, term.replace("...", letters[most - number :]), 1)
    return equation.replace("...", letters)


def einsum(dyes, equation, operands, output):
    """Letters tie; those that vanish are summed over, which is exact where there are zeros.

    Args:
        dyes: The `Dyes`.
        equation: As in `keras.ops.einsum`.
        operands: List of symbolic tensors.
        output: Symbolic tensor.
    """
    equation = equation.replace(" ", "")
    if "->" not in equation or any(
        len(set(t)) < len(t) for t in equation.split("->")[0].split(",")
    ):
        # Diagonals and traces.
        give_up(dyes, dyes.where, operands, [output])
        return
    equation = without_ellipsis(equation, [x.shape for x in operands])
    terms, right = equation.split("->")[0].split(","), equation.split("->")[1]
    labels = {}
    for term, x in zip(terms, operands):
        for axis, letter in enumerate(term):
            _meet(dyes, labels, letter, _labels(dyes, x, axis))
    for term, x in zip(terms, operands):
        if isinstance(x, DyedVariable):
            gone = [axis for axis, letter in enumerate(term) if letter not in right]
            dyes.sums.update(dyes.key(x.variable, axis) for axis in gone)
    known = [(axis, labels[letter]) for axis, letter in enumerate(right) if letter in labels]
    dye(output, [spread(found, axis, len(right)) for axis, found in known])


def _labels(dyes, x, axis):
    """Labels of an axis, zeros where they depend on other axes, too; `None` for one of length 1."""
    if x.shape[axis] == 1:
        return None
    found = along(x, axis)
    if found is None:
        freeze_along(dyes, x, [axis], f"{dyes.where} mixes it with others")
        return np.zeros(x.shape[axis], np.int32)
    return found


def _meet(dyes, labels, letter, found):
    if found is None:
        return
    if letter in labels:
        dyes.tie(labels[letter], found)
        found = np.where(labels[letter] != 0, labels[letter], found)
    labels[letter] = found


def matmul(dyes, one, other, output):
    """A matrix product over the last axis of `one`."""
    first, second, rank = len(one.shape), len(other.shape), len(output.shape)
    left = string.ascii_lowercase[: rank - (first > 1) - (second > 1)]
    terms = (
        left[len(left) - max(first - 2, 0) :] + "YX"[2 - min(first, 2) :],
        left[len(left) - max(second - 2, 0) :] + "XZ"[: min(second, 2)],
    )
    terms = (terms[0] if first > 1 else "X", terms[1] if second > 1 else "X")
    right = left + "Y" * (first > 1) + "Z" * (second > 1)
    einsum(dyes, f"{terms[0]},{terms[1]}->{right}", [one, other], output)


def window(dyes, x, axis, spatial, kernel, output):
    """A convolution: sums over the channels that lie along an axis, and over a window.

    Args:
        dyes: The `Dyes`.
        x: Symbolic tensor.
        axis: The axis of the channels.
        spatial: The other axes behind the batch.
        kernel: Symbolic tensor of shape `(*window, inputs, outputs)`.
        output: Symbolic tensor.
    """
    freeze_along(dyes, x, spatial, f"{dyes.where} mixes it with others")
    freeze_along(dyes, kernel, range(len(kernel.shape) - 2), f"it is a place in {dyes.where}")
    letters = {}
    for tensor, along_axis in ((x, axis), (kernel, len(kernel.shape) - 2)):
        _meet(dyes, letters, "c", _labels(dyes, tensor, along_axis))
    if isinstance(kernel, DyedVariable):
        dyes.sums.add(dyes.key(kernel.variable, -2))
    made = along(kernel, -1)
    dye(output, [] if made is None else [spread(made, axis, len(output.shape))])


def attention(dyes, query, key, value, output):
    """`(batch, length, heads, size)`: heads are tied, and queries with keys within a head."""
    heads = query.shape[2], key.shape[2]
    why = f"heads of {dyes.where} share keys"
    if heads[0] == heads[1]:
        letters = {}
        for x in (query, key, value):
            _meet(dyes, letters, "h", _labels(dyes, x, 2))
    else:
        for x in (query, key, value):
            freeze_along(dyes, x, [2], why)
    size = {}
    for x in (query, key):
        _meet(dyes, size, "d", _labels(dyes, x, 3))
    for x in (query, key, value):
        freeze_along(dyes, x, [1], f"{dyes.where} mixes it with others")
    dye(output, [a for a in dyes_of(value) if varies(a) in ((2,), (3,))])
