"""Shift-based AdaMax: algorithm 4 of the paper, in numpy."""

import keras
import numpy as np
import pytest

from tfcomp.optimizers import Halving, ShiftBasedAdaMax

RNG = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def nearest(x):
    return np.sign(x) * 2.0 ** np.round(np.log2(np.abs(x)))


def trained(w, gradients, rate, beta_1=1 - 2.0**-3, beta_2=1 - 2.0**-10):
    m = v = np.zeros_like(w)
    for t, g in enumerate(gradients, start=1):
        m = beta_1 * m + (1 - beta_1) * g
        v = np.maximum(beta_2 * v, np.abs(g))
        w = w - nearest(rate(t) / (1 - beta_1**t)) * m * nearest(1 / v)
    return w


def run(optimizer, w, gradients):
    variable = keras.Variable(w)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return numpy(variable.value)


def test_steps():
    w = RNG.normal(size=(5, 4)).astype("float32")
    gradients = RNG.normal(size=(20, 5, 4)).astype("float32")
    found = run(ShiftBasedAdaMax(), w, gradients)
    np.testing.assert_allclose(found, trained(w, gradients, lambda t: 2.0**-10), rtol=1e-5)
    found = run(ShiftBasedAdaMax(0.013, beta_1=0.9, beta_2=0.99), w, gradients)
    expected = trained(w, gradients, lambda t: 0.013, 0.9, 0.99)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_with_halving():
    w = RNG.normal(size=6).astype("float32")
    gradients = RNG.normal(size=(9, 6)).astype("float32")
    found = run(ShiftBasedAdaMax(Halving(2.0**-4, every=3)), w, gradients)
    np.testing.assert_allclose(
        found, trained(w, gradients, lambda t: 2.0 ** -(4 + (t - 1) // 3)), rtol=1e-5
    )


def test_halving_is_exact():
    rate = Halving(3.0, every=np.int64(2))
    assert [float(rate(step)) for step in range(100)] == [3 * 0.5 ** (s // 2) for s in range(100)]


def test_weights_without_a_gradient_stay():
    w = np.array([1.0, 2.0], "float32")
    gradients = np.array([[0.0, 1e-30], [0.0, -1e-30]], "float32")
    np.testing.assert_array_equal(run(ShiftBasedAdaMax(0.5), w, gradients), w)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_trains_and_is_saved(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(ShiftBasedAdaMax(Halving(2.0**-4, every=40)), "mse")
    x = RNG.normal(size=(64, 8)).astype("float32")
    y = x @ np.linspace(-1, 1, 8).astype("float32")[:, None]
    history = model.fit(x, y, epochs=12, batch_size=8, verbose=0)
    assert history.history["loss"][-1] < 0.2 * history.history["loss"][0]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    optimizer = getattr(loaded.optimizer, "inner_optimizer", loaded.optimizer)
    assert isinstance(optimizer, ShiftBasedAdaMax) and optimizer._learning_rate.every == 40
    for each in (model, loaded):
        each.fit(x, y, epochs=1, batch_size=8, shuffle=False, verbose=0)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_bad_arguments():
    for make, name in (
        (lambda: ShiftBasedAdaMax(beta_1=1.0), "beta_1"),
        (lambda: ShiftBasedAdaMax(beta_2=-0.1), "beta_2"),
        (lambda: Halving(0.1, every=0), "every"),
        (lambda: Halving(0.1, every=2.0), "every"),
        (lambda: Halving(-1.0, every=5), "initial_learning_rate"),
    ):
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            make()
