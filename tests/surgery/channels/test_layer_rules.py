"""Every rule of a layer says what an experiment finds.

For each channel: once what sums over it is zero, new values in all else that it owns change the
outputs that carry it, and no others.
"""

import keras
import numpy as np
import pytest
from keras import layers

from tfcomp.surgery.channels.answering import answering
from tfcomp.surgery.channels.tensors import dye, dyes_of, flat, spread
from tfcomp.surgery.channels.trace import _Tracer

CASES = {
    "Conv1D": (lambda: layers.Conv1D(6, 3, padding="causal"), (7, 4), -1),
    "Conv2D": (lambda: layers.Conv2D(6, 3, strides=2, padding="same"), (7, 8, 4), -1),
    "Conv3D": (lambda: layers.Conv3D(3, 2), (4, 4, 4, 2), -1),
    "Conv2D grouped": (lambda: layers.Conv2D(8, 3, groups=2), (5, 5, 6), -1),
    "Conv2D depthwise": (lambda: layers.Conv2D(8, 3, groups=4), (5, 5, 4), -1),
    "Conv2D activated": (lambda: layers.Conv2D(6, 1, activation="elu"), (3, 3, 4), -1),
    "Conv1DTranspose": (lambda: layers.Conv1DTranspose(5, 3, 2), (6, 4), -1),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(5, 3, 2, padding="same"), (4, 5, 4), -1),
    "Conv3DTranspose": (lambda: layers.Conv3DTranspose(3, 2), (3, 3, 3, 2), -1),
    "DepthwiseConv1D": (lambda: layers.DepthwiseConv1D(3, depth_multiplier=2), (7, 4), -1),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=3), (5, 5, 4), -1),
    "SeparableConv1D": (lambda: layers.SeparableConv1D(5, 3, depth_multiplier=2), (7, 4), -1),
    "SeparableConv2D": (lambda: layers.SeparableConv2D(5, 3), (5, 5, 4), -1),
    "Dense": (lambda: layers.Dense(5), (4,), -1),
    "Dense over a sequence": (lambda: layers.Dense(5), (3, 4), -1),
    "EinsumDense": (
        lambda: layers.EinsumDense("abc,cde->abde", (None, 3, 2), bias_axes="de"),
        (5, 4),
        -1,
    ),
    "EinsumDense ...": (
        lambda: layers.EinsumDense("...c,cd->...d", 5, bias_axes="d"),
        (3, 2, 4),
        -1,
    ),
    "EinsumDense over heads": (
        lambda: layers.EinsumDense("abhd,hdm->abm", (None, 5)),
        (3, 4, 2),
        2,
    ),
    "BatchNormalization": (lambda: layers.BatchNormalization(), (3, 3, 4), -1),
    "BatchNormalization first": (lambda: layers.BatchNormalization(axis=1), (4, 3, 3), 1),
    "Embedding": (lambda: layers.Embedding(7, 5), (4,), None),
    "PReLU": (lambda: layers.PReLU(shared_axes=[1, 2]), (3, 3, 4), -1),
    "LSTM": (lambda: layers.LSTM(5, return_sequences=True), (4, 3), -1),
    "GRU": (lambda: layers.GRU(5, return_sequences=True), (4, 3), -1),
    "GRU before": (lambda: layers.GRU(5, reset_after=False), (4, 3), -1),
    "SimpleRNN": (lambda: layers.SimpleRNN(5, return_sequences=True), (4, 3), -1),
    "ConvLSTM1D": (lambda: layers.ConvLSTM1D(4, 2, return_sequences=True), (3, 6, 2), -1),
    "ConvLSTM2D": (lambda: layers.ConvLSTM2D(4, 2, return_sequences=True), (3, 5, 5, 2), -1),
    "Bidirectional": (lambda: layers.Bidirectional(layers.LSTM(4)), (4, 3), -1),
    "TimeDistributed": (lambda: layers.TimeDistributed(layers.Conv2D(4, 2)), (3, 4, 4, 2), -1),
}
FIRST = {
    name: (make, shape, 1)
    for name, (make, shape, _) in {
        "Conv2D first": (
            lambda: layers.Conv2D(6, 3, data_format="channels_first"),
            (4, 7, 8),
            1,
        ),
        "Conv2D grouped first": (
            lambda: layers.Conv2D(8, 3, groups=2, data_format="channels_first"),
            (6, 5, 5),
            1,
        ),
        "DepthwiseConv2D first": (
            lambda: layers.DepthwiseConv2D(3, data_format="channels_first"),
            (4, 5, 5),
            1,
        ),
    }.items()
}


def window(rng, rank):
    """Kernel and strides of a convolution of a random kind."""
    size = tuple(rng.integers(1, 4, rank).tolist())
    return {"kernel_size": size, "strides": int(rng.integers(1, 3)), "padding": "same"}


def channels(rng, least=2):
    return int(rng.integers(least, 7))


def convolution(rng):
    rank, groups = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    make = getattr(layers, f"Conv{rank}D")
    inside, outside = groups * channels(rng), groups * channels(rng)
    arguments = {**window(rng, rank), "groups": groups, "use_bias": bool(rng.integers(2))}
    return lambda: make(outside, **arguments), (*rng.integers(3, 6, rank), inside), -1


def transposed(rng):
    rank, filters = int(rng.integers(1, 4)), channels(rng)
    make, arguments = getattr(layers, f"Conv{rank}DTranspose"), window(rng, rank)
    return lambda: make(filters, **arguments), (*rng.integers(3, 6, rank), channels(rng)), -1


def depthwise(rng):
    rank = int(rng.integers(1, 3))
    arguments = {**window(rng, rank), "depth_multiplier": int(rng.integers(1, 4))}
    make = getattr(layers, f"DepthwiseConv{rank}D")
    return lambda: make(**arguments), (*rng.integers(3, 6, rank), channels(rng)), -1


def separable(rng):
    rank, filters = int(rng.integers(1, 3)), channels(rng)
    arguments = {**window(rng, rank), "depth_multiplier": int(rng.integers(1, 4))}
    make = getattr(layers, f"SeparableConv{rank}D")
    return lambda: make(filters, **arguments), (*rng.integers(3, 6, rank), channels(rng)), -1


def dense(rng):
    units, bias = channels(rng), bool(rng.integers(2))
    shape = (*rng.integers(2, 4, rng.integers(0, 3)), channels(rng))
    return lambda: layers.Dense(units, use_bias=bias), shape, -1


def einsum(rng):
    heads, size, units = rng.integers(2, 5, 3).tolist()
    if rng.integers(2):
        equation, output, bias = "abc,cde->abde", (None, heads, size), "de"
        shape, axis = (3, channels(rng)), -1
    else:
        equation, output, bias = "abhd,hdm->abm", (None, units), "m"
        shape, axis = (3, heads, size), int(rng.integers(2, 4))
    return lambda: layers.EinsumDense(equation, output, bias_axes=bias), shape, axis


def norm(rng):
    rank = int(rng.integers(1, 4))
    axis = int(rng.integers(1, rank + 1))
    shape = rng.integers(2, 5, rank)
    return lambda: layers.BatchNormalization(axis=axis), tuple(shape), axis


def recurrent(rng):
    make = (layers.LSTM, layers.GRU, layers.SimpleRNN)[rng.integers(3)]
    units, flags = channels(rng), rng.integers(2, size=3).astype(bool).tolist()
    arguments = dict(zip(("return_sequences", "use_bias", "go_backwards"), flags))
    if rng.integers(2):
        return lambda: make(units, **arguments), (4, channels(rng)), -1
    del arguments["go_backwards"]
    merge = ("concat", "sum", "ave")[rng.integers(3)]

    def both():
        return layers.Bidirectional(make(units, **arguments), merge_mode=merge)

    return both, (4, channels(rng)), -1


def embedding(rng):
    width = channels(rng)
    return lambda: layers.Embedding(7, width), (int(rng.integers(1, 5)),), None


DRAWN = (
    convolution,
    transposed,
    depthwise,
    separable,
    dense,
    einsum,
    norm,
    recurrent,
    embedding,
)


def numpy(x):
    return np.array(keras.ops.convert_to_numpy(x))


def slices(value, labels, axis, dye_):
    """Boolean array like a variable, where an index along an axis has a dye."""
    hit = np.zeros(value.shape, bool)
    if labels.ndim == 2 and axis == value.ndim - 2:
        columns = value.shape[-1] // len(labels)
        for group, row in enumerate(labels == dye_):
            hit[..., row, group * columns : (group + 1) * columns] = True
    else:
        np.moveaxis(hit, axis, -1)[..., labels.ravel() == dye_] = True
    return hit


def run(name, make, shape, axis):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    layer, tracer = make(), _Tracer()
    if axis is None:
        x = rng.integers(0, 7, (2, *shape)).astype("int32")
    else:
        x = rng.normal(size=(2, *shape)).astype("float32")
    layer(x)
    for variable in layer.variables:
        variable.assign(rng.uniform(0.3, 1, variable.shape))
    symbol = keras.KerasTensor(x.shape, "int32" if axis is None else "float32")
    if axis is not None:
        arriving = tracer.dyes.new(x.shape[axis])
        dye(symbol, [spread(arriving, axis, x.ndim)])
    with answering(tracer.layer, tracer.operation):
        (output,) = flat(layer(symbol))
    dyes = tracer.dyes.finish()
    assert not dyes.opaque and not dyes.asked
    everyone = {int(d) for labels in dyes.axes.values() for d in np.unique(labels)}
    if axis is not None:
        everyone |= set(arriving.tolist())
    everyone = {each for each in everyone if each and not dyes.why(each)}
    assert len(everyone) > 1
    carried = [dyes.roots(np.broadcast_to(a, output.shape)) for a in dyes_of(output)]
    before = [numpy(v.value) for v in dyes.variables]
    for each in sorted(everyone):
        given = x.copy()
        # The channel is read by nobody ...
        for (number, along), labels in dyes.axes.items():
            if (number, along) in dyes.sums:
                value = numpy(dyes.variables[number].value)
                value[slices(value, labels, along, each)] = 0
                dyes.variables[number].assign(value)
        base = numpy(layer(given))
        # ... and is made anew.
        for (number, along), labels in dyes.axes.items():
            if (number, along) not in dyes.sums:
                value = numpy(dyes.variables[number].value)
                hit = slices(value, labels, along, each)
                value[hit] *= rng.uniform(1.3, 2, hit.sum())
                dyes.variables[number].assign(value)
        if axis is not None and each in arriving:
            np.moveaxis(given, axis, -1)[..., arriving == each] += 1
        changed = numpy(layer(given)) != base
        wanted = np.any([array == each for array in carried], axis=0)
        assert np.array_equal(changed.any(0), np.broadcast_to(wanted, changed.shape).any(0)), each
        for variable, value in zip(dyes.variables, before):
            variable.assign(value)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_says_what_an_experiment_finds(name):
    run(name, *CASES[name])


@pytest.mark.parametrize("name", FIRST)
def test_channels_first(name):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has none of these on CPUs")
    run(name, *FIRST[name])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_a_rule_says_what_an_experiment_finds_for_random_shapes(draw, seed):
    make, shape, axis = draw(np.random.default_rng(seed))
    run(draw.__name__, make, tuple(map(int, shape)), axis)
