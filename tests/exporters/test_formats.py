"""What the exporter refuses, and how it hands over to Keras."""

import keras
import numpy as np
import pytest

from tfcomp import layers
from tfcomp.exporters import export
from tfcomp.quantizers.base import are_weights_as_stored

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


def test_keras_exports_the_final_weights_and_the_latent_ones_come_back(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((64,)), binary(128)])
    latent = np.array(model.layers[0].kernel)
    seen = {}

    def fails(path, **kwargs):
        seen.update(kwargs, kernel=np.array(model.layers[0].kernel), scope=are_weights_as_stored())
        raise ImportError("onnx is not installed")

    monkeypatch.setattr(model, "export", fails)
    with pytest.raises(ImportError, match="onnx"):
        export(model, tmp_path / "model.onnx", format="onnx", opset_version=17)
    assert len(np.unique(seen["kernel"])) == 2 * 128 and seen["scope"]
    assert seen["format"] == "onnx" and seen["opset_version"] == 17
    np.testing.assert_array_equal(model.layers[0].kernel, latent)


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
