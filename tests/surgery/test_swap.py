"""swap_layers: what changes, what stays, in every kind of model Keras connects itself."""

import functools

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.layers import (
    BinaryConv2D,
    BinaryDense,
    FactorizedDense,
    HashedDense,
    QuantizedDense,
    TernaryDense,
)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def types(model):
    return {layer.name: type(layer).__name__ for layer in model.layers}


def convnet():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2), name="image"),
            keras.layers.Conv2D(4, 3, padding="same", strides=2, activation="relu", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Conv2DTranspose(3, 2, name="up"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(5, name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ],
        name="convnet",
    )


def branches():
    x = keras.Input((6,), name="x")
    y = keras.Input((6,), name="y")
    shared = keras.layers.Dense(4, activation="tanh", name="shared")
    inner_input = keras.Input((4,))
    inner = keras.Model(inner_input, keras.layers.Dense(4, name="deep")(inner_input), name="inner")
    a, b = shared(x), inner(shared(y))
    mixed = keras.layers.Add(name="sum")([a, b]) * 2 + keras.ops.relu(inner(a))
    out = keras.layers.Dense(2, name="out")(mixed)
    return keras.Model({"x": x, "y": y}, {"out": out, "mixed": mixed}, name="branches")


def test_reads_like_the_sentence():
    model = convnet()
    swapped = tfcomp.swap_layers(model, {keras.layers.Conv2D: BinaryConv2D, "logits": None})
    assert types(swapped) == {**types(model), "conv": "BinaryConv2D"}
    assert swapped.name == "convnet" and swapped.inputs[0].name == "image"
    conv = swapped.get_layer("conv")
    assert conv.strides == (2, 2) and conv.padding == "same"
    assert conv.activation is keras.activations.relu
    # The new class's own defaults stand where the old layer had its class's.
    assert isinstance(conv.kernel_constraint, tfcomp.layers.WeightClip) and conv.pad_value == 1
    for a, b in zip(model.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 2)).astype("float32")
    assert np.any(numpy(model(x)) != numpy(swapped(x)))


@pytest.mark.parametrize("make", [convnet, branches])
def test_nothing_swapped_is_a_copy(make):
    model = make()
    model.layers[-1].trainable = False
    copy = tfcomp.swap_layers(model, {...: None})
    assert types(copy) == types(model) and copy is not model
    assert copy.layers[-1].trainable is False
    x = {
        tensor.name: np.random.default_rng(0).normal(size=(2, *tensor.shape[1:]))
        for tensor in model.inputs
    }
    x = x if len(x) > 1 else next(iter(x.values()))
    expected = keras.tree.flatten(model(x))
    for a, b in zip(expected, keras.tree.flatten(copy(x)), strict=True):
        np.testing.assert_array_equal(numpy(a), numpy(b))


def test_branches_shared_layers_and_nested_models(tmp_path):
    model = branches()
    swapped = tfcomp.swap_layers(model, {keras.layers.Dense: TernaryDense, "out": None})
    assert types(swapped) == {**types(model), "shared": "TernaryDense"}
    inner = swapped.get_layer("inner")
    assert type(inner.get_layer("deep")) is TernaryDense
    assert sorted(swapped.output) == ["mixed", "out"]
    assert len(swapped.weights) == len(model.weights)
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    ternary = {v.path: q for v, q in swapped.get_layer("shared").weight_quantizers}
    assert len(ternary) == 1

    def dense(layer, inputs, activation):
        kernel, bias = map(numpy, layer.weights)
        if isinstance(layer, TernaryDense):
            kernel = numpy(tfcomp.quantizers.Ternary()(kernel))
        return activation(inputs @ kernel + bias)

    shared, deep = swapped.get_layer("shared"), inner.get_layer("deep")
    a = dense(shared, x, np.tanh)
    b = dense(deep, a, np.asarray)
    expected = (a + b) * 2 + np.maximum(b, 0)
    np.testing.assert_allclose(
        numpy(swapped({"x": x, "y": x})["mixed"]), expected, rtol=1e-5, atol=1e-5
    )
    swapped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(
        numpy(loaded({"x": x, "y": x})["out"]), numpy(swapped({"x": x, "y": x})["out"])
    )


def test_original_is_untouched():
    model = convnet()
    before = model.get_weights()
    swapped = tfcomp.swap_layers(model, {keras.layers.Dense: QuantizedDense})
    for weight in swapped.weights:
        weight.assign(np.zeros(weight.shape))
    for a, b in zip(before, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert types(model) == types(convnet())


def test_partials_and_factories():
    model = convnet()
    swapped = tfcomp.swap_layers(
        model,
        {
            "conv": functools.partial(BinaryConv2D, scale=True, input_quantizer=None),
            "hidden": lambda layer: HashedDense(layer.units, compression=0.25),
            "logits": lambda layer: None,
        },
    )
    conv = swapped.get_layer("conv")
    assert conv.scale and conv.input_quantizer is None
    hidden = swapped.get_layer("hidden")
    assert isinstance(hidden, HashedDense)
    # Of a Dense layer's weights a hashed one has the bias alone.
    model.get_layer("hidden").bias.assign(np.arange(5.0))
    swapped = tfcomp.swap_layers(model, {"hidden": HashedDense})
    np.testing.assert_array_equal(numpy(swapped.get_layer("hidden").bias), np.arange(5.0))
    assert type(swapped.get_layer("logits")) is keras.layers.Dense


def test_partials_of_layers_that_pass_arguments_on():
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(5, activation="relu", use_bias=False, name="a")]
    )
    rule = functools.partial(FactorizedDense, rank=4)
    swapped = tfcomp.swap_layers(model, {"a": rule}).get_layer("a")
    assert swapped.activation is keras.activations.relu and not swapped.use_bias
    with pytest.raises(ValueError, match=r"argument `rules`.*keyword arguments"):
        tfcomp.swap_layers(model, {"a": functools.partial(BinaryDense, 20)})


def test_lora_is_merged():
    """A layer of another class computes with the sum; one that is kept keeps both."""
    model = keras.Sequential([keras.Input((6,)), *(keras.layers.Dense(6, name=n) for n in "ab")])
    for layer in model.layers:
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones((2, 6)))
    swapped = tfcomp.swap_layers(model, {"a": tfcomp.layers.QuantizedDense})
    x = np.random.default_rng(0).normal(size=(3, 6)).astype("float32")
    np.testing.assert_allclose(numpy(swapped(x)), numpy(model(x)), rtol=1e-4, atol=1e-5)
    assert not swapped.get_layer("a").lora_enabled and swapped.get_layer("b").lora_enabled
    # Low-rank factors are not what is compressed by default.
    assert [t.path for t in tfcomp.targets.find(swapped)] == ["a/kernel"]


def test_layers_inside_wrappers():
    x = keras.Input((5, 4))
    y = keras.layers.TimeDistributed(keras.layers.Dense(3, name="step"), name="steps")(x)
    model = keras.Model(x, keras.layers.Dense(2, name="out")(y))
    swapped = tfcomp.swap_layers(model, {"step": TernaryDense})
    assert type(swapped.get_layer("steps").layer) is TernaryDense
    for a, b in zip(model.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_masks_states_and_call_arguments():
    words = keras.Input((6,), dtype="int32", name="words")
    x = keras.layers.Embedding(10, 4, mask_zero=True, name="embed")(words)
    x, h, c = keras.layers.LSTM(4, return_state=True, return_sequences=True, name="first")(x)
    x = keras.layers.LSTM(4, return_sequences=True, name="second")(x, initial_state=[h, c])
    x = keras.layers.MultiHeadAttention(2, 2, name="attend")(x, value=x, use_causal_mask=True)
    model = keras.Model(words, keras.layers.Dense(2, name="out")(x))
    swapped = tfcomp.swap_layers(model, {"out": QuantizedDense})
    data = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(numpy(swapped(data)), numpy(model(data)))


def test_compiled_model_is_compiled_again():
    model = convnet()
    model.compile(keras.optimizers.SGD(0.25), "mse", metrics=["mae"])
    swapped = tfcomp.swap_layers(model, {"conv": BinaryConv2D})
    assert swapped.compiled and float(swapped.optimizer.learning_rate) == 0.25
    x = np.ones((2, 8, 8, 2))
    swapped.fit(x, np.ones((2, 3)), verbose=0)
    assert not tfcomp.swap_layers(convnet(), {"conv": BinaryConv2D}).compiled


def test_sequential_without_input():
    model = keras.Sequential([keras.layers.Dense(3, name="a"), keras.layers.Dense(2, name="b")])
    assert not tfcomp.swap_layers(model, {"a": BinaryDense}).built
    model(np.ones((1, 4)))
    swapped = tfcomp.swap_layers(model, {"a": BinaryDense})
    for a, b in zip(model.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_mixed_precision_policy_is_kept():
    keras.config.set_dtype_policy("mixed_float16")
    model = convnet()
    keras.config.set_dtype_policy("float32")
    swapped = tfcomp.swap_layers(model, {"conv": BinaryConv2D})
    assert swapped.get_layer("conv").dtype_policy.name == "mixed_float16"
    assert swapped.get_layer("logits").dtype_policy.name == "mixed_float16"


def test_verbose_says_what_became_of_every_layer(capsys):
    tfcomp.swap_layers(convnet(), {"hidden": HashedDense, "conv": BinaryConv2D}, verbose=True)
    printed = capsys.readouterr().out
    rows = {line.split("│")[1].strip(): line for line in printed.splitlines() if "│" in line}
    assert "BinaryConv2D" in rows["conv"] and "2 of 2" in rows["conv"]
    assert "HashedDense" in rows["hidden"] and "1 of 2" in rows["hidden"]
    with pytest.raises(ValueError, match="argument `verbose`"):
        tfcomp.swap_layers(convnet(), {"conv": BinaryConv2D}, verbose="yes")
    assert "4 of 4" in rows["norm"]


def test_what_cannot_be_done_is_said():
    with pytest.raises(ValueError, match=r"argument `model`.*a keras\.Model"):
        tfcomp.swap_layers(keras.layers.Dense(2), {keras.layers.Dense: BinaryDense})
    with pytest.raises(ValueError, match=r"argument `rules`.*Did you mean 'hidden'"):
        tfcomp.swap_layers(convnet(), {"hiden": BinaryDense})
    with pytest.raises(ValueError, match="argument `rules`"):
        tfcomp.swap_layers(convnet(), [BinaryDense])
    with pytest.raises(ValueError, match=r"argument `rules`.*each value"):
        tfcomp.swap_layers(convnet(), {"conv": 3})
    with pytest.raises(ValueError, match=r"argument `rules`.*each value"):
        tfcomp.swap_layers(convnet(), {"conv": tfcomp.quantizers.Binary})
    with pytest.raises(ValueError, match=r"'conv' cannot become a Dense.*padding"):
        tfcomp.swap_layers(convnet(), {"conv": keras.layers.Dense})
    with pytest.raises(ValueError, match=r"'hidden'.*cannot become a Conv2D.*units"):
        tfcomp.swap_layers(convnet(), {"hidden": keras.layers.Conv2D})
