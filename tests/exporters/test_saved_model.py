"""The exported folder, loaded by TensorFlow alone, computes what the Keras model computes."""

import pathlib
import subprocess
import sys

import export_models
import keras
import numpy as np
import pytest

from tfcomp.exporters import export

pytestmark = pytest.mark.tensorflow


def compress(model, rng):
    """Leaves 5% of each kernel, of 31 values, and gives every other float weight random values."""
    for variable in model.weights:
        if not keras.backend.is_float_dtype(variable.dtype) or variable.name == "count":
            continue
        value = rng.standard_normal(variable.shape).astype("float32")
        if value.ndim > 1:
            value = np.round(value * 5).clip(-15, 15) / 15
            value *= rng.random(value.shape) < 0.3
        elif variable.name.endswith("variance"):
            value = np.abs(value) + 0.5
        variable.assign(value)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Exports every model, loads all of them in one fresh process, returns what they computed."""
    import tensorflow as tf

    root = tmp_path_factory.mktemp("exported")
    expected = {}
    for make in export_models.ALL:
        keras.backend.clear_session()
        keras.utils.set_random_seed(3)
        rng = np.random.default_rng(3)
        model, inputs = make(rng)
        compress(model, rng)
        folder = root / make.__name__
        folder.mkdir()
        export(model, folder / "model", verbose=False)
        names = [tensor.name for tensor in getattr(model, "inputs", None) or []] or ["args_0"]
        np.savez(folder / "inputs.npz", **dict(zip(names, keras.tree.flatten(inputs))))
        # A functional model takes its inputs as one structure.
        args = inputs if len(inputs) == 1 else [inputs]
        forward = tf.function(model.__call__, autograph=False)
        expected[make.__name__] = [np.asarray(y) for y in keras.tree.flatten(forward(*args))]
    script = pathlib.Path(__file__).parent / "load_all.py"
    subprocess.run([sys.executable, str(script), str(root)], check=True)
    return root, expected


@pytest.mark.parametrize("name", [make.__name__ for make in export_models.ALL])
@pytest.mark.parametrize("loader", ["v2", "twice", "v1"])
def test_loads_without_keras_and_computes_the_same(results, name, loader):
    root, expected = results
    with np.load(root / name / "outputs.npz", allow_pickle=True) as file:
        got = [file[key] for key in sorted(file.files) if key.startswith(loader + "_")]
    assert len(got) == len(expected[name])
    for actual, wanted in zip(got, expected[name]):
        assert actual.dtype == wanted.dtype
        if loader == "v1":
            # A session optimizes the graph in its own way.
            np.testing.assert_allclose(actual, wanted, 1e-5, 1e-6)
        else:
            np.testing.assert_array_equal(actual, wanted)


@pytest.mark.parametrize("make", export_models.ALL, ids=lambda make: make.__name__)
def test_same_signatures_as_keras(results, make, tmp_path):
    import tensorflow as tf

    keras.backend.clear_session()
    model, inputs = make(np.random.default_rng(0))
    model.export(tmp_path / "keras", verbose=False)
    keras_artifact = tf.saved_model.load(str(tmp_path / "keras"))
    artifact = tf.saved_model.load(str(results[0] / make.__name__ / "model"))
    assert set(artifact.signatures) == set(keras_artifact.signatures)
    for name in artifact.signatures:
        ours, theirs = artifact.signatures[name], keras_artifact.signatures[name]
        assert ours.structured_input_signature == theirs.structured_input_signature
        assert ours.structured_outputs == theirs.structured_outputs
    args = inputs if len(inputs) == 1 else [inputs]
    keras.tree.assert_same_structure(artifact.serve(*args), keras_artifact.serve(*args))


def lenet(rng):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "mse")
    codebook = np.sort(rng.standard_normal(31) * 0.05)
    for variable in model.weights:
        value = codebook[rng.integers(0, 31, variable.shape)]
        variable.assign(value * (rng.random(variable.shape) < 0.05))
    return model


def folder_bytes(path):
    return sum(file.stat().st_size for file in pathlib.Path(path).rglob("*") if file.is_file())


def test_a_pruned_and_clustered_lenet_is_forty_times_smaller_than_keras_export(tmp_path):
    model = lenet(np.random.default_rng(0))
    model.optimizer.build(model.trainable_variables)
    export(model, tmp_path / "small", verbose=False)
    model.export(tmp_path / "keras", verbose=False)
    assert folder_bytes(tmp_path / "small") * 40 < folder_bytes(tmp_path / "keras")


def test_random_weights_are_stored_once(tmp_path):
    model = keras.Sequential([keras.Input((500,)), keras.layers.Dense(400)])
    export(model, tmp_path / "once", verbose=False)
    assert 200_000 * 4 * 0.8 < folder_bytes(tmp_path / "once") < 200_000 * 4 + 40_000


def test_weights_that_inference_does_not_read_are_not_stored(results):
    root, _ = results
    # Its unused layer alone would be 120 kB.
    assert folder_bytes(root / "subclassed" / "model") < 60_000


def test_variables_changed_by_the_call_change_on(results):
    import tensorflow as tf

    artifact = tf.saved_model.load(str(results[0] / "stateful" / "model"))
    x = np.zeros((1, 30), "float32")
    first, second = artifact.serve(x), artifact.serve(x)
    np.testing.assert_allclose(second - first, np.ones((1, 40)), rtol=1e-6)


def test_input_signature_is_honoured(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((None, 8)), keras.layers.Dense(2)])
    export(
        model,
        tmp_path / "fixed",
        verbose=False,
        input_signature=[keras.InputSpec(shape=(4, 7, 8), dtype="float32", name="x")],
    )
    serve = tf.saved_model.load(str(tmp_path / "fixed")).signatures["serving_default"]
    assert serve.structured_input_signature[1] == {
        "x": tf.TensorSpec((4, 7, 8), tf.float32, name="x")
    }


def test_batch_size_is_free(results):
    import tensorflow as tf

    artifact = tf.saved_model.load(str(results[0] / "sequential" / "model"))
    assert artifact.serve(np.zeros((17, 12, 12, 3), "float32")).shape == (17, 10)


def test_export_leaves_the_model_as_it_was(tmp_path):
    model = lenet(np.random.default_rng(0))
    before = model.get_weights()
    export(model, tmp_path / "model", verbose=False)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    model.fit(np.zeros((4, 28, 28, 1)), np.zeros((4, 10)), verbose=0)


def test_says_what_it_did(tmp_path, capsys):
    export(lenet(np.random.default_rng(0)), tmp_path / "model")
    printed = capsys.readouterr().out
    assert "serve" in printed and "float32[None, 28, 28, 1]" in printed
    assert "1.72 MB" in printed


def test_large_weights_lie_in_files_and_not_in_the_graph(tmp_path):
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(300)])
    export(model, tmp_path / "model", verbose=False)
    assert (tmp_path / "model" / "saved_model.pb").stat().st_size < 40_000
    # One of the kernel, one of all that is small.
    assert len(list((tmp_path / "model" / "assets").iterdir())) == 2


def test_a_failing_export_leaves_the_old_folder_whole(tmp_path, monkeypatch):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    export(model, tmp_path / "model", verbose=False)

    def fails(root, path, **kwargs):
        (pathlib.Path(path) / "saved_model.pb").write_text("half of it")
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", fails)
        with pytest.raises(OSError, match="disk full"):
            export(model, tmp_path / "model", verbose=False)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_array_equal(served.serve(np.ones((1, 4), "float32")), model(np.ones((1, 4))))


def test_shared_weights_are_stored_once(tmp_path):
    shared = keras.layers.Dense(400)
    x = keras.Input((400,))
    model = keras.Model(x, shared(shared(x)))
    export(model, tmp_path / "model", verbose=False)
    assert folder_bytes(tmp_path / "model") < 160_000 * 4 + 40_000


def test_trained_optimizer_state_is_not_exported(tmp_path):
    model = keras.Sequential([keras.Input((400,)), keras.layers.Dense(400)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 400)), np.ones((4, 400)), verbose=0)
    export(model, tmp_path / "model", verbose=False)
    assert folder_bytes(tmp_path / "model") < 160_000 * 4 + 40_000
