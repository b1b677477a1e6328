"""What may happen to a run: other paces, other weights, other callbacks, an early end."""

import warnings

import keras
import numpy as np
import pytest
from fixtures import CALLBACKS

from tfcomp.callbacks import (
    BinaryRelax,
    DynamicNetworkSurgery,
    GradualPruning,
    IncrementalQuantization,
    PreserveSparsity,
    QuantizedTraining,
    WeightSharing,
)
from tfcomp.schedules import ConstantSparsity, PolynomialDecay

X = np.random.default_rng(0).normal(size=(48, 12)).astype("float32")
Y = np.random.default_rng(1).normal(size=(48, 16)).astype("float32")


def prune(sparsity=0.5, **arguments):
    return GradualPruning(ConstantSparsity(sparsity, begin_step=0), **arguments)


def dense(optimizer="adam", loss="mse", seed=3):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(16, name="a")])
    model.compile(optimizer, loss)
    return model


def kernel(model):
    return np.array(keras.ops.convert_to_numpy(model.get_layer("a").kernel))


class Watch(keras.callbacks.Callback):
    """Notes what a function makes of the model after every batch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))


def zeros(model):
    return np.mean(kernel(model) == 0)


@pytest.mark.tensorflow
class TestSeveralStepsABatch:
    def model(self, steps):
        import tensorflow as tf

        class Critic(keras.Model):
            def __init__(self):
                super().__init__()
                self.a = keras.layers.Dense(16, name="a")

            def call(self, x):
                return self.a(x)

            def train_step(self, data):
                x, y = data
                for _ in range(steps):
                    with tf.GradientTape() as tape:
                        loss = tf.reduce_mean((self(x) - y) ** 2)
                    gradients = tape.gradient(loss, self.trainable_variables)
                    self.critic_optimizer.apply(gradients, self.trainable_variables)
                return {"loss": loss}

        model = Critic()
        model.compile()
        model.critic_optimizer = keras.optimizers.Adam()
        model(X)
        return model

    def test_updates_come_when_they_are_due(self):
        model = self.model(steps=3)
        schedule = PolynomialDecay(0, 0.75, begin_step=0, end_step=36, frequency=3, power=1)
        watch = Watch(zeros)
        callbacks = [GradualPruning(schedule, optimizer="critic_optimizer"), watch]
        with warnings.catch_warnings():
            # It does come to its end: in the last batch.
            warnings.simplefilter("error", UserWarning)
            model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        expected = [schedule.value(3 * batch + 3) for batch in range(12)]
        np.testing.assert_allclose(watch.seen, expected, atol=0.5 / 192)

    def test_a_schedule_that_was_not_gone_through(self):
        schedule = PolynomialDecay(0, 0.75, begin_step=0, end_step=40, frequency=3)
        with pytest.warns(UserWarning, match="the run ended before step 40"):
            self.model(steps=3).fit(
                X,
                Y,
                batch_size=8,
                epochs=2,
                verbose=0,
                callbacks=[GradualPruning(schedule, optimizer="critic_optimizer")],
            )


@pytest.mark.parametrize(
    "callback", [lambda: QuantizedTraining("binary"), lambda: BinaryRelax("binary")]
)
def test_batches_that_only_accumulate_show_what_is_quantized(callback):
    model = dense(keras.optimizers.Adam(0.01, gradient_accumulation_steps=4))
    watch = Watch(lambda model: len(np.unique(kernel(model))))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.fit(X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[callback(), watch])
    quantized = watch.seen[-6:] if isinstance(callback(), BinaryRelax) else watch.seen
    assert set(quantized) == {2}


@pytest.mark.parametrize("place", [0, 1])
def test_a_restored_epoch_is_compressed_wherever_early_stopping_stands(place):
    class Worse(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["loss"] = epoch

    schedule = PolynomialDecay(0, 0.75, begin_step=0, end_step=18, frequency=3)
    early = keras.callbacks.EarlyStopping("loss", patience=3, restore_best_weights=True)
    callbacks = [GradualPruning(schedule)]
    callbacks.insert(place, early)
    model = dense()
    with pytest.warns(UserWarning, match="compressed without training"):
        model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[Worse(), *callbacks])
    assert zeros(model) == 0.75
    assert "on_train_end" not in vars(model.history)


def test_a_run_that_another_callback_stops_at_nan():
    model = dense(keras.optimizers.SGD(1e30))
    schedule = PolynomialDecay(0, 0.75, begin_step=0, end_step=18, frequency=1)
    callbacks = [keras.callbacks.TerminateOnNaN(), GradualPruning(schedule)]
    history = model.fit(X, Y, batch_size=8, verbose=0, callbacks=callbacks)
    assert not np.all(np.isfinite(history.history["loss"]))


RENEWED = {
    "quantized": (lambda: QuantizedTraining("ternary"), 0.9),
    "surgery": (lambda: DynamicNetworkSurgery(0.5), 0.6),
    "shared": (lambda: WeightSharing(3), 0.95),
    "powers of two": (lambda: IncrementalQuantization(5), 0.95),
}


@pytest.mark.parametrize("again", ["same", "none"])
@pytest.mark.parametrize("name", RENEWED)
def test_training_goes_on_from_weights_that_were_set(name, again):
    """And not from those that were trained before."""
    make, similar = RENEWED[name]
    model, callback = dense(keras.optimizers.SGD(1e-6)), make()
    model.fit(X, Y, batch_size=8, verbose=0, callbacks=[callback])
    other = dense(seed=8)
    model.set_weights(other.get_weights())
    free = again == "none" and name in ("shared", "powers of two")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[callback] if again == "same" else [])
    alike = np.corrcoef(kernel(model).ravel(), kernel(other).ravel())[0, 1]
    assert alike > similar
    assert any("train freely until" in str(warning.message) for warning in caught) == free
    if not free:
        assert len(np.unique(kernel(model))) < 110


def test_shared_weights_of_an_earlier_epoch_are_trained_on():
    model = dense(keras.optimizers.SGD(1e-3))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[WeightSharing(2)])
    earlier = model.get_weights()
    model.fit(X, Y, batch_size=8, epochs=5, verbose=0)
    assert not np.allclose(kernel(model), earlier[0], atol=1e-3)
    model.set_weights(earlier)
    model.compile(keras.optimizers.SGD(1e-9), "mse")
    model.fit(X, Y, batch_size=8, verbose=0)
    np.testing.assert_allclose(kernel(model), earlier[0], atol=1e-6)
    assert len(np.unique(kernel(model))) == 4


def test_averages_of_an_optimizer_that_is_not_built():
    optimizer = keras.optimizers.Adam(use_ema=True)
    model = dense()
    with pytest.raises(ValueError, match="build"):
        QuantizedTraining("binary", optimizer=optimizer).set_model(model)
    optimizer = keras.optimizers.Adam(use_ema=True)
    optimizer.build(model.trainable_variables)
    QuantizedTraining("binary", optimizer=optimizer).set_model(model)
    prune(optimizer=keras.optimizers.Adam(use_ema=True)).set_model(dense())


@pytest.mark.tensorflow
@pytest.mark.parametrize("make", CALLBACKS, ids=lambda make: make.__name__)
def test_fit_is_free_of_deprecations(make):
    """On the others Keras itself warns whenever a tensor becomes an array."""
    model = keras.Sequential(
        [keras.Input((12,)), keras.layers.Dense(16, name="a"), keras.layers.Dense(16, name="out")]
    )
    model.compile("adam", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[make()])
        model.fit(X, Y, batch_size=8, verbose=0, callbacks=[PreserveSparsity()])
