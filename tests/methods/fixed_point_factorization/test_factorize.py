"""Factorizing a model in one call."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.layers import FactorizedConv2D, FactorizedDense
from tfcomp.methods.fixed_point_factorization.semidiscrete import recover, semidiscrete


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def make_sequential():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(5, kernel_initializer="he_normal", name="out"),
        ],
        name="net",
    )


def make_functional():
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6, name="deep")], name="inner")
    shared = keras.layers.Dense(6, name="shared")
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    x = keras.layers.add([shared(a), shared(b)])
    return keras.Model([a, b], inner(x) + x)


def test_sequential_with_a_rank_of_its_own(capsys):
    model = make_sequential()
    model.get_layer("out").bias.assign(np.arange(5.0))
    model.compile("sgd", "mse")
    done = tfcomp.factorize(model, 8, targets={"out": {"rank": 2.0}})
    new = done.model
    assert [layer.name for layer in new.layers] == [layer.name for layer in model.layers]
    assert new.name == "net" and new.optimizer is not model.optimizer
    conv, out = new.get_layer("conv"), new.get_layer("out")
    assert isinstance(conv, FactorizedConv2D) and isinstance(out, FactorizedDense)
    assert (conv.rank, out.rank) == (8, 10)
    assert conv.strides == (2, 2) and conv.padding == "same" and conv.activation.__name__ == "relu"
    np.testing.assert_array_equal(numpy(out.bias), np.arange(5))
    assert "18/18" in capsys.readouterr().out and "Squared error" in str(done)
    assert done["conv"][:4] == ("conv", 27, 6, 8) and not done.left_out

    for layer in (conv, out):
        w = numpy(model.get_layer(layer.name).kernel)
        matrix = w.reshape(-1, w.shape[-1])
        factors = semidiscrete(matrix, layer.rank)
        kernel = numpy(layer.kernel).reshape(matrix.shape)
        error = np.sum((matrix - factors.product()) ** 2) / np.sum(matrix**2)
        assert done[layer.name].error == pytest.approx(error, rel=1e-4)
        np.testing.assert_allclose(kernel, factors.product(), rtol=1e-4, atol=1e-6)
        # What is stored is full-precision.
        latent = recover(matrix, factors)
        for (variable, quantizer), real in zip(layer.weight_quantizers, (latent.x, latent.y.T)):
            stored = numpy(variable).reshape(real.shape) / quantizer.step
            np.testing.assert_allclose(stored, real, rtol=1e-4, atol=1e-5)


def test_outputs_come_near_as_rank_grows():
    model = make_sequential()
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3)).astype("float32")
    whole = numpy(model(x))
    errors = [
        np.abs(numpy(tfcomp.factorize(model, rank, verbose=0).model(x)) - whole).max()
        for rank in (0.5, 2.0, 10.0)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01 * np.abs(whole).max()


def test_functional_with_shared_and_nested_layers(tmp_path):
    model = make_functional()
    new = tfcomp.factorize(model, 60, verbose=0).model
    assert isinstance(new.get_layer("shared"), FactorizedDense)
    assert isinstance(new.get_layer("inner").get_layer("deep"), FactorizedDense)
    x = [np.ones((2, 4), "float32"), np.full((2, 4), -0.5, "float32")]
    np.testing.assert_allclose(numpy(new(x)), numpy(model(x)), atol=0.02)
    new.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(new(x)), numpy(loaded(x)))


def test_fine_tuning_makes_good_what_was_lost():
    layers = [keras.layers.Dense(30, activation="relu"), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input((20,)), *layers])
    x = np.random.default_rng(0).normal(size=(256, 20)).astype("float32")
    y = numpy(model(x))
    new = tfcomp.factorize(model, 0.5, verbose=0).model
    new.compile(keras.optimizers.Adam(0.003), "mse")
    before = new.evaluate(x, y, verbose=0)
    new.fit(x, y, epochs=10, batch_size=16, verbose=0)
    assert new.evaluate(x, y, verbose=0) < 0.75 * before


def test_only_some_layers():
    new = tfcomp.factorize(make_sequential(), 3, targets="out", verbose=0).model
    assert type(new.get_layer("conv")) is keras.layers.Conv2D
    assert type(new.get_layer("out")) is FactorizedDense


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": -0.5}, "rank"),
        ({"rank": True}, "rank"),
        ({"rank": "8"}, "rank"),
        ({"targets": {"out": {"rank": 0}}}, "rank"),
        ({"targets": {"out": {"ranks": 1}}}, "targets"),
        ({"targets": "nothing"}, "targets"),
        ({"recovery": -1}, "recovery"),
        ({"recovery": 1.5}, "recovery"),
        ({"sweeps": True}, "sweeps"),
        ({"verbose": 3}, "verbose"),
        ({"sweeps": 0}, "sweeps"),
        ({"balance": 0}, "balance"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        tfcomp.factorize(make_sequential(), **arguments)


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):
    """A layer of a user, which makes one of its own."""

    def build(self, shape):
        self.inner = keras.layers.Dense(8, name="inner")
        self.inner.build(shape)
        self.mixing = self.add_weight(shape=(8, 8), name="mixing")

    def call(self, x):
        return keras.ops.matmul(self.inner(x), self.mixing)


def test_all_that_can_be_in_a_model_with_custom_layers():
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 4)), layers.LSTM(8, name="lstm"), Block(name="block")]
    )
    held = layers.Dense(8, kernel_constraint="non_neg", name="held")
    small, frozen = layers.Dense(8, name="int8"), layers.Dense(8, trainable=False, name="frozen")
    for layer in (held, small, frozen, layers.Dense(8, name="out")):
        model.add(layer)
    small.quantize("int8")
    done = tfcomp.factorize(model, 60, verbose=0)
    assert [row.path for row in done] == ["block/inner", "out"]
    for layer in (done.model.get_layer("block").inner, done.model.layers[-1]):
        assert type(layer) is FactorizedDense
    assert dict(done.left_out) == {
        "lstm/lstm_cell/kernel": "the 'kernel' of LSTMCell",
        "lstm/lstm_cell/recurrent_kernel": "the 'recurrent_kernel' of LSTMCell",
        "block/mixing": "the 'mixing' of Block",
        "held/kernel": "it has a kernel constraint, which the factors cannot keep to",
        "int8/kernel": "Keras has quantized it to int8",
        "frozen/kernel": "it is frozen",
    }
    x = np.random.default_rng(0).normal(size=(3, 8, 4)).astype("float32")
    np.testing.assert_allclose(numpy(done.model(x)), numpy(model(x)), atol=0.02)
    for targets in ("block", ["held", "out"], {"held": {}}):
        with pytest.raises(ValueError, match="argument `targets`"):
            tfcomp.factorize(model, targets=targets, verbose=0)


def test_layers_that_cannot_be():
    grouped = keras.Sequential([keras.Input((8, 4)), keras.layers.Conv1D(4, 3, groups=2, name="g")])
    with pytest.raises(ValueError, match="g/kernel: its layer has groups"):
        tfcomp.factorize(grouped)
    held = keras.layers.Dense(4, kernel_constraint="non_neg", name="held")
    with pytest.raises(ValueError, match="kernel constraint"):
        tfcomp.factorize(keras.Sequential([keras.Input((8,)), held]))
    model = make_sequential()
    model.get_layer("out").kernel.assign(np.full(model.get_layer("out").kernel.shape, np.nan))
    with pytest.raises(ValueError, match="NaN"):
        tfcomp.factorize(model)
