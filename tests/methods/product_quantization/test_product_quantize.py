"""product_quantize: error correction against none, every kind of model, files, rejected input."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.layers import ProductQuantizedConv2D, ProductQuantizedDense


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def convnet():
    keras.utils.set_random_seed(2)
    inner = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(24, activation="relu", name="deep")], name="inner"
    )
    x = keras.Input((6, 6, 3))
    y = keras.layers.Conv2D(16, 3, activation="relu", name="first")(x)
    y = keras.layers.Conv2D(16, 3, groups=2, strides=2, padding="same", name="second")(y)
    y = inner(keras.layers.Flatten()(y))
    return keras.Model(x, keras.layers.Dense(4, name="logits")(y))


def images(n=48):
    return np.abs(np.random.default_rng(0).normal(size=(n, 6, 6, 3))).astype("float32")


OPTIONS = {"subvector_size": 2, "codewords": 4, "verbose": 0}


def distance(model, other, layer=None):
    """Squared difference of outputs, of a layer's where one is named."""
    if layer is not None:
        model, other = (keras.Model(m.inputs, m.get_layer(layer).output) for m in (model, other))
    x = images()
    return float(np.sum((model.predict(x, verbose=0) - other.predict(x, verbose=0)) ** 2))


def test_correction_lowers_the_error_of_every_layer(tmp_path):
    model = convnet()
    before = [w.copy() for w in model.get_weights()]
    plain = tfcomp.product_quantize(model, **OPTIONS).model
    corrected = tfcomp.product_quantize(model, data=images(), **OPTIONS).model
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for layer in ("first", "second", None):
        assert 0 < distance(model, corrected, layer) < distance(model, plain, layer)
    types = {layer.name: type(layer) for layer in corrected.layers}
    assert types["first"] is types["second"] is ProductQuantizedConv2D
    assert type(corrected.get_layer("inner").get_layer("deep")) is ProductQuantizedDense
    # Four outputs share a codebook of four: nothing to gain.
    assert types["logits"] is keras.layers.Dense
    corrected.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(corrected(images(2))), numpy(loaded(images(2))))


def test_enough_codewords_are_exact():
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(32, name="dense")])
    kernel = np.random.default_rng(0).choice([-1.0, 1.0], size=(5, 32))
    model.get_layer("dense").kernel.assign(kernel)
    model.compile("sgd", "mse")
    # Five inputs: the third sub-vector is half empty.
    data = np.random.default_rng(1).normal(size=(64, 5)).astype("float32")
    for x in (None, data):
        small = tfcomp.product_quantize(model, data=x, **OPTIONS).model
        np.testing.assert_allclose(numpy(small.get_layer("dense").kernel), kernel, atol=1e-5)
        assert small.compiled
        np.testing.assert_allclose(numpy(small(data)), numpy(model(data)), atol=1e-4)


def test_overrides_and_fine_tuning(capsys):
    model = convnet()
    targets = {"second": {"codewords": 8, "lookup": True}, "first": None}
    options = {**OPTIONS, "data": images(), "targets": targets, "verbose": 2}
    done = tfcomp.product_quantize(model, **options)
    small = done.model
    assert type(small.get_layer("first")) is keras.layers.Conv2D
    second = small.get_layer("second")
    assert second.lookup and second.codebooks.shape == (8, 8, 2)
    printed = capsys.readouterr().out
    assert "second/kernel: 8 codewords of 2, error " in printed and "Left out: logits" in printed
    assert done["second/kernel"].codewords == 8
    assert 0 < done["second/kernel"].error < done["second/kernel"].kmeans_error
    assert [left.path for left in done.left_out] == ["logits/kernel"]
    assert "Corrected" in str(done) and "left out: " in str(done)
    codes = numpy(second.codes).copy()
    small.compile("adam", "mse")
    x = images()
    y = model.predict(x, verbose=0)
    losses = small.fit(x, y, epochs=4, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(numpy(second.codes), codes)


@keras.saving.register_keras_serializable("tests")
class OfItsOwn(keras.layers.Layer):
    def build(self, shape):
        self.inner = keras.layers.Dense(24, name="inner")
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


def test_all_that_can_be_in_a_model_with_custom_layers():
    layers = [keras.layers.Dense(24, name="first"), OfItsOwn(name="own"), keras.layers.Dense(24)]
    model = keras.Sequential([keras.Input((16,)), *layers])
    layers[2].enable_lora(2)
    x = np.random.default_rng(0).normal(size=(20, 16)).astype("float32")
    done = tfcomp.product_quantize(model, data=x, **OPTIONS)
    assert [row.path for row in done] == ["first/kernel", "own/inner/kernel"]
    assert type(done.model.get_layer("own").inner) is tfcomp.layers.ProductQuantizedDense
    assert dict(done.left_out) == {f"{layers[2].name}/kernel": "it is frozen"}
    with pytest.raises(ValueError, match="LoRA"):
        tfcomp.product_quantize(model, targets=layers[2].name, **OPTIONS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sweeps": 0}, "argument `sweeps`"),
        ({"codewords": 1}, "argument `codewords`"),
        ({"subvector_size": 0}, "argument `subvector_size`"),
        ({"targets": "logits"}, "argument `targets`.*logits"),
        ({"targets": {"second": {"bits": 3}}}, "overrides for second/kernel"),
        ({"codewords": 4000}, "sub-vectors in a sub-space for 4000"),
        ({"sweeps": 1.0}, "argument `sweeps`"),
        ({"seed": -1}, "argument `seed`"),
        ({"verbose": 3}, "argument `verbose`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfcomp.product_quantize(convnet(), **{**OPTIONS, **arguments})
