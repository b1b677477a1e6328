"""What others do with the folder: freeze it, convert it, keep a signature of it alone."""

import gc

import keras
import numpy as np
import pytest

from tfcomp.exporters import export

pytestmark = pytest.mark.tensorflow
X = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype("float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3), name="x"),
            keras.layers.Conv2D(40, 3),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(4),
        ]
    )
    path = str(tmp_path_factory.mktemp("exported") / "model")
    export(model, path, verbose=0)
    return path, np.asarray(model(X))


def test_a_signature_lives_without_the_object_it_came_with(exported):
    import tensorflow as tf

    path, wanted = exported
    serve = tf.saved_model.load(path).signatures["serving_default"]
    gc.collect()
    (got,) = serve(tf.constant(X)).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


def test_it_can_be_frozen(exported):
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants

    path, wanted = exported
    loaded = tf.saved_model.load(path)
    frozen = convert_to_constants.convert_variables_to_constants_v2(loaded.signatures["serve"])
    assert [tensor.dtype for tensor in frozen.inputs] == [tf.float32]
    np.testing.assert_allclose(frozen(tf.constant(X))[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
def test_it_can_be_converted_to_litert(exported):
    import tensorflow as tf

    path, wanted = exported
    content = tf.lite.TFLiteConverter.from_saved_model(path).convert()
    interpreter = tf.lite.Interpreter(model_content=content)
    (place,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(place["index"], X.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place["index"], X)
    interpreter.invoke()
    got = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_it_is_a_layer_and_can_be_saved_again(exported, tmp_path):
    import tensorflow as tf

    path, wanted = exported
    layer = keras.layers.TFSMLayer(path)
    model = keras.Sequential([keras.Input((8, 8, 3)), layer])
    np.testing.assert_allclose(model.predict(X, verbose=0), wanted, rtol=1e-5, atol=1e-5)
    loaded = tf.saved_model.load(path)
    tf.saved_model.save(loaded, str(tmp_path / "again"), loaded.signatures["serve"])
    again = tf.saved_model.load(str(tmp_path / "again")).signatures["serving_default"]
    (got,) = again(tf.constant(X)).values()
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)


class Pictures(keras.Model):
    def __init__(self):
        super().__init__()
        self.flip, self.dense = keras.layers.RandomFlip(), keras.layers.Dense(300)

    def call(self, x):
        return self.dense(keras.ops.reshape(self.flip(x), (-1, 64)))

    def make(self):
        import tensorflow as tf

        @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.uint8), tf.TensorSpec([])])
        def scaled(pictures, scale):
            x = tf.cast(tf.reshape(pictures, [-1, 8, 8, 1]), tf.float32)
            if scale > 0:
                x = x * scale
            return {"y": self(x)}

        return scaled


def test_own_functions_and_inputs(tmp_path):
    import tensorflow as tf

    model = Pictures()
    model(np.zeros((1, 8, 8, 1)))
    scaled = model.make()
    # An older trace, with flips in it and the variables themselves, is not what is exported.
    x = np.random.default_rng(0).integers(0, 9, (2, 64)).astype("uint8")
    scaled(x, 2.0)
    one = [keras.InputSpec(shape=(1, 8, 8, 1), dtype="float32", name="picture")]
    path = str(tmp_path / "model")
    result = export(model, path, verbose=0, signatures={"scaled": scaled, "one": one})
    assert [row.path for row in result] == ["serve/output_0", "scaled/y", "one/output_0"]
    loaded = tf.saved_model.load(path)
    assert set(loaded.signatures) == {"serve", "scaled", "one", "serving_default"}
    assert loaded.signatures["one"].structured_input_signature[1]["picture"].shape[0] == 1
    got = loaded.signatures["scaled"](pictures=tf.constant(x), scale=tf.constant(2.0))["y"]
    kernel = np.asarray(model.dense.kernel)
    np.testing.assert_allclose(got, 2.0 * x @ kernel, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(loaded.scaled(x, -1.0)["y"], x @ kernel, rtol=1e-4, atol=1e-4)
    # The kernel is there once.
    size = sum(f.stat().st_size for f in (tmp_path / "model").rglob("*") if f.is_file())
    assert size < kernel.nbytes + 45_000


def test_a_signature_of_the_user_is_the_default(tmp_path):
    import tensorflow as tf

    model = Pictures()
    model(np.zeros((1, 8, 8, 1)))
    path = str(tmp_path / "model")
    export(model, path, verbose=0, signatures={"serving_default": model.make()})
    names = tf.saved_model.load(path).signatures["serving_default"].structured_input_signature[1]
    assert set(names) == {"pictures", "scale"}


def test_bad_signatures(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    untyped = tf.function(lambda x: model(x))
    concrete = untyped.get_concrete_function(tf.TensorSpec([None, 4]))
    for signatures, match in (
        ([untyped], "a dict"),
        ({"name": untyped}, "attributes of a tf.Module"),
        ({"f": untyped}, "with an `input_signature`"),
        ({"f": concrete}, "a `tf.function`, or"),
        ({"f": 3}, "a `tf.function`, or"),
    ):
        with pytest.raises(ValueError, match=match):
            export(model, tmp_path / "model", verbose=0, signatures=signatures)
    assert not list(tmp_path.iterdir())


def test_the_graph_is_small(exported, tmp_path):
    import os

    path, _ = exported
    assert os.path.getsize(os.path.join(path, "saved_model.pb")) < 40_000
