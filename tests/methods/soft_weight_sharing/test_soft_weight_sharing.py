"""Soft weight-sharing, against a training loop written in numpy."""

import keras
import numpy as np
import pytest

import tfcomp
from tests.methods.soft_weight_sharing import mixture_reference as reference
from tfcomp.callbacks import PreserveSparsity, SoftWeightSharing
from tfcomp.methods.soft_weight_sharing.mixture import Priors

RATE, STEPS = 0.01, 6


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, 12)).astype("float32")
    return x, rng.normal(size=(STEPS, 7)).astype("float32")


@pytest.fixture
def model():
    keras.utils.set_random_seed(2)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(9, use_bias=False, name="first"),
            layers.Dense(7, use_bias=False, name="second"),
        ]
    )
    model.compile(keras.optimizers.SGD(RATE), "mse", run_eagerly=keras.backend.backend() != "jax")
    return model


def kernels(model):
    return [keras.ops.convert_to_numpy(layer.kernel.value).copy() for layer in model.layers]


def fit(model, data, *callbacks, **arguments):
    return model.fit(
        *data, batch_size=1, shuffle=False, verbose=0, callbacks=list(callbacks), **arguments
    )


class Look(keras.callbacks.Callback):
    """Keeps what the weights and the mixtures are at the end of an epoch."""

    def __init__(self, callback):
        super().__init__()
        self.callback = callback

    def on_epoch_end(self, epoch, logs=None):
        self.weights = kernels(self.model)
        self.parameters = [entry.read()[1]["parameters"] for entry in self.callback._entries]


class Adam:
    def __init__(self, rates, size):
        self.rates, self.first, self.second, self.count = rates, np.zeros(size), np.zeros(size), 0

    def step(self, slope):
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * slope
        self.second = 0.999 * self.second + 0.001 * slope**2
        first = self.first / (1 - 0.9**self.count)
        return -self.rates * first / (np.sqrt(self.second / (1 - 0.999**self.count)) + 1e-7)


def prior_gradients(weights, parameters, priors):
    """Of `-log p`, by responsibilities, in double precision."""
    all_means, variances, proportions = reference.components(parameters)
    distance = weights[:, None] - all_means
    joint = reference.joint(weights, parameters)
    r = joint / joint.sum(axis=1, keepdims=True)
    precision = 1 / variances
    of_weights = np.sum(r * distance * precision, axis=1)
    means = -np.sum(r * distance, axis=0)[1:] * precision[1:]
    spread = np.sum(r * (1 - distance**2 * precision), axis=0) / 2
    gammas = [priors.zero_precision] + [priors.precision] * (len(all_means) - 1)
    spread += [a - 1 - b * p for (a, b), p in zip(gammas, precision)]
    counts = r.sum(axis=0)
    share = proportions[1:] / proportions[1:].sum()
    mixing = share * counts[1:].sum() - counts[1:]
    return of_weights, np.concatenate([means, spread, mixing, [0]])


def evenly(weights):
    """Four means over the range of the weights, deviations of their spacing, 0.1 for zero."""
    least, most = min(w.min() for w in weights), max(w.max() for w in weights)
    means = [least + (most - least) * i / 3 for i in range(4)]
    return np.array([*means, *[np.log(((most - least) / 3) ** 2)] * 5, *[0] * 4, -np.log(9)])


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_against_numpy(scope, model, data):
    """Weights and mixtures after a few steps of SGD on a linear network of two layers."""
    a, b = (weight.astype(np.float64) for weight in kernels(model))
    rates = np.repeat([0.01, 0.02, 0.05], [4, 5, 5])
    groups = [[0, 1]] if scope == "global" else [[0], [1]]
    mixtures = []
    for group in groups:
        begin = evenly([[a, b][i] for i in group])
        mixtures.append([group, begin, Adam(rates, len(begin))])
    priors, strength = Priors((50.0, 1.0), (5.0, 0.5)), 0.2 / 60
    for row, wanted in zip(*(part.astype(np.float64) for part in data)):
        error = 2 / 7 * (row @ a @ b - wanted)
        gradients = [np.outer(row, error @ b.T), np.outer(row @ a, error)]
        for group in mixtures:
            flat = np.concatenate([[a, b][i].ravel() for i in group[0]])
            pulled, slope = prior_gradients(flat, group[1], priors)
            for i in group[0]:
                size = [a, b][i].size
                gradients[i] += strength * pulled[:size].reshape([a, b][i].shape)
                pulled = pulled[size:]
            group[1] = group[1] + group[2].step(slope)
        a, b = a - RATE * gradients[0], b - RATE * gradients[1]

    callback = SoftWeightSharing(
        samples=60,
        components=4,
        tau=0.2,
        zero_proportion=0.1,
        zero_precision_prior=priors.zero_precision,
        precision_prior=priors.precision,
        mean_rate=0.01,
        variance_rate=0.02,
        mixing_rate=0.05,
        scope=scope,
    )
    look = Look(callback)
    fit(model, data, callback, look)
    for found, expected in zip(look.weights, (a, b)):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    for group, expected, _ in mixtures:
        for i in group:
            np.testing.assert_allclose(look.parameters[i], expected, rtol=1e-3, atol=1e-4)
    if scope == "global":
        np.testing.assert_array_equal(*look.parameters)

    # And in the end each weight is the mean of its component.
    for i, found in enumerate(kernels(model)):
        # No two are so near that they are merged.
        assert np.all(reference.divergences(look.parameters[i]) > 1e-4)
        means, _, _ = reference.components(look.parameters[i])
        most = reference.joint(look.weights[i].ravel(), look.parameters[i]).argmax(axis=1)
        np.testing.assert_array_equal(found.ravel(), means[most].astype("float32"))
        assert len(set(most)) > 1


def test_what_logs_say_comes_true(model, data):
    callback = SoftWeightSharing(samples=1, components=4, mean_rate=0.01)
    history = fit(model, data, callback, epochs=3)
    for layer, weight in zip(("first", "second"), kernels(model)):
        logged = history.history[f"sparsity/{layer}/kernel"][-1]
        assert logged == np.mean(weight == 0) > 0.1
        assert len(np.unique(weight)) <= 5
    assert len(np.unique(np.concatenate([w.ravel() for w in kernels(model)]))) <= 5


def test_later_fit_trains_what_is_shared(model, data):
    fit(model, data, SoftWeightSharing(samples=100, components=4, zero_proportion=0.1))
    before = kernels(model)
    assert all(len(np.unique(weight)) > 1 for weight in before)
    fit(model, data)
    for old, new in zip(before, kernels(model)):
        np.testing.assert_array_equal(new == 0, old == 0)
        assert np.all(new[old != 0] != old[old != 0])
        assert len(np.unique(new)) == len(np.unique(old))


def test_the_same_callback_in_two_fits(model, data):
    callback = SoftWeightSharing(samples=100, components=4)
    fit(model, data, callback)
    fit(model, data, callback)
    assert len(np.unique(np.concatenate([w.ravel() for w in kernels(model)]))) <= 5


def test_zeros_stay_and_take_no_part(model, data):
    weight = np.where(np.arange(9) % 2, kernels(model)[0], 0)
    model.layers[0].kernel.assign(weight)
    callback = SoftWeightSharing(samples=100, components=4, targets="first", mean_rate=0.0)
    look = Look(callback)
    fit(model, data, PreserveSparsity(), callback, look)
    assert not np.any(kernels(model)[0][weight == 0])
    # Means began evenly over the range, and did not move.
    expected = np.linspace(weight.min(), weight.max(), 4)
    np.testing.assert_allclose(look.parameters[0][:4], expected, rtol=1e-6)
    assert not np.any(look.weights[0][weight == 0])
    assert len(np.unique(kernels(model)[1])) == 63


def test_accumulated_batches_move_the_mixture_once(data, model):
    optimizer = keras.optimizers.SGD(RATE, gradient_accumulation_steps=3)
    model.compile(optimizer, "mse")
    callback = SoftWeightSharing(samples=100, components=4)
    counts = []

    class Count(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            counts.extend(entry.read()[1]["iteration"] for entry in callback._entries)

    fit(model, data, callback, Count())
    assert counts == [STEPS // 3] * 2


def test_bad_arguments_name_themselves(model, data):
    for arguments, name in [
        ({"samples": 0}, "samples"),
        ({"samples": 2.5}, "samples"),
        ({"components": 0}, "components"),
        ({"tau": -1}, "tau"),
        ({"zero_proportion": 0}, "zero_proportion"),
        ({"zero_proportion": 1}, "zero_proportion"),
        ({"zero_proportion_prior": 5}, "zero_proportion_prior"),
        ({"precision_prior": (1, -1)}, "precision_prior"),
        ({"zero_precision_prior": (1, 2, 3)}, "zero_precision_prior"),
        ({"mean_rate": "fast"}, "mean_rate"),
        ({"merge": -1}, "merge"),
        ({"scope": "model"}, "scope"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            SoftWeightSharing(**{"samples": 100, **arguments})
    model.layers[0].kernel.assign(np.zeros((12, 9)))
    with pytest.raises(ValueError, match="not zero everywhere"):
        fit(model, data, tfcomp.callbacks.SoftWeightSharing(samples=100))
