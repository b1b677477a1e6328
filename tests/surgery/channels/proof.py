"""Proof by zeros: a model without channels computes what the whole one does where they are zero.

Written without the code that cuts: it knows of labels alone, and sets slices to zero.
"""

import keras
import numpy as np

from tfcomp.surgery.channels.counts import Counts
from tfcomp.surgery.channels.cut import cut, fitting
from tfcomp.surgery.channels.pair import cells
from tfcomp.surgery.channels.trace import arguments_of, trace


def numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable.value))


def batch(model, rng, samples=2):
    """Random inputs."""

    def draw(spec):
        shape = (samples, *(16 if size is None else size for size in spec.shape[1:]))
        if "int" in str(spec.dtype):
            return rng.integers(0, 20, shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    (specs,) = arguments_of(model)
    return keras.tree.map_structure(draw, specs)


def randomize(model, rng):
    """Nothing is 0 or 1 by accident, and statistics are those of data.

    With any other statistics signals die on the way through a deep network, and what is wrong in an
    early layer is not seen.
    """
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance", "scale"):
            variable.assign(rng.uniform(0.6, 1.4, variable.shape))
        elif variable.name in ("beta", "moving_mean", "bias", "alpha"):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        elif len(variable.shape) == 1 and "float" in variable.dtype and _is_constant(variable):
            # Scales by another name.
            variable.assign(rng.uniform(0.6, 1.4, variable.shape))
    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
    if not any(isinstance(layer, kinds) for layer in model._flatten_layers()):
        for variable in model.variables:
            if variable.name == "kernel":
                # Else biases alone decide which channels rectifiers let through.
                size = np.prod(variable.shape[:-1])
                variable.assign(rng.normal(0, (2 / size) ** 0.5, variable.shape))
    settle(model, rng)


def _is_constant(variable):
    return np.ptp(numpy(variable)) == 0


def settle(model, rng):
    """Statistics of batch normalization become those of some random data."""
    kind = keras.layers.BatchNormalization
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, kind)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(batch(model, rng, 4), training=True)
    for norm, momentum in zip(norms, before):
        norm.momentum = momentum


def outputs(model, x):
    made = keras.tree.flatten(model(x, training=False))
    return np.concatenate([keras.ops.convert_to_numpy(y).ravel() for y in made])


def zero(dyes, removed, readers_alone):
    """Sets to zero all that removed channels own, or what reads them and nothing else."""
    summed = np.zeros(len(removed), bool)
    for key in dyes.sums:
        summed[np.unique(dyes.labels(key))] = True
    for number, axis in dyes.axes:
        labels, variable = dyes.labels((number, axis)), dyes.variables[number]
        gone = removed[labels]
        if readers_alone and (number, axis) not in dyes.sums:
            # Channels that nothing sums over have no other place.
            gone = gone & ~summed[labels]
        value = numpy(variable)
        if labels.ndim == 2 and axis == value.ndim - 2:
            columns = value.shape[-1] // len(labels)
            for group, row in enumerate(gone):
                value[..., row, group * columns : (group + 1) * columns] = 0
        else:
            np.moveaxis(value, axis, -1)[..., gone.ravel()] = 0
        variable.assign(value)


def error(a, b):
    return float(np.abs(a - b).max() / np.abs(b).max())


def exchanges_seen(model, x, rng, draws=20):
    """How many of so many exchanges of two channels that differ change the outputs by > 1e-5.

    Each is made in one variable. Statistics are settled anew, since channels that were cut may have
    been what kept others alive.
    """
    settle(model, rng)
    right, seen = outputs(model, x), 0
    variables = [v for v in model.variables if len(v.shape) and v.shape[-1] > 3]
    variables = [v for v in variables if not _is_constant(v)]
    for index in rng.integers(0, len(variables), draws):
        value = numpy(variables[index])
        wrong = value.copy()
        pair = _that_differ(value, rng)
        wrong[..., pair] = value[..., pair[::-1]]
        variables[index].assign(wrong)
        seen += error(outputs(model, x), right) > 1e-5
        variables[index].assign(value)
    return int(seen)


def _that_differ(value, rng):
    """Two channels, by a tenth of what all values differ by at least."""
    while True:
        pair = rng.permutation(value.shape[-1])[:2]
        one, other = value[..., pair[0]], value[..., pair[1]]
        if np.abs(one - other).max() > np.ptp(value) / 10:
            return pair


def plan(model, dyes, ratio, rng, inexact=False):
    """Removes channels at random; those that norms take means over only if `inexact`."""
    found = cells(dyes)
    counter = Counts(dyes, found)
    parts = {s: 1 - ratio for s, m in found.items() if inexact or dyes.inexact.isdisjoint(m)}

    def count(stay):
        return counter.kept(parts, {s for s, m in found.items() if not stay.isdisjoint(m)})

    counts, whole, *known = fitting(model, dyes, counter, count, "keep")
    removed = np.zeros(len(dyes.parent), bool)
    for signature, members in found.items():
        removed[rng.permutation(members)[counts[signature] :]] = True
    small, carried = cut(model, dyes, removed, known)
    return small, removed, whole, carried


def prove(model, ratio, rng):
    """Returns the small model, errors of the two proofs, the effect, and reasons of what stayed."""
    randomize(model, rng)
    dyes = trace(model)
    small, removed, whole, _ = plan(model, dyes, ratio, rng)
    x = batch(model, rng)
    before, after = outputs(model, x), outputs(small, x)
    values, errors = [numpy(variable) for variable in dyes.variables], []
    for readers_alone in (True, False):
        zero(dyes, removed, readers_alone)
        zeroed = outputs(model, x)
        errors.append(error(after, zeroed))
        for variable, value in zip(dyes.variables, values):
            variable.assign(value)
    return small, errors, error(before, zeroed), [*whole.values(), *dyes.opaque]
