"""What the exporter refuses, and how it hands over to Keras."""

import os
import threading

import export_models
import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers
from tfcomp.exporters import export, formats
from tfcomp.exporters.snapshot import Snapshot
from tfcomp.quantizers.base import are_weights_as_stored, without_gradients

tensorflow_only = pytest.mark.tensorflow


def small():
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])


def test_not_a_model(tmp_path):
    with pytest.raises(ValueError, match=r"`model`.*a keras.Model"):
        export(keras.layers.Dense(2), tmp_path / "x")


def test_unknown_format(tmp_path):
    with pytest.raises(ValueError, match=r"`format`.*tf_saved_model.*'zip'"):
        export(small(), tmp_path / "x", format="zip")


@pytest.mark.parametrize("path", [None, 3, "gs://bucket/model"])
def test_bad_path(path):
    with pytest.raises(ValueError, match="`path`"):
        export(small(), path)


@tensorflow_only
def test_model_that_is_not_built(tmp_path):
    with pytest.raises(ValueError, match="no weights yet"):
        export(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "x")


@tensorflow_only
def test_model_that_was_never_called(tmp_path):
    class Model(keras.Model):
        def build(self, shape):
            self.built = True

    model = Model()
    model.build((None, 2))
    with pytest.raises(ValueError, match="never called"):
        export(model, tmp_path / "x")


@tensorflow_only
def test_unknown_argument(tmp_path):
    with pytest.raises(ValueError, match="opset_version"):
        export(small(), tmp_path / "x", opset_version=3)


def test_other_backends_are_told_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        export(small(), tmp_path / "x")


def binary(units):
    """A layer of signs with one scale for each output."""
    return layers.BinaryDense(units, scale=True, input_quantizer=None, use_bias=False)


@tensorflow_only
def test_quantized_layers_are_stored_quantized(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((64,)), binary(128), keras.layers.Dense(3)])
    latent = model.get_weights()
    export(model, tmp_path / "model", verbose=False)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype("float32")
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-6)
    assert (tmp_path / "model" / "saved_model.pb").stat().st_size < 35_000
    for old, new in zip(latent, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert not are_weights_as_stored()


@tensorflow_only
def test_a_weight_shared_with_a_plain_layer_stays_latent(tmp_path):
    import tensorflow as tf

    class Tied(keras.layers.Layer):
        def __init__(self, layer):
            super().__init__()
            self.kernel = layer.kernel

        def call(self, x):
            return keras.ops.matmul(x, keras.ops.transpose(self.kernel))

    x = keras.Input((64,))
    binarized = binary(128)
    hidden = binarized(x)
    model = keras.Model(x, Tied(binarized)(hidden))
    with pytest.warns(UserWarning, match="shared"):
        export(model, tmp_path / "model", verbose=False)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype("float32")
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-4)


@pytest.fixture
def exporter(monkeypatch):
    """What Keras's exporter is called with; it writes a half of a file and runs `then`."""
    seen = {"then": lambda: None}

    def writes(self, path, **kwargs):
        seen.update(kwargs, model=self)
        with open(path, "w") as file:
            file.write("half")
        seen["then"]()

    monkeypatch.setattr(formats, "_check_packages", lambda format, optimize: None)
    monkeypatch.setattr(
        formats,
        "_write",
        lambda model, path, format, specs, kwargs: writes(
            Snapshot(model), path, format=format, **kwargs
        ),
    )
    return seen


def test_keras_exports_the_final_weights_of_a_model_that_is_never_changed(tmp_path, exporter):
    model = keras.Sequential([keras.Input((64,)), binary(128)])
    x = np.random.default_rng(0).standard_normal((3, 64)).astype("float32")
    latent, path = np.array(model.layers[0].kernel), model.layers[0].path
    wanted = keras.ops.convert_to_numpy(model(x))

    def looks():
        # Another thread would see this.
        np.testing.assert_array_equal(model.layers[0].kernel, latent)

    exporter["then"] = looks
    export(model, tmp_path / "model.onnx", format="onnx", opset_version=17, verbose=0, verify=False)
    snapshot = exporter["model"]
    assert exporter["format"] == "onnx" and exporter["opset_version"] == 17
    assert len(np.unique(keras.ops.convert_to_numpy(snapshot.variables[0]))) == 2 * 128
    np.testing.assert_allclose(keras.ops.convert_to_numpy(snapshot(x)), wanted, rtol=1e-6)
    np.testing.assert_array_equal(model.layers[0].kernel, latent)
    assert not are_weights_as_stored() and model.layers[0].path == path


def test_what_a_snapshot_assigns_does_not_reach_the_model():
    model, (x,) = export_models.stateful(np.random.default_rng(0))
    count = model.layers[-1].count
    before = float(count.value)
    snapshot = Snapshot(model)
    first, second = (keras.ops.convert_to_numpy(snapshot(x)) for _ in range(2))
    np.testing.assert_allclose(second - first, 1, rtol=1e-5)
    assert float(count.value) == before


def test_a_snapshot_is_inference():
    layer = keras.layers.RandomContrast(0.9, seed=0)
    model = keras.Sequential([keras.Input((4, 4, 3)), layer])
    x = np.random.default_rng(0).random((2, 4, 4, 3)).astype("float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(Snapshot(model)(x)), x)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("format", ["litert", "onnx", "openvino", "torch"])
def test_a_failed_export_leaves_what_was_there(tmp_path, exporter, format, error):
    path = tmp_path / "mödel.any"
    path.write_text("whole")

    def fails():
        raise error

    exporter["then"] = fails
    with pytest.raises(type(error)):
        export(small(), path, format=format, verbose=0, verify=False)
    assert path.read_text() == "whole" and os.listdir(tmp_path) == [path.name]


def test_an_export_follows_a_link_keeps_the_mode_and_says_the_path(tmp_path, exporter, capsys):
    real, link = tmp_path / "real.onnx", tmp_path / "link.onnx"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to(real)
    export(small(), link, format="onnx", verify=False)
    assert link.is_symlink() and real.read_text() == "half"
    assert real.stat().st_mode & 0o777 == 0o600
    assert capsys.readouterr().out == f"Saved artifact at {str(link)!r}.\n"


@tensorflow_only
def test_threads_export_a_binary_model_while_others_predict(tmp_path):
    model = keras.Sequential([keras.Input((40,)), binary(32), binary(3)])
    latent = [weight.copy() for weight in model.get_weights()]
    x = np.random.default_rng(0).standard_normal((2, 40)).astype("float32")
    wanted, wrong = np.array(model(x)), []

    def exports(name):
        export(model, tmp_path / f"{name}.tflite", format="litert", verbose=0)
        if not all(map(np.array_equal, latent, model.get_weights())):
            wrong.append(name)

    def predicts():
        for _ in range(50):
            if not np.array_equal(model(x), wanted):
                wrong.append("prediction")

    threads = [threading.Thread(target=exports, args=(name,)) for name in "ab"]
    threads.append(threading.Thread(target=predicts))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and sorted(os.listdir(tmp_path)) == ["a.tflite", "b.tflite"]


def test_quantizers_are_plain_operations_in_an_export():
    """As tracers of PyTorch want them, which compare a second trace with the first."""
    quantizer = tfcomp.quantizers.get("binary")
    x = np.linspace(-1, 1, 9).astype("float32")
    if keras.backend.backend() == "torch":
        import torch

        model = keras.Sequential([keras.Input((9,)), layers.BinaryDense(4)])
        traced = torch.jit.trace(Snapshot(model), torch.tensor(x[None]))
        np.testing.assert_array_equal(
            traced(torch.tensor(x[None])).detach(), model(x[None]).detach()
        )
    with without_gradients():
        plain = keras.ops.convert_to_numpy(quantizer(x))
    np.testing.assert_array_equal(plain, np.where(x >= 0, 1, -1))


@tensorflow_only
def test_litert(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    path = tmp_path / "model.tflite"
    export(model, path, format="litert", verbose=False)
    x = np.ones((1, 8), "float32")
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, model(x), rtol=1e-5, atol=1e-6)
