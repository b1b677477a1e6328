"""Quantizing a trained model in one call."""

import keras
import numpy as np
import pytest

import tfcomp


def numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


@pytest.fixture
def model():
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(8, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )


def test_weights_and_errors(model):
    before = {t.path: numpy(t.variable) for t in tfcomp.targets.find(model)}
    done = tfcomp.quantize(
        model,
        tfcomp.quantizers.FineGrainedTernary(4),
        targets={"out": {"quantizer": tfcomp.quantizers.FixedPoint(0, 7)}},
    )
    conv, out = numpy(model.get_layer("conv").kernel), numpy(model.get_layer("out").kernel)
    for group in np.moveaxis(conv, 2, -1).reshape(-1, 4):
        assert len(set(np.abs(group)) - {0}) == 1
    np.testing.assert_array_equal(out * 128, np.rint(out * 128))
    for path, weight in {"conv/kernel": conv, "out/kernel": out}.items():
        expected = np.sum((weight - before[path]) ** 2) / np.sum(before[path] ** 2)
        assert done[path].error == pytest.approx(expected, rel=1e-4)


def test_statistics_are_those_of_the_data(model):
    x = np.random.default_rng(0).normal(size=(33, 6, 6, 4)).astype("float32")
    x *= np.linspace(0.1, 3, 33, dtype="float32")[:, None, None, None]
    x[30:] += 1
    model.get_layer("norm").trainable = False
    tfcomp.quantize(model, "ternary", data=x, batch_size=10, verbose=0)
    outputs = keras.ops.convert_to_numpy(model.get_layer("conv")(x))
    norm = model.get_layer("norm")
    np.testing.assert_allclose(
        numpy(norm.moving_mean), outputs.mean((0, 1, 2)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(numpy(norm.moving_variance), outputs.var((0, 1, 2)), rtol=1e-4)
    assert norm.momentum == 0.99 and not norm.trainable and model.layers[2].rate == 0.5


@pytest.mark.parametrize("axis", [-1, 1])
def test_statistics_of_all_calls(axis):
    """A normalization that is shared sees all its inputs, whatever their channels' axis."""
    norm = keras.layers.BatchNormalization(axis=axis)
    a, b = keras.Input((3, 4)), keras.Input((3, 4))
    model = keras.Model([a, b], keras.layers.Dense(2)(norm(a) + norm(b)))
    x = np.random.default_rng(0).normal(size=(2, 50, 3, 4)).astype("float32")
    x[0] -= 5
    tfcomp.quantize(model, "ternary", data=(list(x), None), batch_size=20, verbose=0)
    others = (0, 1, 2) if axis == -1 else (0, 1, 3)
    np.testing.assert_allclose(numpy(norm.moving_mean), x.mean(others), rtol=1e-4)
    np.testing.assert_allclose(numpy(norm.moving_variance), x.var(others), rtol=1e-4)


def test_statistics_leave_out_what_is_masked():
    inputs = keras.Input((3, 2))
    masked = keras.layers.Masking()(inputs)
    norm = keras.layers.BatchNormalization()
    model = keras.Model(inputs, keras.layers.Dense(2)(norm(masked)))
    x = np.random.default_rng(0).normal(size=(9, 3, 2)).astype("float32")
    x[:, 2] = 0
    tfcomp.quantize(model, "ternary", data=x, batch_size=4, verbose=0)
    np.testing.assert_allclose(numpy(norm.moving_mean), x[:, :2].mean((0, 1)), rtol=1e-4)
    np.testing.assert_allclose(numpy(norm.moving_variance), x[:, :2].var((0, 1)), rtol=1e-4)


def test_bad_arguments_change_nothing(model):
    before = model.get_weights()
    for arguments, name in [
        ({"quantizer": "terniary"}, "quantizer"),
        ({"quantizer": None}, "quantizer"),
        ({"quantizer": "ternary", "targets": "nowhere"}, "targets"),
        ({"quantizer": "ternary", "targets": {"out": {"bits": 3}}}, "targets"),
        ({"quantizer": "ternary", "data": np.ones((0, 6, 6, 4))}, "data"),
        ({"quantizer": "ternary", "data": np.full((3, 6, 6, 4), np.nan)}, "data"),
        ({"quantizer": "ternary", "data": np.ones((3, 6, 6, 4)), "batch_size": 0}, "batch_size"),
        ({"quantizer": "ternary", "targets": {"out": {"quantizer": keras.ops.max}}}, "quantizer"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tfcomp.quantize(model, **arguments)
    with pytest.raises((ValueError, TypeError)):
        tfcomp.quantize(model, "ternary", data=np.ones((3, 5)))
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
