"""Best epochs that are compressed."""

import warnings

import keras
import numpy as np
import pytest

from tfcomp.callbacks import (
    GradualPruning,
    IncrementalQuantization,
    OnceCompressed,
    PreserveSparsity,
    SoftWeightSharing,
)
from tfcomp.schedules import ConstantSparsity, PolynomialDecay

X = np.random.default_rng(0).normal(size=(32, 12)).astype("float32")
Y = np.random.default_rng(1).normal(size=(32, 16)).astype("float32")


class Worse(keras.callbacks.Callback):
    """The first epoch is the best."""

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = float(epoch)


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(16, name="a")])
    model.compile("adam", "mse")
    return model


def fit(model, callbacks, epochs=4):
    return model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[Worse(), *callbacks])


def pruning():
    return GradualPruning(PolynomialDecay(0, 0.75, begin_step=0, end_step=10, frequency=3))


def best(path, **arguments):
    return keras.callbacks.ModelCheckpoint(path, save_best_only=True, **arguments)


def sparsity(model):
    return np.mean(keras.ops.convert_to_numpy(model.get_layer("a").kernel) == 0)


@pytest.mark.parametrize("order", [1, -1])
def test_the_best_epoch_is_a_compressed_one(order, model, tmp_path):
    kept = OnceCompressed(best(tmp_path / "m.keras"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, [pruning(), kept][::order])
    assert kept.callback.best == 2.0
    assert sparsity(keras.models.load_model(tmp_path / "m.keras")) == 0.75


def test_early_stopping_counts_from_there(model):
    early = keras.callbacks.EarlyStopping(patience=2, restore_best_weights=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(model, [pruning(), OnceCompressed(early)], epochs=9)
    assert len(history.history["loss"]) == 5 and early.best_epoch == 2
    assert sparsity(model) == 0.75


def test_it_waits_for_every_callback(model):
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    fit(model, [pruning(), IncrementalQuantization(), OnceCompressed(note)])
    assert seen == [3]


@pytest.mark.parametrize("name", ["m.keras", "m.weights.h5"])
def test_a_file_from_before_is_warned_of(name, model, tmp_path):
    checkpoint = best(tmp_path / name, save_weights_only=name.endswith("h5"))
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.warns(UserWarning, match="OnceCompressed") as caught:
        fit(model, [pruning(), checkpoint, backup])
    assert sum("last saved in this run" in str(each.message) for each in caught) == 1


def test_files_of_every_epoch_are_not(model, tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, [pruning(), checkpoint])
        # What was complete is so in a later run.
        fit(model, [PreserveSparsity(), best(tmp_path / "later.keras")])


def test_nothing_to_count(model):
    seen = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    with pytest.warns(UserWarning, match="LambdaCallback has counted none"):
        fit(model, [SoftWeightSharing(32, 3), OnceCompressed(note)])
    assert not seen
    plain = keras.models.clone_model(model)
    plain.compile("sgd", "mse")
    with pytest.raises(ValueError, match="nothing of model"):
        fit(plain, [OnceCompressed(note)])
    with pytest.raises(ValueError, match="callback"):
        OnceCompressed("best")


@pytest.mark.parametrize(
    "callback, complete",
    [
        (lambda: GradualPruning(ConstantSparsity(0.5, begin_step=0)), [True] * 3),
        (lambda: GradualPruning(ConstantSparsity(0.5, begin_step=5)), [False, True, True]),
        (pruning, [False, False, True]),
        (PreserveSparsity, [True] * 3),
        (lambda: SoftWeightSharing(32, 3), [False] * 3),
    ],
    ids=["at once", "constant", "rising", "none", "at the end"],
)
def test_is_complete(callback, complete, model):
    callback, seen = callback(), []
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(callback.is_complete)
    )
    assert not callback.is_complete
    fit(model, [callback, note], epochs=3)
    assert seen == complete
    assert callback.is_complete
