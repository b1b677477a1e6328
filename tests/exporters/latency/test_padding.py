"""Layers of zeros around inputs become the padding of the convolution behind them."""

import keras
import numpy as np
import pytest
from latency_plans import always, drawn, exported, later_is_faster, random_weights, stored, units_of

import tfcomp

tf = pytest.importorskip("tensorflow")

pytestmark = pytest.mark.tensorflow
K, T = keras.layers, tfcomp.layers
FOLDED = "norm and padding folded"


@pytest.fixture(autouse=True)
def whatever_it_takes(monkeypatch):
    later_is_faster(monkeypatch)


def padded(shape, zeros, layer):
    layers = [keras.Input(shape), zeros, layer, K.BatchNormalization()]
    return random_weights(keras.Sequential(layers))


# An even length needs a zero behind it for strides of two, an odd one on both sides.
SAME = {
    "depthwise": ((8, 6, 4), ((0, 1), (0, 1)), lambda: K.DepthwiseConv2D(3, 2, use_bias=False)),
    "odd lengths": ((7, 9, 4), ((1, 1), (1, 1)), lambda: K.DepthwiseConv2D(3, 2)),
    "one of each": ((7, 8, 4), ((1, 1), (0, 1)), lambda: K.Conv2D(5, 3, 2)),
    "no strides": ((7, 8, 4), ((2, 2), (1, 1)), lambda: K.Conv2D(5, (5, 3), use_bias=False)),
    "dilation": ((7, 8, 4), ((2, 2), (2, 2)), lambda: K.Conv2D(5, 3, dilation_rate=2)),
    "groups": ((7, 8, 4), ((1, 1), (1, 1)), lambda: K.Conv2D(6, 3, groups=2)),
    "large strides": ((8, 8, 4), ((0, 0), (0, 0)), lambda: K.Conv2D(5, 1, 3)),
    "one axis": ((9, 4), (1, 2), lambda: K.Conv1D(5, 4)),
    "depthwise, one axis": ((9, 4), (1, 1), lambda: K.DepthwiseConv1D(3)),
    "three axes": ((4, 5, 6, 2), ((0, 1),) * 3, lambda: K.Conv3D(3, 2)),
    "ternary": ((7, 8, 4), ((1, 1), (1, 1)), lambda: T.TernaryConv2D(5, 3)),
}


def zeros_of(shape, pads):
    return [K.ZeroPadding1D, K.ZeroPadding2D, K.ZeroPadding3D][len(shape) - 2](pads)


@pytest.mark.parametrize("name", SAME)
def test_zeros_that_the_convolution_adds_by_itself(name):
    shape, pads, make = SAME[name]
    model = padded(shape, zeros_of(shape, pads), make())
    ((unit,), left, *_) = units_of(model)
    assert unit.candidates[0].name == FOLDED and not left
    assert unit.layers == model.layers
    x = unit.draw(2)
    candidate, expected = unit.candidates[0], np.asarray(model(x))
    found = candidate.compute(x, [tf.constant(array) for array in candidate.arrays])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


OTHERS = {
    "before instead of behind": ((8, 6, 4), ((1, 0), (1, 0)), lambda: K.DepthwiseConv2D(3, 2)),
    "too many": ((8, 6, 4), ((3, 3), (3, 3)), lambda: K.Conv2D(5, 7, 2)),
    "already padded": ((8, 6, 4), ((0, 1), (0, 1)), lambda: K.Conv2D(5, 3, 2, "same")),
    "transposed": ((8, 6, 4), ((0, 1), (0, 1)), lambda: K.Conv2DTranspose(5, 3, 2)),
    "causal": ((9, 4), (1, 1), lambda: K.Conv1D(5, 3, padding="causal")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_zeros_stay(name):
    shape, pads, make = OTHERS[name]
    units, *_ = units_of(padded(shape, zeros_of(shape, pads), make()))
    assert FOLDED not in {c.name for unit in units for c in unit.candidates}
    assert len(units[0].layers) == 2


def test_zeros_that_others_read_stay():
    inputs = keras.Input((8, 6, 4))
    zeros = K.ZeroPadding2D(1)(inputs)
    conv = K.BatchNormalization()(K.Conv2D(5, 3)(zeros))
    model = random_weights(keras.Model(inputs, [conv, zeros]))
    units, *_ = units_of(model)
    assert FOLDED not in {c.name for unit in units for c in unit.candidates}


def test_an_export_pads_no_more(tmp_path):
    model = padded((8, 6, 4), K.ZeroPadding2D(((0, 1), (0, 1))), K.DepthwiseConv2D(3, 2))
    y, done = exported(model, tmp_path / "m", x := drawn(3, 8, 6, 4))
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-4)
    (row, _) = done.kernels["serve"]
    assert row.kernel == FOLDED
    definition = tf.saved_model.load(str(tmp_path / "m")).serve.concrete_functions[0].graph
    definition = definition.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    assert not [node.name for node in nodes if node.op.startswith("Pad")]


def test_other_kernels_behind_zeros(tmp_path, monkeypatch):
    """They are given the zeros, and store the values as they were."""
    conv = K.Conv2D(64, 3)
    model = padded((6, 7, 64), K.ZeroPadding2D(1), conv)
    kernel = np.zeros((9 * 64, 64), "float32")
    rows = np.random.default_rng(0).permutation(len(kernel))[:60]
    kernel[rows] = np.random.default_rng(1).choice(np.float32([-0.2, 0.1, 0.3]), (60, 64))
    conv.kernel.assign(kernel.reshape(3, 3, 64, 64))
    ((unit,), *_) = units_of(model)
    x = unit.draw(1)
    expected = np.asarray(model(x))
    names = [candidate.name for candidate in unit.candidates]
    assert names[0] == FOLDED and "shared inputs, 64 outputs" in names
    for candidate in unit.candidates:
        if "gathered" in candidate.name or "bits" in candidate.name:
            # One sample has too many positions for them.
            continue
        found = candidate.compute(x, [tf.constant(array) for array in candidate.arrays])
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    always(monkeypatch, "shared inputs")
    y, done = exported(model, tmp_path / "m", x.numpy())
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3)
    assert done.kernels["serve"][0].kernel.startswith("shared inputs")
    assert stored(tmp_path / "m") < 10_000
