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
    small = tfcomp.quantize_activations(model, 4, data=x, batch_size=5, verbose=0).model
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
    data = x, np.zeros(12)
    done = tfcomp.quantize_activations(model, first_bits=3, data=data, verbose=0)
    small = done.model
    assert (done["a"].smallest, done["a"].largest) == (x.min(), x.max())
    assert done["a"].quantizer is small.get_layer("a").input_quantizer
    q = quantizer_of(small, "a")
    rounded = np.clip(np.rint(x / q.step) * q.step, q.smallest, q.largest)
    np.testing.assert_allclose(numpy(small(x)), numpy(model(rounded)), rtol=1e-5, atol=1e-6)
    assert len(np.unique(numpy(q(x)))) <= 8


def test_fine_grained_conversion_in_files(model, x, tmp_path):
    """Ternary weights by groups, the first layer in 8 bits, inputs in 4: all in the loaded file."""
    rules = {"conv": {"quantizer": DynamicFixedPoint(8)}}
    tfcomp.quantize(model, FineGrainedTernary(4), targets=rules, data=x, verbose=0)
    small = tfcomp.quantize_activations(model, bits=4, data=x, verbose=0).model
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
    targets = {keras.layers.Dense: {"bits": 6}, "out": None, "depthwise": {"bits": unit}}
    options = {"first_bits": None, "data": x, "verbose": 0}
    small = tfcomp.quantize_activations(model, targets={...: None, **targets}, **options).model
    assert quantizer_of(small, "nested/in").bits == 6
    assert quantizer_of(small, "depthwise") is not None
    assert quantizer_of(small, "depthwise").get_config() == unit.get_config()
    for name in ("conv", "out"):
        assert type(small.get_layer(name)) is type(model.get_layer(name))
    # What quantizes its inputs already is left alone.
    again = tfcomp.quantize_activations(small, **options)
    assert quantizer_of(again.model, "nested/in").bits == 6
    assert quantizer_of(again.model, "out").bits == 8
    assert ("depthwise", "it quantizes its inputs already") in again.left_out
    with pytest.raises(ValueError, match=r"argument `targets`.*depthwise: it quantizes"):
        tfcomp.quantize_activations(small, targets="depthwise", **options)
    (row,) = tfcomp.quantize_activations(model, 5, targets="out", **options)
    assert row.path == "out" and row.quantizer.bits == 5


def test_the_first_layer_is_an_exception(model, x):
    def bits(**arguments):
        rows = tfcomp.quantize_activations(model, 4, data=x, verbose=0, **arguments)
        return {row.path: row.quantizer.bits for row in rows}

    assert bits(first_bits=6)["conv"] == 6
    assert bits(targets={"conv": {"bits": 3}})["conv"] == 3
    # The first layer of the model, not of those that are named.
    assert bits(targets="out") == {"out": 4}


def test_says_what_it_leaves():
    inputs = keras.Input((8, 3))
    y = keras.layers.LSTM(4, return_sequences=True, name="lstm")(inputs)
    y = keras.layers.MultiHeadAttention(2, 4, name="attend")(y, y)
    y = keras.layers.TimeDistributed(keras.layers.Dense(4, name="inner"), name="time")(y)
    model = keras.Model(inputs, keras.layers.Dense(2, name="out")(y))
    x = np.random.default_rng(0).normal(size=(4, 8, 3)).astype("float32")
    done = tfcomp.quantize_activations(model, data=x, verbose=0)
    reasons = dict(done.left_out)
    assert reasons["lstm/lstm_cell"] == "no `Quantized` form of LSTMCell"
    projections = [f"attend/{name}" for name in ("query", "key", "value", "attention_output")]
    assert {row.path for row in done} == {*projections, "time/inner", "out"}
    assert type(done.model.get_layer("attend").query_dense) is layers.QuantizedEinsumDense
    assert type(done.model.get_layer("time").layer) is layers.QuantizedDense


def test_layers_that_make_their_own_quantizers_and_calls_by_keyword():
    x = keras.Input((4,))
    hidden = layers.DoReFaDense(3, activation_bits=32, name="hidden")(inputs=x)
    model = keras.Model(x, keras.layers.Dense(2, name="out")(inputs=hidden))
    done = tfcomp.quantize_activations(model, data=np.ones((3, 4), "float32"), verbose=0)
    assert done.left_out == [("hidden", "no `Quantized` form of DoReFaDense")]
    assert quantizer_of(done.model, "out").bits == 8


def test_bad_arguments(model, x):
    nan = np.full_like(x, np.nan)
    for arguments, name in [
        ({"bits": 1}, "bits"),
        ({"bits": 8.0}, "bits"),
        ({"bits": None}, "bits"),
        ({"bits": True}, "bits"),
        ({"targets": {"conv": {"bits": 40}}}, "bits"),
        ({"targets": {"conv": {"width": 4}}}, "targets"),
        ({"targets": {"norm": {"bits": 8}}}, "targets"),
        ({"targets": {...: None}}, "targets"),
        ({"verbose": 5}, "verbose"),
        ({"first_bits": "8"}, "first_bits"),
        ({"data": np.ones((0, 6, 6, 4))}, "data"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tfcomp.quantize_activations(model, **{"data": x, "verbose": 0, **arguments})
    with pytest.raises(ValueError, match="'conv' contain NaN"):
        tfcomp.quantize_activations(model, data=nan, verbose=0)
    bare = keras.Sequential([keras.Input((3,)), keras.layers.BatchNormalization()])
    with pytest.raises(ValueError, match="argument `targets`"):
        tfcomp.quantize_activations(bare, data=np.ones((2, 3)), verbose=0)
