"""`tfcomp.prune_obs` on whole models."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import tfcomp


def data(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def zeros(variable):
    return float(np.mean(keras.ops.convert_to_numpy(variable.value) == 0))


def convnet():
    inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(6, 3, activation="relu")(inputs)
    y = keras.layers.Conv2D(6, 1, groups=1)(x)
    x = keras.layers.Add()([x, y])
    x = keras.layers.DepthwiseConv2D(3, padding="same")(x)
    x = keras.layers.Flatten()(keras.layers.MaxPooling2D()(x))
    return keras.Model(inputs, keras.layers.Dense(5)(x)), data(64, 8, 8, 2)


def recurrent():
    inputs = keras.Input((7,), dtype="int32")
    x = keras.layers.Embedding(11, 6, mask_zero=True)(inputs)
    x = keras.layers.Bidirectional(keras.layers.LSTM(5, return_sequences=True))(x)
    x = keras.layers.GRU(4, return_sequences=True)(x)
    x = keras.layers.TimeDistributed(keras.layers.Dense(3))(x)
    return keras.Model(inputs, x), np.random.default_rng(0).integers(0, 11, (80, 7))


def separable():
    layers = [
        keras.layers.SeparableConv2D(6, 3, depth_multiplier=2, activation="relu"),
        keras.layers.SeparableConv2D(5, 2, padding="same"),
        keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same"),
        keras.layers.Reshape((64, 5)),
        keras.layers.SeparableConv1D(4, 3),
    ]
    return keras.Sequential([keras.Input((6, 6, 3)), *layers]), data(50, 6, 6, 3)


def attention():
    inputs = keras.Input((6, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = keras.layers.Conv1D(4, 3)(keras.layers.LayerNormalization()(x))
    return keras.Model(inputs, keras.Sequential([keras.layers.Dense(4)])(x)), data(50, 6, 8)


@keras.saving.register_keras_serializable("tests")
class Shared(keras.Model):
    def __init__(self):
        super().__init__()
        self.one = keras.layers.Dense(8, activation="relu")
        self.two = keras.layers.Dense(3)

    def call(self, x, training=False):
        return self.two(self.one(self.one(x)))


def subclassed():
    model, x = Shared(), data(64, 8)
    model(x)
    return model, x


@pytest.mark.parametrize("make", [convnet, recurrent, attention, separable, subclassed])
def test_every_kind_of_layer_and_model(make):
    keras.utils.set_random_seed(0)
    model, x = make()
    done = tfcomp.prune_obs(model, 0.6, x, verbose=0)
    paths = {target.path for target in tfcomp.targets.find(model)}
    embeddings = {path for path in paths if "embeddings" in path}
    assert {d.path for d in done} == paths - embeddings
    assert {left.path for left in done.left_out} == embeddings and done.model is model
    targets = {target.path: target.variable for target in tfcomp.targets.find(model)}
    for result in done:
        size = int(np.prod(targets[result.path].shape))
        assert result.sparsity == zeros(targets[result.path])
        assert result.sparsity == pytest.approx(int(0.6 * size + 0.5) / size)
        assert result.error < result.magnitude_error


def test_output_stays_closer_than_after_magnitude_pruning():
    model, x = convnet()
    rng = np.random.default_rng(0)
    weights = [0.3 * rng.normal(size=w.shape).astype("float32") for w in model.get_weights()]
    model.set_weights(weights)
    wanted = model.predict(x, verbose=0)
    errors = {}
    for method in ("greedy", "sweep"):
        model.set_weights(weights)
        tfcomp.prune_obs(model, 0.5, (x, None), method=method, verbose=0)
        errors[method] = np.mean((model.predict(x, verbose=0) - wanted) ** 2)
    model.set_weights(weights)
    for target in tfcomp.targets.find(model):
        value = keras.ops.convert_to_numpy(target.variable.value).copy()
        value.flat[np.argsort(np.abs(value), axis=None)[: value.size // 2]] = 0
        target.variable.assign(value)
    magnitude = np.mean((model.predict(x, verbose=0) - wanted) ** 2)
    assert errors["greedy"] < 0.9 * magnitude
    assert errors["sweep"] < 0.95 * magnitude


def test_in_the_order_of_calls_and_overrides():
    model, x = subclassed()
    done = tfcomp.prune_obs(
        model, 0.5, x, targets={model.two: {"sparsity": 0.25}, ...: {}}, verbose=0
    )
    one, two = (layer.name for layer in (model.one, model.two))
    assert [d.path for d in done] == [f"{one}/kernel", f"{two}/kernel"]
    assert [d.sparsity for d in done] == [0.5, 0.25]


def test_then_training_keeps_the_zeros():
    model, x = subclassed()
    y = data(64, 3, seed=1)
    model.compile("adam", "mse")
    tfcomp.prune_obs(model, 0.5, x, verbose=0)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[tfcomp.callbacks.PreserveSparsity()])
    assert zeros(model.one.kernel) == zeros(model.two.kernel) == 0.5
    # With a mask in force, more can be pruned, and stays so without the callback.
    tfcomp.prune_obs(model, 0.75, x, verbose=0)
    model.fit(x, y, epochs=2, verbose=0)
    assert zeros(model.one.kernel) == zeros(model.two.kernel) == 0.75


def test_takes_a_keras_dataset_and_dicts():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            return {"x": data(16, 8, seed=index)}, np.zeros(16)

    inputs = keras.Input((8,), name="x")
    model = keras.Model({"x": inputs}, keras.layers.Dense(4)(inputs))
    start = model.get_weights()
    first = tfcomp.prune_obs(model, 0.5, Batches(), verbose=0)
    model.set_weights(start)
    whole = {"x": np.concatenate([data(16, 8, seed=index) for index in range(4)])}
    second = tfcomp.prune_obs(model, 0.5, whole, verbose=0)
    assert first[0].error == pytest.approx(second[0].error, rel=1e-4)


def test_shows_a_progress_bar(capsys):
    model, x = subclassed()
    tfcomp.prune_obs(model, 0.5, x)
    assert "2/2" in capsys.readouterr().out


def test_quantized_weights_are_refused():
    model, x = subclassed()
    model.compile("sgd", "mse")
    quantize = tfcomp.callbacks.IncrementalQuantization(bits=4)
    model.fit(x, np.zeros((64, 3)), batch_size=8, verbose=0, callbacks=[quantize])
    with pytest.raises(ValueError, match="release"):
        tfcomp.prune_obs(model, 0.5, x, verbose=0)
    tfcomp.release(model)
    tfcomp.prune_obs(model, 0.5, x, verbose=0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"sparsity": 1.0}, "`sparsity`"),
        ({"sparsity": -0.1}, "`sparsity`"),
        ({"method": "best"}, "`method`"),
        ({"damping": -1}, "`damping`"),
        ({"block": 0}, "`block`"),
        ({"block": True}, "`block`"),
        ({"block": 1.5}, "`block`"),
        ({"block": "3"}, "`block`"),
        ({"batch_size": 1.0}, "`batch_size`"),
        ({"verbose": 3}, "`verbose`"),
        ({"verbose": "2"}, "`verbose`"),
        ({"sparsity": "0.5"}, "`sparsity`"),
        ({"data": None}, "`data`"),
        ({"m_by_n": (4, 2)}, "`m_by_n`"),
        ({"m_by_n": (1, 4)}, "`m_by_n`"),
        ({"m_by_n": (2, 4), "method": "greedy"}, "`method`"),
        ({"targets": "nothing"}, "`targets`"),
        ({"targets": keras.layers.BatchNormalization}, "`targets`"),
        ({"data": np.zeros((0, 8))}, "`data`"),
        ({"data": "here"}, "`data`"),
        ({"data": iter([])}, "`data`"),
        ({"data": np.full((4, 8), np.nan)}, "NaN"),
    ],
)
def test_bad_arguments_change_nothing(arguments, message):
    model, x = subclassed()
    start = model.get_weights()
    with pytest.raises(ValueError, match=message):
        tfcomp.prune_obs(model, **{"data": x, "sparsity": 0.5, "verbose": 0, **arguments})
    for a, b in zip(start, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_too_little_memory_is_told_before_anything_is_changed(monkeypatch):
    model, x = subclassed()
    start = model.get_weights()
    module = sys.modules["tfcomp.methods.optimal_brain_surgeon.prune_obs"]
    monkeypatch.setattr(module, "available_bytes", lambda: 100)
    with pytest.raises(MemoryError, match=r"/kernel takes .* bytes, 512 of them .* 8 x 8 .*100"):
        tfcomp.prune_obs(model, 0.5, x, verbose=0)
    for a, b in zip(start, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    monkeypatch.setattr(module, "available_bytes", lambda: None)
    assert len(tfcomp.prune_obs(model, 0.5, x, verbose=0)) == 2


@pytest.mark.slow
def test_memory_of_a_process():
    """A layer of 4000 inputs: the Hessian, 128 MB, less than twice."""
    pytest.importorskip("resource")
    script = """
import resource, sys, keras, numpy as np, tfcomp
model = keras.Sequential([keras.Input((4000,)), keras.layers.Dense(16)])
x = np.random.default_rng(0).normal(size=(256, 4000)).astype("float32")
# What the libraries take at first use.
tfcomp.prune_obs(keras.Sequential([keras.Input((9,)), keras.layers.Dense(2)]), 0.5, x[:, :9])
model(x)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
tfcomp.prune_obs(model, 0.7, x, verbose=0)
print("grew", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    unit = 1 if sys.platform == "darwin" else 1024
    assert unit * int(done.stdout.split("grew")[1]) <= 2 * 8 * 4000**2


class Odd(keras.Model):
    """A layer it never calls, a frozen one, one that no method is made for, and one of each kind
    that cannot be one matrix."""

    def __init__(self):
        super().__init__()
        layers = keras.layers
        self.embedding = layers.Embedding(9, 6, name="embedding")
        self.stateful = layers.LSTM(4, return_sequences=True, stateful=True, name="stateful")
        self.gru = layers.GRU(4, return_sequences=True, reset_after=False, name="gru")
        self.einsum = layers.EinsumDense("abc,bcd->abd", (5, 4), name="einsum")
        self.up = layers.Conv1DTranspose(3, 2, output_padding=0, name="up")
        self.frozen = layers.Dense(4, name="frozen")
        self.dense = layers.Dense(4, name="dense")
        self.unused = layers.Dense(4, name="unused")
        self.unused.build((None, 4))
        self.frozen.trainable = False

    def call(self, x):
        x = self.einsum(self.gru(self.stateful(self.embedding(x))))
        return self.dense(self.frozen(self.up(x)))


def odd():
    model, x = Odd(), np.random.default_rng(0).integers(0, 9, (10, 5))
    model(x)
    return model, x


def test_what_is_left_out_is_named_with_the_reason(capsys):
    model, x = odd()
    done = tfcomp.prune_obs(model, 0.5, x, batch_size=10)
    assert "Left out: embedding/embeddings (" in capsys.readouterr().out
    assert [row.path for row in done] == ["gru/gru_cell/kernel", "dense/kernel"]
    assert {path.split("/")[0]: reason for path, reason in done.left_out} == {
        "embedding": "the 'embeddings' of Embedding",
        "stateful": "its layer is stateful",
        "gru": "its layer has `reset_after=False`",
        "einsum": "it is not one matrix in 'abc,bcd->abd'",
        "up": "its layer has `output_padding`",
        "unused": "the model does not call its layer",
        "frozen": "it is frozen",
    }
    printed = str(done)
    assert "dense/kernel" in printed and "left out: it is frozen" in printed
    assert done["dense/kernel"] is done[1] and "dense/kernel" in done and len(done) == 2
    with pytest.raises(KeyError, match="left out: the model does not call"):
        done["unused/kernel"]
    # What `...` covers is no more named than what `None` does.
    again = tfcomp.prune_obs(model, 0.5, x, {...: {"sparsity": 0.6}}, batch_size=10, verbose=0)
    assert len(again) == 2 and again.left_out == done.left_out


@pytest.mark.parametrize("name", ["embedding", "stateful", "gru", "einsum", "up", "unused"])
def test_what_the_user_named_and_cannot_be_done_raises(name):
    model, x = odd()
    start = model.get_weights()
    layer = getattr(model, name)
    for targets in (name, [name, "dense"], layer, {name: {}}, {name: {"sparsity": 0.2}}):
        with pytest.raises(ValueError, match=f"argument `targets`.*{name}/.*: "):
            tfcomp.prune_obs(model, 0.5, x, targets, batch_size=10, verbose=0)
    for a, b in zip(start, model.get_weights()):
        np.testing.assert_array_equal(a, b)
    tfcomp.prune_obs(model, 0.5, x, {name: None}, batch_size=10, verbose=0)


def test_a_line_for_each_weight(capsys):
    model, x = subclassed()
    tfcomp.prune_obs(model, 0.5, x, verbose=2)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all("50.0% pruned" in line for line in lines)
    tfcomp.prune_obs(model, 0.5, x, verbose=0)
    assert capsys.readouterr().out == ""
