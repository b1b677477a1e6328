"""swap_layers: layers that the code of other layers and of subclassed models made."""

import functools

import keras
import numpy as np
import pytest

import tfcomp
from tests.surgery.foreign import CLASSES, Backbone, Mixer, Network
from tfcomp.layers import QuantizedDense, QuantizedEinsumDense, TernaryDense

DENSE = keras.layers.Dense
ternary_einsum = functools.partial(QuantizedEinsumDense, kernel_quantizer="ternary")
X = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")


def outputs(model, x=X):
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(model(x))]


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def differ(ours, theirs):
    return all(np.any(a != b) for a, b in zip(ours, theirs, strict=True))


def perturb(model):
    random = np.random.default_rng(1)
    for weight in model.weights:
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(weight + 0.1 * random.normal(size=weight.shape))
    return model


def mixed():
    inputs = keras.Input((4,))
    return perturb(keras.Model(inputs, DENSE(2, name="out")(Mixer(name="mix")(inputs))))


def network():
    model = Network()
    model(X)
    return perturb(model)


def dense_types(mixer):
    layers = [mixer.listed[0], mixer.named["first"], mixer.paired[0], mixer.stack.layers[0]]
    return {type(layer) for layer in [*layers, mixer.late]}


def reloaded(model, folder):
    """The model from Keras's file and from tfcomp's."""
    model.save(folder / "m.keras")
    tfcomp.save(model, folder / "m.tfc")
    return (
        keras.models.load_model(folder / "m.keras", custom_objects=CLASSES),
        tfcomp.load(folder / "m.tfc", custom_objects=CLASSES),
    )


def test_projections_of_attention(tmp_path):
    x = keras.Input((5, 4))
    attention = keras.layers.MultiHeadAttention(2, 3, name="attend")
    model = perturb(keras.Model(x, attention(x, x, use_causal_mask=True)))
    data = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    before = outputs(model, data)
    # Without a quantizer nothing changes.
    same = tfcomp.swap_layers(model, {keras.layers.EinsumDense: QuantizedEinsumDense})
    assert_same(outputs(same, data), before)
    swapped = tfcomp.swap_layers(model, {keras.layers.EinsumDense: ternary_einsum})
    inner = swapped.get_layer("attend")
    assert isinstance(inner, keras.layers.MultiHeadAttention)
    # As if the attention had been made with rounded kernels from the start.
    kernels = [v for v in model.weights if v.name == "kernel"]
    for kernel in kernels:
        kernel.assign(tfcomp.quantizers.Ternary()(kernel.value))
    for a, b in zip(outputs(swapped, data), outputs(model, data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert [v.path for v in swapped.weights] == [v.path for v in model.weights]
    after = outputs(swapped, data)
    again = tfcomp.swap_layers(swapped, {...: None})
    for loaded in (*reloaded(swapped, tmp_path), again):
        assert type(loaded.get_layer("attend")._key_dense) is QuantizedEinsumDense
        assert_same(outputs(loaded, data), after)
    assert type(model.get_layer("attend")._key_dense) is keras.layers.EinsumDense


def test_layers_in_every_container(tmp_path):
    model = mixed()
    before = outputs(model)
    swapped = tfcomp.swap_layers(model, {DENSE: QuantizedDense})
    assert_same(outputs(swapped), before)
    swapped = tfcomp.swap_layers(model, {DENSE: TernaryDense, "out": None})
    mixer = swapped.get_layer("mix")
    assert dense_types(mixer) == {TernaryDense} and isinstance(mixer, Mixer)
    assert dense_types(model.get_layer("mix")) == {DENSE}
    assert len(swapped.weights) == len(model.weights)
    for a, b in zip(model.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    after = outputs(swapped)
    assert differ(after, before)
    for loaded in reloaded(swapped, tmp_path):
        assert dense_types(loaded.layers[1]) == {TernaryDense}
        assert_same(outputs(loaded), after)
    swapped.compile("sgd", "mse")
    swapped.fit(X, np.ones((3, 2)), verbose=0)
    assert differ(outputs(swapped), after)


def test_what_is_inside_can_be_kept():
    swapped = tfcomp.swap_layers(mixed(), {DENSE: TernaryDense, "mix": None})
    assert dense_types(swapped.get_layer("mix")) == {DENSE}
    assert type(swapped.get_layer("out")) is TernaryDense


def test_subclassed_models_in_place(tmp_path):
    model = network()
    names = [v.path for v in model.weights]
    before = outputs(model)
    assert tfcomp.swap_layers(model, {DENSE: QuantizedDense}) is model
    assert_same(outputs(model), before)
    assert tfcomp.swap_layers(model, {QuantizedDense: TernaryDense}) is model
    assert type(model.encoder.get_layer("encode")) is TernaryDense
    assert model.alias is model.heads["a"] and type(model.alias) is TernaryDense
    assert all(dense_types(block) == {TernaryDense} for block in model.blocks)
    assert [v.path for v in model.weights] == names
    after = outputs(model)
    assert differ(after, before)
    for loaded in reloaded(model, tmp_path):
        assert isinstance(loaded, Network) and loaded.alias is loaded.heads["a"]
        assert all(dense_types(block) == {TernaryDense} for block in loaded.blocks)
        assert_same(outputs(loaded), after)
    model.save_weights(tmp_path / "m.weights.h5")
    perturb(loaded).load_weights(tmp_path / "m.weights.h5")
    assert_same(outputs(loaded), after)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="writes a SavedModel")
def test_exported_as_it_computes(tmp_path):
    import tensorflow as tf

    model = tfcomp.swap_layers(network(), {DENSE: TernaryDense})
    expected = {name: keras.ops.convert_to_numpy(y) for name, y in model(X).items()}
    tfcomp.export(model, tmp_path / "saved", verbose=0)
    loaded = tf.saved_model.load(tmp_path / "saved")
    found = [y.numpy() for y in loaded.signatures["serving_default"](tf.constant(X)).values()]
    for value in expected.values():
        (match,) = [y for y in found if y.shape == value.shape]
        np.testing.assert_allclose(match, value, rtol=1e-5, atol=1e-5)


def test_subclassed_model_trains_what_was_put_in():
    model = network()
    target = {"a": np.ones((3, 3)), "b": np.ones((3, 2))}
    model.compile(keras.optimizers.Adam(0.25), "mse")
    model.fit(X, target, verbose=0)
    tfcomp.swap_layers(model, {DENSE: TernaryDense})
    assert float(model.optimizer.learning_rate) == 0.25 and int(model.optimizer.iterations) == 0
    before = [keras.ops.convert_to_numpy(head.kernel) for head in model.heads.values()]
    model.fit(X, target, verbose=0)
    assert differ(
        [keras.ops.convert_to_numpy(head.kernel) for head in model.heads.values()], before
    )


def test_predict_does_not_go_on_with_what_it_traced():
    model = network()
    before = keras.tree.flatten(model.predict(X, verbose=0))
    tfcomp.swap_layers(model, {DENSE: TernaryDense})
    assert differ(keras.tree.flatten(model.predict(X, verbose=0)), before)


def test_functional_models_that_connect_themselves(tmp_path):
    model = perturb(Backbone())
    before = outputs(model)
    kept = tfcomp.swap_layers(model, {...: None})
    assert type(kept) is Backbone and kept is not model
    assert_same(outputs(kept), before)
    swapped = tfcomp.swap_layers(model, {DENSE: TernaryDense})
    assert isinstance(swapped, Backbone) and swapped.greet() == "hello"
    assert swapped.first is swapped.get_layer("first") and type(swapped.first) is TernaryDense
    assert dense_types(swapped.get_layer("mix")) == {TernaryDense}
    assert len(swapped.weights) == len(model.weights)
    assert_same(outputs(model), before)
    after = outputs(swapped)
    assert differ(after, before)
    for loaded in reloaded(swapped, tmp_path):
        assert isinstance(loaded, Backbone) and type(loaded.first) is TernaryDense
        assert_same(outputs(loaded), after)


def test_subclassed_model_inside_a_functional_one():
    inner, x = Network(), keras.Input((4,))
    model = perturb(keras.Model(x, DENSE(2, name="out")(inner(x)["a"])))
    before = outputs(model)
    swapped = tfcomp.swap_layers(model, {DENSE: QuantizedDense})
    assert_same(outputs(swapped), before)
    assert type(inner.alias) is DENSE and type(swapped.layers[1].alias) is QuantizedDense


class Hidden(keras.Model):
    """Calls a layer that it holds out of reach."""

    def __init__(self):
        super().__init__()
        self.dense = DENSE(2, name="dense")
        dense = self.dense
        self.function = lambda x: dense(x)

    def call(self, x):
        return self.function(x)


def test_layers_out_of_reach_are_refused():
    model = Hidden()
    expected = outputs(model)
    dense = model.dense
    with pytest.raises(ValueError, match=r"'dense' cannot be replaced in .*cannot be reached"):
        tfcomp.swap_layers(model, {DENSE: TernaryDense})
    assert model.dense is dense and model.weights[0] is dense.kernel
    assert_same(outputs(model), expected)


def test_replacements_of_another_shape_are_refused():
    model = network()
    head = model.heads["b"]
    with pytest.raises(ValueError, match=f"'{head.name}' returns the shape .*, 2.*, 7"):
        tfcomp.swap_layers(model, {head: lambda layer: DENSE(7)})
    assert model.heads["b"] is head


def test_calls_that_must_not_change_a_model_refuse_subclassed_ones():
    with pytest.raises(ValueError, match=r"argument `model`.*made and connected by its own code"):
        tfcomp.surgery.swapped_copy(network(), {...: None})
