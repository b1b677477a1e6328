"""The flip ratio, against NumPy on the weights as they were after every batch."""

import itertools

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers

X = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
Y = np.random.default_rng(1).normal(size=(40, 3)).astype("float32")


class Recorder(keras.callbacks.Callback):
    """Keeps the latent weights before each epoch and after each batch."""

    def on_train_begin(self, logs=None):
        self.epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self.epochs.append([self.model.get_weights()])

    def on_train_batch_end(self, batch, logs=None):
        self.epochs[-1].append(self.model.get_weights())


def make(*stack, **arguments):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((6,)), *stack])
    model.compile(keras.optimizers.Adam(0.3), "mse", **arguments)
    return model


def fit(model, flips, epochs=3):
    recorder = Recorder()
    arguments = {"batch_size": 8, "epochs": epochs, "verbose": 0}
    history = model.fit(X, Y, callbacks=[flips, recorder], **arguments).history
    return history, recorder.epochs


def binary():
    return [
        layers.BinaryDense(5, use_bias=False, name="a"),
        layers.BinaryDense(3, use_bias=False, name="b"),
    ]


def share(before, after):
    """Of one or several weights together."""
    changed = [(b < 0) != (a < 0) for b, a in zip(before, after)]
    return sum(c.sum() for c in changed) / sum(c.size for c in changed)


@pytest.mark.parametrize("arguments", [{}, {"jit_compile": True}], ids=str)
def test_from_batch_to_batch(arguments):
    history, epochs = fit(make(*binary(), **arguments), tfcomp.callbacks.FlipRatio())
    for number, states in enumerate(epochs):
        steps = list(itertools.pairwise(states))
        assert len(steps) == 5
        expected = np.mean([share(*step) for step in steps])
        assert history["flip_ratio"][number] == pytest.approx(expected)
        first = np.mean([share(before[:1], after[:1]) for before, after in steps])
        assert history["flip_ratio/a/kernel"][number] == pytest.approx(first)
    assert max(history["flip_ratio"]) > 0.01


def test_over_an_epoch():
    flips = tfcomp.callbacks.FlipRatio(frequency="epoch")
    history, epochs = fit(make(*binary()), flips)
    expected = [share(states[0], states[-1]) for states in epochs]
    np.testing.assert_allclose(history["flip_ratio"], expected)
    assert max(expected) > 0.01


def test_latent_weights_that_keep_their_sign_do_not_count():
    model = make(*binary())
    model.optimizer.learning_rate = 1e-6
    history, epochs = fit(model, tfcomp.callbacks.FlipRatio(), epochs=1)
    assert history["flip_ratio"] == [0.0]
    assert any((a != b).any() for a, b in zip(epochs[0][0], epochs[0][-1]))


def test_zeros_of_ternary_weights_have_a_sign_of_their_own():
    model = make(layers.TernaryDense(3, use_bias=False, name="t"))
    history, epochs = fit(model, tfcomp.callbacks.FlipRatio(frequency="epoch"), epochs=1)
    signs = []
    for (kernel,) in (epochs[0][0], epochs[0][-1]):
        threshold = 0.7 * np.abs(kernel).mean()
        signs.append(np.where(np.abs(kernel) > threshold, np.sign(kernel), 0))
    assert history["flip_ratio"][0] == pytest.approx(np.mean(signs[0] != signs[1]))


def test_weights_that_a_callback_keeps_binary_are_named():
    model = make(keras.layers.Dense(3, use_bias=False, name="plain"))
    flips = tfcomp.callbacks.FlipRatio(targets="plain")
    training = tfcomp.callbacks.QuantizedTraining("binary")
    recorder = Recorder()
    history = model.fit(
        X, Y, batch_size=8, verbose=0, callbacks=[training, flips, recorder]
    ).history
    (states,) = recorder.epochs
    assert set(np.unique(states[-1][0])) == {-1.0, 1.0}
    expected = np.mean([share(*step) for step in itertools.pairwise(states)])
    assert history["flip_ratio"][0] == pytest.approx(expected)


def test_a_model_that_is_built_by_its_first_step():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(binary())
    model.compile(keras.optimizers.Adam(0.3), "mse")
    history, epochs = fit(model, tfcomp.callbacks.FlipRatio(), epochs=2)
    expected = np.mean([share(*step) for step in itertools.pairwise(epochs[1])])
    assert history["flip_ratio"][-1] == pytest.approx(expected)


def test_what_cannot_be_measured_raises():
    with pytest.raises(ValueError, match=r'frequency`. Expected "batch" or "epoch"'):
        tfcomp.callbacks.FlipRatio(frequency=3)
    with pytest.raises(ValueError, match="none of its layers quantizes a kernel"):
        fit(make(keras.layers.Dense(3)), tfcomp.callbacks.FlipRatio())
    with pytest.raises(ValueError, match="no overrides"):
        fit(make(*binary()), tfcomp.callbacks.FlipRatio({"a": {"bits": 1}}))
