"""Pruning by Karnin's sensitivity."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import SensitivityPruning

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 4, 6)).astype("float32")
Y = RNG.normal(size=(40, 4, 5)).astype("float32")
START = RNG.normal(size=(6, 5)).astype("float32")


def train(optimizer, callback, steps=40, **arguments):
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, use_bias=False)])
    model.set_weights([START])
    model.compile(optimizer, "mse", **arguments)
    x, y = X[:steps].reshape(-1, 6), Y[:steps].reshape(-1, 5)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[callback])
    return model


def at(step, sparsity=0.5):
    return tfcomp.schedules.ConstantSparsity(sparsity, begin_step=step)


def gradient(weight, step):
    return 2 / Y[0].size * X[step].T @ (X[step] @ weight - Y[step])


def test_against_the_formula_for_gradient_descent():
    """S is the sum of the squared changes over the rate, times w / (w - w_initial)."""
    rate, weight, squares = 0.3, START.astype("float64"), 0.0
    for step in range(40):
        change = -rate * gradient(weight, step)
        weight, squares = weight + change, squares + change**2
    sensitivity = squares / rate * weight / (weight - START)
    # Some are negative: these weights shrank, and the loss with them.
    assert (sensitivity < 0).any()
    callback = SensitivityPruning(at(40))
    model = train(keras.optimizers.SGD(rate), callback)
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    pruned = np.argsort(sensitivity, axis=None)[:15]
    assert set(np.flatnonzero(kernel == 0)) == set(pruned)
    magnitude = np.argsort(np.abs(weight), axis=None)[:15]
    assert set(pruned) != set(magnitude)
    (entry,) = callback._entries
    gain = keras.ops.convert_to_numpy(entry.state["gain"].value)
    np.testing.assert_allclose(gain, squares / rate, rtol=1e-3)


def test_any_optimizer_by_the_gradient_form():
    weight, gain = START.astype("float64"), 0.0
    first, second = 0.0, 0.0
    for step in range(20):
        g = gradient(weight, step)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        scale = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        change = -0.05 * scale * first / (np.sqrt(second) + 1e-7)
        weight, gain = weight + change, gain - g * change
    callback = SensitivityPruning(at(20))
    train(keras.optimizers.Adam(0.05), callback, steps=20)
    (entry,) = callback._entries
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(entry.state["gain"].value), gain, rtol=1e-3, atol=1e-4
    )


def test_a_weight_that_never_moved_is_no_trouble():
    callback = SensitivityPruning(at(2))
    model = train(keras.optimizers.SGD(0.0), callback, steps=4)
    assert np.count_nonzero(keras.ops.convert_to_numpy(model.layers[0].kernel) == 0) == 15


def test_whole_neurons():
    callback = SensitivityPruning(at(20, 0.4), block_size=(None, 1))
    model = train(keras.optimizers.Adam(0.05), callback)
    zeros = keras.ops.convert_to_numpy(model.layers[0].kernel) == 0
    assert sorted(zeros.mean(axis=0)) == [0, 0, 0, 1, 1]


def test_after_compiling_anew_it_goes_on_counting(make_model, fit, kernels):
    model = make_model()
    first = SensitivityPruning(at(0, 0.2))
    fit(model, [first])
    before = [keras.ops.convert_to_numpy(e.state["gain"].value).sum() for e in first._entries]
    model.compile(keras.optimizers.Adam(0.01), "mse")
    fit(model, [first], epochs=1)
    after = [keras.ops.convert_to_numpy(e.state["gain"].value).sum() for e in first._entries]
    assert all(a != b for a, b in zip(before, after))


def test_refuses_what_gradual_pruning_refuses():
    with pytest.raises(ValueError, match="`scope`"):
        SensitivityPruning(at(0), scope="model")


def test_accumulated_gradients():
    """An update of four batches changes weights by their mean gradient, and gains by that."""
    rate, weight, gain = 0.3, START.astype("float64"), 0.0
    for update in range(10):
        mean = np.mean([gradient(weight, 4 * update + batch) for batch in range(4)], axis=0)
        weight, gain = weight - rate * mean, gain + rate * mean**2
    callback = SensitivityPruning(at(100, 0.0))
    model = train(keras.optimizers.SGD(rate, gradient_accumulation_steps=4), callback)
    (entry,) = callback._entries
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(model.layers[0].kernel), weight, rtol=1e-4
    )
    np.testing.assert_allclose(keras.ops.convert_to_numpy(entry.state["gain"]), gain, rtol=1e-3)
