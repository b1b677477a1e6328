"""Fixed-point inputs: the ranges of the data, what changes in a model and what does not."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers
from tfcomp.quantizers import DoReFa, DynamicFixedPoint, FineGrainedTernary, FixedPoint


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture
def x():
    return np.random.default_rng(0).normal(size=(12, 6, 6, 4)).astype("float32")


@pytest.fixture
def model():
    image = keras.Input((6, 6, 4))
    y = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    y = keras.layers.BatchNormalization(name="norm")(y)
    y = keras.layers.DepthwiseConv2D(3, activation="relu", name="depthwise")(y)
    y = layers.TernaryConv2D(5, 2, activation="relu", name="ternary")(y)
    nested = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4, name="in")], name="nested")
    y = nested(keras.layers.Flatten()(y))
    model = keras.Model(image, keras.layers.Dense(3, name="out")(y))
    model.compile("sgd", "mse")
    return model


def quantizer_of(model, path):
    layer = model
    for name in path.split("/"):
        layer = layer.get_layer(name)
    return layer.input_quantizer


def test_formats_are_those_of_the_data(model, x):
    small = tfcomp.quantize_activations(model, x, bits=4, batch_size=5, verbose=0)
    inputs = {"conv": x}
    for path in ("depthwise", "ternary"):
        inner = keras.Model(model.input, model.get_layer(path).input)
        inputs[path] = inner.predict(x, verbose=0)
    inputs["nested/in"] = inputs["out"] = None
    for path, seen in inputs.items():
        found = quantizer_of(small, path)
        assert found.bits == (8 if path == "conv" else 4)
        if seen is not None:
            expected = FixedPoint.calibrated(seen, found.bits)
            assert found.get_config() == expected.get_config(), path
            assert found.signed == (seen.min() < 0)
    assert not quantizer_of(small, "ternary").signed
    for a, b in zip(model.get_weights(), small.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(small.get_layer("conv")) is layers.QuantizedConv2D
    assert type(small.get_layer("ternary")) is layers.TernaryConv2D
    assert type(model.get_layer("conv")) is keras.layers.Conv2D and small.compiled


def test_outputs_are_those_of_rounded_inputs(x):
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), keras.layers.Flatten(), keras.layers.Dense(5, name="a")]
    )
    small = tfcomp.quantize_activations(model, (x, np.zeros(12)), first_bits=3, verbose=0)
    q = quantizer_of(small, "a")
    rounded = np.clip(np.rint(x / q.step) * q.step, q.smallest, q.largest)
    np.testing.assert_allclose(numpy(small(x)), numpy(model(rounded)), rtol=1e-5, atol=1e-6)
    assert len(np.unique(numpy(q(x)))) <= 8


def test_fine_grained_conversion_in_files(model, x, tmp_path):
    """Ternary weights by groups, the first layer in 8 bits, inputs in 4: all in the loaded file."""
    rules = {"conv": {"quantizer": DynamicFixedPoint(8)}}
    tfcomp.quantize(model, FineGrainedTernary(4), targets=rules, data=x, verbose=0)
    small = tfcomp.quantize_activations(model, x, bits=4, verbose=0)
    small.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(small(x)))
    for name in ("conv", "depthwise", "out"):
        assert quantizer_of(loaded, name).get_config() == quantizer_of(small, name).get_config()
    conv, out = (numpy(loaded.get_layer(name).kernel.value) for name in ("conv", "out"))
    fixed = FixedPoint.calibrated(conv, 8, signed=True)
    assert np.isin(conv, np.float32(fixed.levels)).all()
    for group in out.T:
        assert len(set(np.abs(group)) - {0}) == 1
    rows = {row.name: row for row in tfcomp.summary(loaded, print_table=False).layers}
    assert list(rows["out"].macs) == [(32, 4)] and list(rows["conv"].macs) == [(32, 8)]


def test_rules(model, x):
    unit = DoReFa(2, mode="activations")
    bits = {keras.layers.Dense: 6, "out": None, "depthwise": unit}
    small = tfcomp.quantize_activations(model, x, bits=bits, first_bits=None, verbose=0)
    assert quantizer_of(small, "nested/in").bits == 6
    assert quantizer_of(small, "depthwise") is not None
    assert quantizer_of(small, "depthwise").get_config() == unit.get_config()
    for name in ("conv", "out"):
        assert type(small.get_layer(name)) is type(model.get_layer(name))
    # What quantizes its inputs already is left alone.
    again = tfcomp.quantize_activations(small, x, bits=8, first_bits=None, verbose=0)
    assert quantizer_of(again, "nested/in").bits == 6 and quantizer_of(again, "out").bits == 8


def test_says_what_it_leaves(x):
    model = keras.Sequential(
        [
            keras.Input((8, 3)),
            keras.layers.LSTM(4, return_sequences=True, name="lstm"),
            keras.layers.TimeDistributed(keras.layers.Dense(4, name="inner"), name="time"),
            keras.layers.Dense(2, name="out"),
        ]
    )
    with pytest.warns(UserWarning, match=r"lstm/lstm_cell, time/inner stay as they are"):
        small = tfcomp.quantize_activations(model, np.ones((4, 8, 3), "float32"), verbose=0)
    assert type(small.get_layer("out")) is layers.QuantizedDense


def test_layers_that_make_their_own_quantizers_and_calls_by_keyword():
    x = keras.Input((4,))
    hidden = layers.DoReFaDense(3, activation_bits=32, name="hidden")(inputs=x)
    model = keras.Model(x, keras.layers.Dense(2, name="out")(inputs=hidden))
    with pytest.warns(UserWarning, match="hidden stay as they are"):
        small = tfcomp.quantize_activations(model, np.ones((3, 4), "float32"), verbose=0)
    assert quantizer_of(small, "out").bits == 8


def test_bad_arguments(model, x):
    nan = np.full_like(x, np.nan)
    for arguments, name in [
        ({"bits": 1}, "bits"),
        ({"bits": 8.0}, "bits"),
        ({"bits": {"conv": 40}}, "bits"),
        ({"bits": {"norm": 8}}, "bits"),
        ({"bits": {...: None}}, "bits"),
        ({"first_bits": "8"}, "first_bits"),
        ({"data": np.ones((0, 6, 6, 4))}, "data"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tfcomp.quantize_activations(model, **{"data": x, "verbose": 0, **arguments})
    with pytest.raises(ValueError, match="'conv' contain NaN"):
        tfcomp.quantize_activations(model, nan, verbose=0)
    bare = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match="argument `model`"):
        tfcomp.quantize_activations(bare, np.ones((2, 3)), verbose=0)
