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


class Noisy(keras.layers.Layer):
    """A user's layer that is random in training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x, training=False):
        if training:
            x = x + keras.random.normal(keras.ops.shape(x), seed=self.seeds)
        return x


class AlwaysOn(Noisy):
    """Like Keras's augmentations: its own default is `training=True`."""

    def call(self, x, training=True):
        return super().call(x, training=training)


def _orthogonal(kind):
    made = keras.initializers.Orthogonal
    return kind(4, dropout=0.5, kernel_initializer=made(seed=1), recurrent_initializer=made(seed=2))


RANDOM = {
    "noise": lambda: keras.layers.GaussianNoise(1.0),
    "gaussian_dropout": lambda: keras.layers.GaussianDropout(0.5),
    "dropout": lambda: keras.layers.Dropout(0.5),
    "alpha_dropout": lambda: keras.layers.AlphaDropout(0.5),
    "spatial": lambda: keras.layers.SpatialDropout1D(0.5),
    "lstm": lambda: _orthogonal(keras.layers.LSTM),
    "gru": lambda: _orthogonal(keras.layers.GRU),
    "attention": lambda: Itself(keras.layers.MultiHeadAttention(1, 4, dropout=0.5)),
    "brightness": lambda: keras.layers.RandomBrightness(1.0, value_range=(0, 1)),
    "contrast": lambda: keras.layers.RandomContrast(0.5, value_range=(0, 1)),
    "user": Noisy,
    "always": AlwaysOn,
    "nested": lambda: keras.Sequential([keras.layers.GaussianNoise(1.0), Noisy()]),
}


class Itself(keras.layers.Layer):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x, x)


@pytest.mark.parametrize("name", RANDOM)
def test_constant_data_have_no_variance(name):
    """Nothing but normalization runs as in training while statistics are estimated."""
    shape = (4, 4, 3) if name in ("brightness", "contrast") else (5, 3)
    norm = keras.layers.BatchNormalization()
    layers = [RANDOM[name](), norm, keras.layers.Flatten(), keras.layers.Dense(2, name="out")]
    model = keras.Sequential([keras.Input(shape), *layers])
    x = np.full((8, *shape), 0.5, "float32")
    inner = keras.Model(model.inputs, model.layers[0].output)
    mean = inner.predict(x, verbose=0).reshape(-1, norm.moving_mean.shape[0])
    tfcomp.quantize(model, lambda w: w, data=x, targets="out", batch_size=4, verbose=0)
    if name not in ("lstm", "gru", "attention"):
        np.testing.assert_allclose(numpy(norm.moving_variance), 0, atol=1e-6)
    np.testing.assert_allclose(numpy(norm.moving_variance), mean.var(0), atol=1e-6)
    np.testing.assert_allclose(numpy(norm.moving_mean), mean.mean(0), rtol=1e-4, atol=1e-6)


def trained(seed=0, shift=0.0):
    """A network whose statistics are those of its training data."""
    rng = np.random.default_rng(seed)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(32, name="first"),
            layers.BatchNormalization(name="norm", momentum=0.8),
            layers.ReLU(),
            layers.Dense(16, name="second"),
            layers.BatchNormalization(name="deep", momentum=0.8),
            layers.Dense(4, name="out"),
        ]
    )
    x = rng.normal(size=(512, 20)).astype("float32") * np.linspace(0.2, 2, 20, dtype="float32")
    y = np.tanh(x @ rng.normal(size=(20, 4)))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, epochs=8, batch_size=32, verbose=0)
    return model, x


def outputs_error(model, wanted, x):
    return np.sum((model.predict(x, verbose=0) - wanted) ** 2) / np.sum(wanted**2)


@pytest.mark.parametrize("quantizer", ["int8", "ternary"])
@pytest.mark.parametrize("few", [False, True])
def test_the_better_statistics_are_kept(quantizer, few):
    model, x = trained()
    quantizer = tfcomp.quantizers.Int8() if quantizer == "int8" else quantizer
    # A few samples, some of them far off, say little of the statistics.
    data = np.concatenate([x[:6], 4 * x[6:8]]) if few else x
    wanted = model.predict(data, verbose=0)
    weights = model.get_weights()
    plain = tfcomp.quantize(model, quantizer, verbose=0)
    assert plain.statistics == {} and plain.output_errors is None
    left_alone = outputs_error(model, wanted, data)
    old = [v.copy() for v in model.get_weights()]
    model.set_weights(weights)
    done = tfcomp.quantize(model, quantizer, data=data, batch_size=64, verbose=0)
    error = outputs_error(model, wanted, data)
    assert done.output_errors["before"] == pytest.approx(left_alone, rel=1e-3, abs=1e-9)
    kept = "data" if done.output_errors["data"] < done.output_errors["before"] else "before"
    assert done.output_errors[kept] == pytest.approx(error, rel=1e-3, abs=1e-9)
    assert error <= left_alone * (1 + 1e-5)
    assert done.statistics == {"norm": kept, "deep": kept}
    if kept == "before":
        for a, b in zip(old, model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    if quantizer != "ternary":
        assert kept == "before"
    elif not few:
        assert kept == "data" and error < left_alone
    assert f"statistics of {kept}" in str(done)


def test_normalizations_of_other_kinds():
    """One that measures spread in its own way is given that; averages of renormalization stay."""
    layers = keras.layers
    norm = tfcomp.layers.ShiftBatchNormalization()
    other = layers.BatchNormalization(renorm=True)
    model = keras.Sequential([keras.Input((5, 3)), norm, other, layers.Dense(2, name="out")])
    x = np.random.default_rng(0).normal(size=(6, 5, 3)).astype("float32")
    before = {v.path: numpy(v) for v in other.variables if "renorm" in v.name}
    tfcomp.quantize(model, "ternary", data=x, targets="out", batch_size=6, verbose=0)
    flat = x.reshape(-1, 3) - x.mean((0, 1))
    shifted = np.sign(flat) * 2.0 ** np.rint(np.log2(np.abs(flat)))
    np.testing.assert_allclose(numpy(norm.moving_variance), (flat * shifted).mean(0), rtol=1e-4)
    after = {v.path: numpy(v) for v in other.variables if "renorm" in v.name}
    assert len(before) > 1 and np.any(numpy(other.moving_mean) != 0)
    for path, value in before.items():
        np.testing.assert_array_equal(value, after[path])


def test_bad_arguments_change_nothing(model):
    before = model.get_weights()
    for arguments, name in [
        ({"quantizer": "terniary"}, "quantizer"),
        ({"quantizer": None}, "quantizer"),
        ({"quantizer": "ternary", "verbose": 4}, "verbose"),
        ({"quantizer": "ternary", "data": np.ones((3, 6, 6, 4)), "batch_size": 2.5}, "batch_size"),
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
