"""Pruning and sharing in one call."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import GradualPruning
from tfcomp.schedules import ConstantSparsity


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    return x, rng.normal(size=(32, 6)).astype("float32")


@pytest.fixture
def model():
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(40, 3, activation="relu", name="conv"),
            layers.MaxPooling2D(3),
            layers.Flatten(),
            layers.Dense(6, name="out"),
        ]
    )
    model.compile("adam", "mse")
    return model


def test_stages_and_report(model, data):
    pruning = GradualPruning(ConstantSparsity(0.5, begin_step=0))
    done = tfcomp.deep_compression(
        model, pruning, epochs=(2, 1), data=data, validation_data=data, verbose=0
    )
    conv, out = done.rows
    assert (conv.path, out.path) == ("conv/kernel", "out/kernel")
    assert conv.kept == out.kept == 0.5
    # 540 weights of 8 bits, 480 of 5.
    assert 32 < conv.values <= 256 and 16 < out.values <= 32
    for row, name in zip(done.rows, ("conv", "out")):
        value = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        assert row.bytes == value.nbytes == 4 * value.size
        assert row.values == len(np.unique(value)) - 1
        assert row.coded_bytes == tfcomp.storage.describe(value).coded_bytes
    assert done.ratio == (conv.bytes + out.bytes) / (conv.coded_bytes + out.coded_bytes) > 4
    assert done.history["sparsity"] == [0.5, 0.5, None]
    assert done.history["quantized"] == [None, None, 1.0]
    assert len(done.history["val_loss"]) == 3
    assert done.table().row_count == 2 and "times smaller" in str(done)
    assert done["out/kernel"] is out and done.model is model


def test_defaults_and_targets(model, data):
    frozen = keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    targets = {"conv": None, "out": {"clusters": 3, "init": "random"}}
    done = tfcomp.deep_compression(
        model, epochs=(1, 1), data=data, targets=targets, batch_size=8, verbose=0
    )
    (row,) = done.rows
    assert row.values <= 3 and 0 < row.kept < 1
    trained = keras.ops.convert_to_numpy(model.get_layer("conv").kernel)
    assert np.all(trained != 0) and np.any(trained != frozen)


def test_a_line_for_each_epoch(model, data, capsys):
    model.get_layer("out").trainable = False
    epochs = (np.int64(1), 1)
    done = tfcomp.deep_compression(model, epochs=epochs, data=data, batch_size=8, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 1", "epoch 2", "Left out"]
    assert done.left_out == [("out/kernel", "it is frozen")]


def test_bad_arguments_change_nothing(model, data):
    before = model.get_weights()
    for arguments, name in [
        ({"epochs": 3}, "epochs"),
        ({"epochs": (1, 0)}, "epochs"),
        ({"epochs": (1, 1.5)}, "epochs"),
        ({"epochs": (True, 1)}, "epochs"),
        ({"verbose": -1}, "verbose"),
        ({"init": "best"}, "init"),
        ({"pruning": keras.callbacks.History()}, "pruning"),
        ({"targets": "nowhere"}, "targets"),
        ({"targets": {"out": {"bits": 17}}}, "bits"),
        ({"targets": {"out": {"bit": 5}}}, "targets"),
        ({"data": (data[0][:0], data[1][:0])}, "data"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            tfcomp.deep_compression(**{"model": model, "data": data, "verbose": 0, **arguments})
    with pytest.raises(ValueError, match="compile"):
        tfcomp.deep_compression(keras.Sequential([keras.layers.Dense(2)]), data=data)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_dropout_shrinks_with_the_connections_in_both_runs():
    rates = []

    class Watched(keras.layers.Dropout):
        def call(self, inputs, training=False):
            if training:
                rates.append(self.rate)
            return super().call(inputs, training=training)

    drop = Watched(0.5)
    model = keras.Sequential([keras.Input((20,)), drop, keras.layers.Dense(30, name="dense")])
    model.compile("adam", "mse")
    x, y = np.ones((16, 20)), np.ones((16, 30))
    done = tfcomp.deep_compression(model, epochs=(1, 1), data=(x, y), batch_size=4, verbose=0)
    (row,) = done.rows
    assert row.kept < 0.9
    assert rates[-1] == pytest.approx(0.5 * row.kept**0.5, abs=1e-3)
    assert drop.rate == 0.5
