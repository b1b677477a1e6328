"""Han's iterative pruning: thresholds, rounds, dropout, dead neurons."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import MagnitudePruning
from tfcomp.methods.magnitude_pruning.magnitude_pruning import ThresholdMask, neurons


class Record(keras.callbacks.Callback):
    """Kernels and dropout rates after every step."""

    def __init__(self, kernels):
        super().__init__()
        self.kernels, self.seen, self.rates = kernels, [], []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.kernels(self.model))
        drops = [v for v in self.model.layers if isinstance(v, keras.layers.Dropout)]
        self.rates.append([drop.rate for drop in drops])


def test_rounds_against_the_formula(make_model, fit, kernels):
    model = make_model(keras.optimizers.SGD(0.01))
    start, record = kernels(model), Record(kernels)
    callback = MagnitudePruning(
        quality=1.2, steps=[4, 8, 12], targets={"out": {"quality": 0.6}}, dead_neurons=False
    )
    fit(model, [callback, record])
    for path, quality in (("conv/kernel", 1.2), ("hidden/kernel", 1.2), ("out/kernel", 0.6)):
        deviation = start[path].astype("float64").std()
        assert np.count_nonzero(record.seen[2][path] == 0) == 0
        dead = np.zeros(start[path].shape, bool)
        for part, step in enumerate((3, 7, 11)):
            after = record.seen[step][path]
            kept = np.abs(after[after != 0])
            assert kept.min() >= quality * (part + 1) / 3 * deviation * 0.999
            # What is gone stays gone, in this round and the next.
            assert not (dead & (after != 0)).any()
            dead = after == 0
            assert dead.any()
        np.testing.assert_array_equal(record.seen[-1][path] == 0, dead)


def test_mask_by_hand():
    value = np.array([[3.0, -1.0], [1.0, -3.0]])  # standard deviation sqrt(5) = 2.236
    for quality, kept in ((0.4, 4), (0.5, 2), (5.0, 1)):
        projection = ThresholdMask("w", quality)
        state = projection.adopt(value, projection.init(value))
        new, state = projection.update(value, state, 1.0)
        assert np.count_nonzero(new) == np.count_nonzero(state["mask"]) == kept
        again, _ = projection.update(value * 0.01, state, 1.0)
        np.testing.assert_array_equal(again, value * 0.01)


def test_dropout_shrinks_with_the_square_root_and_comes_back(kernels):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, name="first"),
            keras.layers.Dropout(0.5),
            keras.layers.ReLU(),
            keras.layers.Dense(8, name="second"),
            keras.layers.Dropout(0.4, name="last"),
        ]
    )
    model.compile("sgd", "mse")
    record = Record(kernels)
    callback = MagnitudePruning(quality=1.0, rounds=2)
    x, y = np.ones((16, 8)), np.ones((16, 8))
    model.fit(x, y, batch_size=4, verbose=0, callbacks=[callback, record])
    for seen, rates in zip(record.seen, record.rates):
        kept = np.mean(seen["second/kernel"] != 0)
        assert rates == pytest.approx([0.5 * kept**0.5, 0.4])
    assert record.rates[-1][0] < record.rates[0][0] < 0.5
    assert model.layers[1].rate == 0.5


def test_new_dropout_rate_is_in_force_at_once(fit):
    """A layer without any connection left but one drops next to nothing."""
    model = keras.Sequential(
        [
            keras.Input((400,)),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(100, name="wide", use_bias=False, kernel_initializer="ones"),
        ]
    )
    kernel = np.full((400, 100), 1e-6, "float32")
    kernel[0, 0] = 1.0
    model.set_weights([kernel, *model.get_weights()[1:]])
    model.compile(keras.optimizers.SGD(0.0), "mae")
    x = np.ones((64, 400), "float32")
    y = np.zeros((64, 100), "float32")
    losses = []

    class Losses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(logs["loss"])

    callback = MagnitudePruning(quality=1.0, steps=[1], rounds=1)
    model.fit(x, y, batch_size=1, verbose=0, shuffle=False, callbacks=[callback, Losses()])
    # One input counts: 1 / (1 - rate) or nothing.
    rate = 0.5 * (1 / 40000) ** 0.5
    assert losses[-1] == pytest.approx(0.01 / (1 - rate) * 63 / 64, rel=0.05)


def chain():
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Conv2D(3, 1, name="conv"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(5, name="hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(2, name="out"),
        ]
    )
    for target in tfcomp.targets.find(model):
        target.variable.assign(np.ones(target.variable.shape))
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def test_dead_neurons_lose_their_other_connections(kernels):
    model = chain()
    conv, hidden, out = (np.ones(k.shape, "float32") for k in kernels(model).values())
    conv[..., 1] = 0.01  # a filter without inputs
    hidden[:, 2] = 0.01  # a neuron without inputs
    out[3] = 0.01  # a neuron without outputs
    for name, value in (("conv", conv), ("hidden", hidden), ("out", out)):
        model.get_layer(name).kernel.assign(value)
    callback = MagnitudePruning(quality=0.5, steps=[0], rounds=1)
    model.fit(np.ones((4, 4, 4, 1)), np.ones((4, 2)), verbose=0, callbacks=[callback])
    found = {path: kernel != 0 for path, kernel in kernels(model).items()}
    assert found["conv/kernel"].ravel().tolist() == [True, False, True]
    rows = np.ones((4, 3), bool)
    rows[:, 1] = False
    columns = np.array([True, True, False, False, True])
    wanted = rows.ravel()[:, None] & columns
    np.testing.assert_array_equal(found["hidden/kernel"], wanted)
    np.testing.assert_array_equal(found["out/kernel"], np.repeat(columns[:, None], 2, axis=1))


def test_what_goes_round_the_chain_keeps_a_neuron():
    inputs = keras.Input((4,))
    first = keras.layers.Dense(3, name="first")(inputs)
    second = keras.layers.Dense(3, name="second")(first)
    model = keras.Model(inputs, keras.layers.Add()([first, second]))
    assert neurons.links(model) == []
    assert neurons.links(keras.Model(inputs, [first, second])) == []
    (link,) = neurons.links(keras.Model(inputs, second))
    assert link.producer.name == "first"
    assert [layer.name for layer in link.consumers] == ["second"]
    assert link.paths == ((),)


def predictions(model, x):
    return model.predict(x, verbose=0)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_what_a_dead_neuron_gave_is_kept(padding):
    """A neuron without inputs gives `act(bias)`: in the biases behind, or the neuron stays."""
    keras.utils.set_random_seed(4)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.BatchNormalization(),
            layers.Conv2D(5, 2, padding=padding, name="second"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(6, activation="tanh", name="hidden"),
            layers.Dropout(0.5),
            layers.Dense(2, name="out"),
        ]
    )
    rng = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name != "moving_variance":
            variable.assign(rng.normal(size=variable.shape))
    conv, hidden = (
        keras.ops.convert_to_numpy(model.get_layer(n).kernel).copy() for n in ("conv", "hidden")
    )
    conv[..., 1] = 0
    hidden[:, 2] = 0
    model.get_layer("conv").kernel.assign(conv)
    model.get_layer("hidden").kernel.assign(hidden)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    x = rng.normal(size=(8, 6, 6, 1))
    before = predictions(model, x)
    callback = MagnitudePruning(quality=0.0, steps=[0], rounds=1)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    np.testing.assert_allclose(predictions(model, x), before, rtol=1e-4, atol=1e-4)
    second = keras.ops.convert_to_numpy(model.get_layer("second").kernel)
    assert np.all(second[:, :, 1] == 0) == (padding == "valid")
    assert np.all(keras.ops.convert_to_numpy(model.get_layer("out").kernel)[2] == 0)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"quality": -1}, "quality"),
        ({"quality": "high"}, "quality"),
        ({"rounds": 0}, "rounds"),
        ({"rounds": 1.5}, "rounds"),
        ({"steps": [1, 2], "rounds": 3}, "steps"),
        ({"dropout": 0.5}, "dropout"),
    ],
)
def test_bad_arguments_name_themselves(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        MagnitudePruning(**arguments)


def test_unknown_names_and_overrides(make_model, fit):
    with pytest.raises(ValueError, match="`dropout`"):
        fit(make_model(), [MagnitudePruning(dropout={"drop": "out"})])
    with pytest.raises(ValueError, match="`dropout`"):
        fit(make_model(), [MagnitudePruning(dropout={"hidden": "out"})])
    with pytest.raises(ValueError, match="`quality`"):
        fit(make_model(), [MagnitudePruning(targets={"out": {"quality": -1}})])
