"""Proof by zeros: a model without channels computes what the whole one does where they are zero.

Written without the code that cuts: it knows of labels alone, and sets slices to zero.
"""

import functools
import time
from typing import Any, NamedTuple

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
        elif variable.trainable and len(variable.shape) == 1 and _is_constant(variable):
            # Scales by another name.
            variable.assign(rng.uniform(0.6, 1.4, variable.shape))
    kinds = (keras.layers.BatchNormalization, keras.layers.LayerNormalization)
    if not any(isinstance(layer, kinds) for layer in model._flatten_layers()):
        for variable in model.variables:
            if variable.name == "kernel":
                # Else biases alone decide which channels rectifiers let through.
                size = np.prod(variable.shape[:-1])
                variable.assign(rng.normal(0, (2 / size) ** 0.5, variable.shape))
    settle(model, batch(model, rng, 4))


def _is_constant(variable):
    return np.ptp(numpy(variable)) == 0


def settle(model, x):
    """Statistics of batch normalization become those of some data."""
    kind = keras.layers.BatchNormalization
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, kind)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(x, training=True)
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
    settle(model, x)
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


def chosen(model, dyes, ratio, rng, inexact=False):
    """Channels to remove, at random; those that norms take means over only if `inexact`.

    Returns a boolean array, the reasons of what has to stay, and what `cut` takes as `known`.
    """
    found = cells(dyes)
    counter = Counts(dyes, found)
    parts = {s: 1 - ratio for s, m in found.items() if inexact or dyes.inexact.isdisjoint(m)}

    def count(stay):
        return counter.kept(parts, {s for s, m in found.items() if not stay.isdisjoint(m)})

    counts, whole, *known = fitting(model, dyes, counter, count, "keep")
    removed = np.zeros(len(dyes.parent), bool)
    for signature, members in found.items():
        removed[rng.permutation(members)[counts[signature] :]] = True
    return removed, whole, known


def without(model, dyes, removed, readers_alone, function, but=()):
    """What a function returns while removed channels are zero; see `zero`.

    Variables get their values back, but for those whose names begin so.
    """
    values = [numpy(variable) for variable in dyes.variables]
    zero(dyes, removed, readers_alone)
    made = function()
    for variable, value in zip(dyes.variables, values):
        if not variable.name.startswith(tuple(but)):
            variable.assign(value)
    return made


class Proof(NamedTuple):
    """What came of it.

    Attributes:
        small: The model without channels.
        errors: Largest differences relative to the largest output, of both proofs.
        effect: What the channels are for, in the same measure.
        whole: Reasons of what stayed.
        seconds: Of the processor, for finding numbers of channels and cutting.
    """

    small: Any
    errors: list
    effect: float
    whole: list
    seconds: float


def rounding(model, x):
    """How far outputs move when inputs do by a millionth: that much of errors is rounding."""

    def moved(leaf):
        return leaf * np.float32(1 + 1e-6) if leaf.dtype == np.float32 else leaf

    return error(outputs(model, x), outputs(model, keras.tree.map_structure(moved, x)))


def proved(model, dyes, ratio, rng, x):
    """Cuts a model and compares, on some inputs, with what is the same to it."""
    before, begin = outputs(model, x), time.process_time()
    removed, whole, known = chosen(model, dyes, ratio, rng)
    seconds = time.process_time() - begin
    seen = functools.partial(outputs, model, x)
    effect = error(before, without(model, dyes, removed, False, seen))
    statistics = {id(v): numpy(v) for v in model.variables if v.name.startswith("moving_")}
    begin = time.process_time()
    small, _ = cut(model, dyes, removed, known)
    seconds += time.process_time() - begin
    if rounding(small, x) > 1e-5:
        # In a deep network signals that removed channels have held down may grow until rounding is
        # what is compared. Then statistics become those of the model without them.
        settled = functools.partial(settle, model, batch(model, rng, 16))
        without(model, dyes, removed, False, settled, but=["moving_"])
        small, _ = cut(model, dyes, removed, known)
    after = outputs(small, x)
    errors = [error(after, without(model, dyes, removed, alone, seen)) for alone in (True, False)]
    for variable in model.variables:
        if id(variable) in statistics:
            variable.assign(statistics[id(variable)])
    return Proof(small, errors, effect, list(whole.values()), seconds)


def prove(model, ratio, rng):
    """`Proof` of a model with values of no meaning."""
    randomize(model, rng)
    dyes = trace(model)
    proof = proved(model, dyes, ratio, rng, batch(model, rng))
    return proof._replace(whole=[*proof.whole, *dyes.opaque])
