"""Dense layers of two and four bits in ONNX Runtime against NumPy, and against the model."""

import keras
import numpy as np
import pytest
from file_kernels import always, computed, mixed, needs
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcomp

tf = pytest.importorskip("tensorflow")
pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from tfcomp.exporters.files.makers import ONNXFile  # noqa: E402

pytestmark = [pytest.mark.tensorflow, needs("onnx", "tf2onnx", "onnxruntime")]
K, T = keras.layers, tfcomp.layers


def written(model, path, batch=None):
    """Writes a file with all kernels; returns names of these, and reasons of what has none."""
    specs = [keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name="x")]
    maker = ONNXFile(model, specs, str(path.parent))
    maker.write(str(path), [(place, 0) for place in range(len(maker.items))])
    return [item.name for item in maker.items], [row.reason for row in maker.left]


def nodes(path):
    found = [node for node in onnx.load(path).graph.node if node.op_type == "MatMulNBits"]
    return [{a.name: a.i for a in node.attribute} for node in found]


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 300),
    st.integers(1, 20),
    st.sampled_from([1, 7]),
    st.booleans(),
)
def test_products_are_those_of_numpy(tmp_path_factory, seed, inputs, outputs, most, signs):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    rng = np.random.default_rng(seed)
    kernel = rng.integers(-most, most + 1, (inputs, outputs))
    scale = rng.uniform(0.1, 2, outputs).astype("float32")
    layer = T.QuantizedDense(outputs, input_quantizer="binary" if signs else None, use_bias=False)
    model = keras.Sequential([keras.Input((inputs,)), layer])
    layer.kernel.assign((kernel * scale).astype("float32"))
    names, left = written(model, path)
    few = signs and all(len(set(np.abs(column)) - {0}) <= 1 for column in kernel.T)
    assert names == [f"MatMulNBits, {2 if few else 4} bits"] and not left
    # Forms without a kernel of their own would take dozens of times as long.
    (node,) = nodes(path)
    wanted = {"K": inputs, "N": outputs, "bits": 2 if few else 4, "block_size": 128}
    assert node == {**wanted, "accuracy_level": 4 if signs else 0}
    for size in (1, 5):
        x = rng.standard_normal((size, inputs)).astype("float32")
        x[0, 0] = 0
        seen = np.where(x >= 0, 1.0, -1.0) if signs else x.astype("float64")
        wanted = seen @ (kernel * scale.astype("float64"))
        off = np.abs(computed(path, "onnx", x) - wanted).max()
        assert off <= 3e-6 * max(np.abs(wanted).max(), np.abs(seen).max())


@pytest.mark.parametrize("batch", [None, 3])
def test_a_whole_model(tmp_path, batch):
    model = mixed(T.QuantizedDense(7, kernel_quantizer="ternary", activation="relu"))
    names, left = written(model, tmp_path / "model.onnx", batch)
    assert names == ["MatMulNBits, 4 bits", "MatMulNBits, 2 bits", "MatMulNBits, 4 bits"]
    assert left == [
        "its layer is not dense",
        "its weights are not on a uniform grid of up to 4 bits",
    ]
    from tfcomp.exporters.engines import ONNXEngine

    x = np.random.default_rng(0).standard_normal((3, 6, 6, 3)).astype("float32")
    found = ONNXEngine(str(tmp_path / "model.onnx"), 1).prepare([x])()
    for one, wanted in zip(found, model.predict(x, verbose=0)):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)


def test_an_export_has_the_kernels_and_a_table(tmp_path, monkeypatch):
    always(monkeypatch)
    model = keras.Sequential([keras.Input((40,)), T.BinaryDense(8), K.Dense(3)])
    path = tmp_path / "model.onnx"
    result = tfcomp.export(model, path, format="onnx", optimize="latency", verbose=0)
    assert result[0].difference < 1e-5 * result[0].largest and not result.left_out
    table = result.kernels["serve"]
    assert [row.kernel for row in table] == ["MatMulNBits, 2 bits", "kernels"]
    assert [left.path for left in table.left_out] == [model.layers[1].path]
    assert len(nodes(path)) == 1


def test_slower_kernels_are_not_taken(tmp_path, monkeypatch):
    from tfcomp.exporters.files import choice

    monkeypatch.setattr(choice, "seconds_of", lambda calls: 1.0 + np.arange(len(calls)))
    model = keras.Sequential([keras.Input((40,)), T.BinaryDense(8)])
    path = tmp_path / "model.onnx"
    result = tfcomp.export(model, path, format="onnx", optimize="latency", verbose=0)
    assert [row.kernel for row in result.kernels["serve"]] == ["Keras", "Keras"]
    assert not nodes(path)
