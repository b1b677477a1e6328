"""A file of another format is run, and compared with the model, before it takes its place."""

import os

import export_models
import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.exporters import export, formats, verify_file
from tfcomp.exporters.compared import NotComparable
from tfcomp.exporters.engines import RUNTIMES, LiteRTEngine
from tfcomp.exporters.snapshot import Snapshot

layers = keras.layers
tensorflow_only = pytest.mark.tensorflow


def needs(*packages):
    return pytest.mark.skipif(
        any(not _is_installed(package) for package in packages),
        reason=f"needs {' and '.join(packages)}",
    )


def _is_installed(package):
    import importlib.util

    return importlib.util.find_spec(package) is not None


FORMATS = [
    pytest.param("litert", "model.tflite", marks=needs("tensorflow")),
    pytest.param("onnx", "model.onnx", marks=needs("onnx", "tf2onnx", "onnxruntime")),
    pytest.param("openvino", "model.xml", marks=needs("openvino")),
]
every_format = pytest.mark.parametrize("format,name", FORMATS)


def by_name(kind):
    """Inputs and outputs in no order that would come about by itself."""
    b, a = keras.Input((3,), name="b"), keras.Input((3,), name="a")
    difference, total = layers.Subtract()([b, a]), layers.Add()([b, a])
    if kind == "dict":
        return keras.Model({"b": b, "a": a}, [difference, total, b])
    return keras.Model([b, a], {"z": difference, "d": total})


def int8():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(96), layers.Dense(4)])
    model.quantize("int8")
    return model


def free():
    convolutions = [layers.Conv2D(4, 3, 2) for _ in range(3)]
    return keras.Sequential(
        [keras.Input((None, None, 3)), *convolutions, layers.GlobalMaxPooling2D()]
    )


def several_steps():
    x = keras.Input((6, 16))
    y = layers.MultiHeadAttention(2, 8)(x, layers.GaussianNoise(1.0)(x))
    return keras.Model(x, layers.Dense(5)(layers.LayerNormalization()(y)))


@tensorflow_only
@every_format
@pytest.mark.parametrize("make", [free, several_steps])
def test_the_largest_difference_of_each_output(tmp_path, format, name, make):
    result = export(make(), tmp_path / name, format=format, verbose=0)
    (row,) = result
    assert row.path == f"{format}/output_0" and row.largest > 0.01
    assert row.difference < 1e-5 * row.largest and not result.left_out
    assert result.path == str(tmp_path / name)
    assert result.file_bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


@tensorflow_only
@every_format
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_several_inputs_and_outputs(tmp_path, format, name, kind):
    result = export(by_name(kind), tmp_path / name, format=format, verbose=0)
    names = ["output_0", "output_1", "output_2"] if kind == "dict" else ["d", "z"]
    assert [row.path for row in result] == [f"{format}/{name}" for name in names]
    assert all(row.difference < 1e-6 for row in result)
    batch = {"a": np.ones((4, 3), "float32"), "b": np.full((4, 3), 5, "float32")}
    engine = RUNTIMES[format](str(tmp_path / name), 1)
    wanted = [4, 6, 5] if kind == "dict" else [6, 4]
    for found, value in zip(engine.prepare(batch)(), wanted):
        np.testing.assert_array_equal(found, np.full((4, 3), value))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="needs the PyTorch backend")
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_a_program_of_torch(tmp_path, kind):
    model = by_name(kind)
    result = export(model, tmp_path / "model.pt2", format="torch", verbose=0)
    assert len(result) == len(model.outputs) and all(row.difference < 1e-6 for row in result)
    model = several_steps()
    data = np.ones((5, 6, 16), "float32")
    for inputs in (None, data):
        result = export(model, tmp_path / "model.pt2", format="torch", verbose=0, data=inputs)
        assert result[0].difference < 1e-5 * result[0].largest


@tensorflow_only
@needs("openvino")
@pytest.mark.parametrize("kind", ["int8", "augment"])
def test_openvino_has_the_models_outputs_alone(tmp_path, kind):
    """Keras's own file of these has more, and the product of int8 overflows in it."""
    import openvino

    model = int8()
    if kind == "augment":
        parts = [layers.RandomFlip(), layers.Flatten(), layers.Dense(3)]
        model = keras.Sequential([keras.Input((8, 8, 3)), *parts])
    result = export(model, tmp_path / "model.xml", format="openvino", verbose=0)
    assert len(openvino.Core().read_model(tmp_path / "model.xml").outputs) == 1
    assert result[0].difference < 1e-5 and result[0].largest > 0.1


@tensorflow_only
@needs("tensorflow")
@pytest.mark.parametrize("before", [None, b"what was there"])
def test_a_difference_is_an_error_and_leaves_what_was_there(tmp_path, monkeypatch, before):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    path, write = tmp_path / "model.tflite", formats._write

    def writes_another(model, *args):
        other = keras.models.clone_model(model)
        other.set_weights([weight + 1 for weight in model.get_weights()])
        write(other, *args)

    monkeypatch.setattr(formats, "_write", writes_another)
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(ValueError, match=r"litert file does not compute.*'output_0' by [0-9.]+"):
        export(model, path, format="litert", verbose=0)
    assert os.listdir(tmp_path) == ([] if before is None else [path.name])
    assert before is None or path.read_bytes() == before
    result = export(model, path, format="litert", verbose=0, verify=False)
    assert "verify=False" in result.left_out[0].reason and path.stat().st_size > 100


@tensorflow_only
@needs("tensorflow")
def test_a_file_that_does_not_run_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_write", lambda model, path, *args: open(path, "w").close())
    with pytest.raises(ValueError, match="litert file fails where the model does not"):
        export(int8(), tmp_path / "model.tflite", format="litert", verbose=0)
    assert not list(tmp_path.iterdir())


def test_a_runtime_that_is_missing_is_said(tmp_path, monkeypatch):
    class Missing(LiteRTEngine):
        def __init__(self, path, threads):
            raise ImportError

    monkeypatch.setitem(RUNTIMES, "litert", Missing)
    monkeypatch.setattr(formats, "_write", lambda model, path, *args: open(path, "w").close())
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
    with pytest.warns(UserWarning, match="not compared.*pip install ai-edge-litert"):
        result = export(model, tmp_path / "model.tflite", format="litert", verbose=0)
    assert not result.rows and "pip install ai-edge-litert" in result.left_out[0].reason


@tensorflow_only
@needs("tensorflow")
def test_data_of_the_user(tmp_path):
    x = keras.Input((4,))
    model = keras.Model(x, keras.ops.sqrt(x - 1000))
    data = np.full((5, 4), 1004, "float32")
    result = export(model, tmp_path / "m.tflite", format="litert", verbose=0, data=data)
    assert result[0].largest == 2 and result[0].difference == 0


@tensorflow_only
@needs("tensorflow")
def test_a_difference_that_was_asked_for_is_listed(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((64,)), layers.Dense(64), layers.Dense(4)])
    arguments = {"optimizations": [tf.lite.Optimize.DEFAULT]}
    result = export(model, tmp_path / "m.tflite", format="litert", verbose=0, **arguments)
    assert 1e-4 < result[0].difference / result[0].largest < 0.1
    arguments["inference_input_type"] = tf.int8
    arguments["representative_dataset"] = lambda: [[np.ones((1, 64), "float32")]]
    with pytest.warns(UserWarning, match=r"not compared.*takes \['int8'\]"):
        export(model, tmp_path / "m.tflite", format="litert", verbose=0, **arguments)


@tensorflow_only
@needs("tensorflow")
def test_binary_networks(tmp_path):
    """Trained ones have no sums that lie on a threshold."""
    binary = [tfcomp.layers.BinaryDense(units) for units in (32, 3)]
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((40,)), binary[0], norm, binary[1]])
    norm.beta.assign(np.random.default_rng(0).uniform(0.1, 0.3, 32))
    assert export(model, tmp_path / "m.tflite", format="litert", verbose=0)[0].difference == 0


def test_where_rounding_decides_nothing_is_compared():
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((5,)), norm, layers.Lambda(keras.ops.sign)])
    x = np.zeros((2, 5), "float32")
    expected = {"output_0": np.zeros((2, 5), "float32")}

    def compared(value):
        return verify_file._compared(
            model, "onnx", lambda _: {"output_0": np.full_like(x, value)}, [x], expected
        )

    assert compared(0)[0].difference == 0
    with pytest.raises(NotComparable, match="rounding decides on 'output_0'"):
        compared(1)
    # Nothing that signs can be.
    with pytest.raises(ValueError, match="does not compute"):
        compared(100)


def test_what_rounding_does_leaves_the_model_as_it_was():
    model, (x,) = export_models.stateful(np.random.default_rng(0))
    before = [weight.copy() for weight in model.get_weights()]
    expected = {"output_0": keras.ops.convert_to_numpy(Snapshot(model)(x))}
    noise = verify_file._noise(model, [x], expected)
    assert 0 < noise["output_0"] < 1e-4
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
