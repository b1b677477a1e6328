"""Dynamic network surgery: thresholds, splicing, and the weights behind the mask."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import DynamicNetworkSurgery
from tfcomp.methods.dynamic_network_surgery import next_random


def linear(kernel, optimizer=None, loss="mse"):
    """A model that multiplies by a matrix."""
    kernel = np.asarray(kernel, "float32")
    model = keras.Sequential(
        [
            keras.Input((kernel.shape[0],)),
            keras.layers.Dense(kernel.shape[1], use_bias=False, name="dense"),
        ]
    )
    model.set_weights([kernel])
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss)
    return model


def weights(model):
    return keras.ops.convert_to_numpy(model.layers[0].kernel)


class Record(keras.callbacks.Callback):
    """The kernel after every step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(weights(self.model).copy())


def test_every_step_against_the_papers_rule():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 5)).astype("float32")
    x = rng.normal(size=(40, 4, 6)).astype("float32")
    y = rng.normal(size=(40, 4, 5)).astype("float32") * 2
    c, gamma, power, slack, rate = 0.3, 0.1, 1.0, 0.1, 0.2

    magnitudes = np.abs(start.astype("float64"))
    centre = magnitudes.mean() + c * magnitudes.std()
    low, high = 0.9 * centre, 1.1 * centre
    latent, mask = start.astype("float64"), np.ones(start.shape, bool)
    number = int(np.random.default_rng([7, 0]).integers(1, 2**31 - 1, dtype=np.int32))
    expected, decisions, revived = [], 0, 0
    for iteration in range(40):
        effective = latent * mask
        gradient = 2 / y[0].size * x[iteration].T @ (x[iteration] @ effective - y[iteration])
        latent = latent - rate * gradient
        number = 16807 * number % (2**31 - 1)
        if number / (2**31 - 1) < (1 + gamma * iteration) ** -power:
            decisions += 1
            before = mask.copy()
            mask[np.abs(latent) < low] = False
            mask[np.abs(latent) >= high] = True
            revived += np.count_nonzero(mask & ~before)
        expected.append(latent * mask)
    # The example is one in which things happen.
    assert revived > 0
    assert 5 < decisions < 35

    model, record = linear(start, keras.optimizers.SGD(rate)), Record()
    surgery = DynamicNetworkSurgery(c=c, gamma=gamma, power=power, slack=slack, seed=7)
    model.fit(
        x.reshape(-1, 6), y.reshape(-1, 5), batch_size=4, shuffle=False, verbose=0,
        callbacks=[surgery, record],
    )  # fmt: skip
    for got, wanted in zip(record.seen, expected, strict=True):
        np.testing.assert_array_equal(got == 0, wanted == 0)
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-5)


def test_random_numbers_are_those_of_park_and_miller():
    """From 1, the ten thousandth is 1043618065, as their paper says."""
    number = np.int32(1)
    for _ in range(1000):
        number = np.int32(
            keras.ops.convert_to_numpy(next_random(keras.ops.convert_to_tensor(number)))
        )
    assert number == pow(16807, 1000, 2**31 - 1)
    assert pow(16807, 10000, 2**31 - 1) == 1043618065


def drawn(model, steps, **arguments):
    """The numbers in [0, 1) that the decisions of each layer are taken by, step by step."""
    surgery = DynamicNetworkSurgery(**arguments)
    surgery.set_model(model)
    surgery.on_train_begin()
    surgery.on_epoch_begin(0)
    found = []
    for _ in range(steps):
        for entry in surgery._entries:
            state = entry.tensors()
            _, new = entry.projection.after(keras.ops.convert_to_tensor(entry.read()[0]), state)
            entry.keep(new, state)
        found.append([int(entry.read()[1]["random"]) for entry in surgery._entries])
    return np.array(found) / (2**31 - 1)


def test_decisions_are_random_and_each_tensor_has_its_own():
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2), keras.layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    numbers = drawn(model, 600, seed=5)
    for chance in (0.1, 0.3, 0.8):
        share = np.mean(numbers < chance, axis=0)
        np.testing.assert_allclose(share, chance, atol=4 * (chance * (1 - chance) / 600) ** 0.5)
    # Of two tensors, and of two steps, one after the other.
    assert np.all(np.abs(np.corrcoef(numbers.T)[np.triu_indices(3, 1)]) < 0.17)
    assert abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.17


def test_weight_decay_acts_on_hidden_weights_too():
    """Without a gradient, alive and hidden weights shrink alike: `0.99**100` of what they were."""
    start = np.array([[2.0, 0.1], [1.0, 0.2]], "float32")
    model = linear(start, keras.optimizers.SGD(0.1, weight_decay=0.1))
    x, y = np.zeros((100, 2), "float32"), np.zeros((100, 2), "float32")
    surgery = DynamicNetworkSurgery(c=0.0, gamma=0.0, end_step=1)
    model.fit(x, y, batch_size=1, verbose=0, callbacks=[surgery])
    (entry,) = surgery._entries
    _, state = entry.read()
    assert state["mask"].tolist() == [[True, False], [True, False]]
    np.testing.assert_allclose(state["latent"], start * 0.99**100, rtol=1e-5)
    np.testing.assert_allclose(weights(model), start * state["mask"] * 0.99**100, rtol=1e-5)


def test_revives_what_was_pruned_too_early_and_magnitude_pruning_does_not():
    """The one weight that matters starts as the smallest."""
    start = np.array([[0.01], [1.0], [1.2], [1.1]])
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).astype("float32")
    y = x @ np.array([[3.0], [0.0], [1.5], [0.0]], "float32")

    record = Record()
    spliced = linear(start, keras.optimizers.SGD(0.02))
    surgery = DynamicNetworkSurgery(c=0.0, gamma=0.0)
    spliced.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=[surgery, record])
    assert record.seen[0][0, 0] == 0
    np.testing.assert_allclose(weights(spliced), [[3.0], [0.0], [1.5], [0.0]], atol=0.05)
    np.testing.assert_array_equal(weights(spliced)[[1, 3]], 0)

    magnitude = linear(start, keras.optimizers.SGD(0.02))
    constant = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    pruning = tfcomp.callbacks.GradualPruning(constant)
    magnitude.fit(x, y, batch_size=4, epochs=4, verbose=0, callbacks=[pruning])
    assert weights(magnitude)[0, 0] == 0


def test_phases_and_stop(make_model, fit, kernels):
    """Convolutions first, dense layers from step 8 on, nothing after step 12."""
    seen = []

    class Zeros(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            found = kernels(self.model)
            seen.append({name: found[name] == 0 for name in ("conv/kernel", "out/kernel")})

    surgery = DynamicNetworkSurgery(
        gamma=0.0,
        targets={
            "conv": {"c": 0.2, "end_step": 4},
            keras.layers.Dense: {"c": 0.5, "begin_step": 8, "end_step": 12},
            ...: None,
        },
    )
    fit(make_model(), [surgery, Zeros()])
    assert seen[0]["conv/kernel"].any()
    assert not any(zeros["out/kernel"].any() for zeros in seen[:8])
    assert seen[8]["out/kernel"].any()
    for zeros in seen[4:]:
        np.testing.assert_array_equal(zeros["conv/kernel"], seen[4]["conv/kernel"])
    for zeros in seen[12:]:
        np.testing.assert_array_equal(zeros["out/kernel"], seen[12]["out/kernel"])


def test_masks_stand_still_after_fit(make_model, fit, kernels):
    model = make_model()
    history = fit(model, [DynamicNetworkSurgery(c=0.3, gamma=0.0)])
    zeros = {path: kernel == 0 for path, kernel in kernels(model).items()}
    assert 0.3 < history.history["sparsity"][-1] < 1
    total = np.concatenate([zeros[f"{name}/kernel"].ravel() for name in ("conv", "hidden", "out")])
    assert history.history["sparsity"][-1] == pytest.approx(total.mean())
    fit(model)
    for path, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel == 0, zeros[path])


def test_goes_on_from_a_pruned_model(make_model, fit, kernels):
    """Earlier zeros count as pruned, not as the smallest of the weights."""
    model = make_model()
    constant = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    fit(model, [tfcomp.callbacks.GradualPruning(constant)])
    value = kernels(model)["hidden/kernel"]
    alive = np.abs(value[value != 0])
    surgery = DynamicNetworkSurgery(c=0.1, gamma=0.0)
    fit(model, [surgery], epochs=1)
    (entry,) = [e for e in surgery._entries if e.target.path == "hidden/kernel"]
    centre = alive.mean() + 0.1 * alive.std()
    assert float(entry.state["low"].value) == pytest.approx(0.9 * centre, rel=1e-4)
    assert np.mean(kernels(model)["hidden/kernel"] == 0) > 0.5


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"c": "high"}, "c"),
        ({"c": float("nan")}, "c"),
        ({"gamma": -1}, "gamma"),
        ({"power": -0.5}, "power"),
        ({"slack": 1.0}, "slack"),
        ({"begin_step": -1}, "begin_step"),
        ({"begin_step": 5, "end_step": 4}, "end_step"),
    ],
)
def test_bad_arguments_name_themselves(arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        DynamicNetworkSurgery(**arguments)


def test_too_large_c_raises_before_training(make_model, fit):
    with pytest.raises(ValueError, match="all of conv/kernel would be pruned"):
        fit(make_model(), [DynamicNetworkSurgery(c=50)])
