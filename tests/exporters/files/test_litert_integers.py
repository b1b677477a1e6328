"""Integers in LiteRT files: stored as they are, and multiplied as NumPy says."""

import keras
import numpy as np
import pytest
from file_kernels import always, computed, needs

import tfcomp

tf = pytest.importorskip("tensorflow")
pytest.importorskip("ai_edge_litert")

from tfcomp.exporters.files import flatbuffer, litert_integers  # noqa: E402
from tfcomp.exporters.files.makers import LiteRTFile  # noqa: E402
from tfcomp.model.choice import Unsuited  # noqa: E402

pytestmark = [pytest.mark.tensorflow, needs("ai_edge_litert")]
K, T = keras.layers, tfcomp.layers


def test_inputs_become_what_is_worked_out_by_hand():
    # A step of 1 / 127.5: halves go to even numbers, and 128 is no number of eight bits.
    signs = np.array([[1, -1, 0]], "float32")
    found = litert_integers.quantized(signs, (1,))
    np.testing.assert_allclose(found, [[127 / 127.5, -128 / 127.5, 0]], rtol=1e-6)
    # A range of 0 to 5.1: its steps are 0.02, and all of these are multiples.
    found = litert_integers.quantized(np.array([[5.1, 0.02, 2.5]], "float32"), (1,))
    np.testing.assert_allclose(found, [[5.1, 0.02, 2.5]], rtol=1e-5)
    found = litert_integers.quantized(np.array([[-12.7, 0.26]], "float32"), (1,), "symmetric")
    np.testing.assert_allclose(found, [[-12.7, 0.3]], rtol=1e-5)
    assert not litert_integers.quantized(np.zeros((2, 3), "float32"), (1,)).any()


def on_a_grid(model, most):
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            axis = -2 if isinstance(layer, K.DepthwiseConv2D) else -1
            scale = rng.uniform(0.01, 0.1, layer.kernel.shape[axis])
            scale = scale[:, None] if axis == -2 else scale
            codes = rng.integers(-most, most + 1, layer.kernel.shape)
            layer.kernel.assign((codes * scale.astype("float32")).astype("float32"))
            layer.bias.assign(rng.standard_normal(layer.bias.shape))
    return model


def network():
    layers = [
        K.Conv2D(8, 3, padding="same"),
        K.BatchNormalization(),
        K.ReLU(),
        K.DepthwiseConv2D(3, strides=2),
        K.Conv2D(7, 1),
        K.Conv2D(8, 2, dilation_rate=2, activation="relu"),
        K.Flatten(),
        K.Dense(9, activation="relu"),
        K.Dense(3),
    ]
    return keras.Sequential([keras.Input((13, 12, 4)), *layers])


def maker(model, folder, batch=None):
    specs = [keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name="x")]
    return LiteRTFile(model, specs, str(folder))


@pytest.mark.parametrize("most,bits", [(7, 4), (127, 8)])
def test_integers_are_stored_as_they_are(tmp_path, most, bits):
    made = maker(on_a_grid(network(), most), tmp_path)
    # Each kernel was compared with NumPy's quantization of its inputs, or would be left out.
    assert len(made.items) == 6 and not made.left
    made.write(tmp_path / "model.tflite", [(place, 0) for place in range(6)])
    plain = flatbuffer.read((tmp_path / "plain.tflite").read_bytes())
    model = flatbuffer.read((tmp_path / "model.tflite").read_bytes())
    for item in made.items:
        tensors = []
        for one in (plain, model):
            graph = one.subgraphs[item.graph]
            tensors.append(graph.tensors[graph.operators[item.operator].inputs[1]])
        wanted = flatbuffer.values_of(plain, tensors[0])
        data = np.array(model.buffers[tensors[1].buffer].data, np.uint8)
        if item.bits[0] == 4:
            data = np.stack([data << 4, data], -1).reshape(-1)[: wanted.size].view(np.int8) >> 4
        codes = data.view(np.int8).reshape(wanted.shape).astype("float64")
        shape = [1] * codes.ndim
        shape[item.axis] = -1
        scale = np.array(tensors[1].quantization.scale).reshape(shape)
        np.testing.assert_allclose(codes * scale, wanted, rtol=1e-5, atol=1e-7)
        assert tensors[1].quantization.quantizedDimension == item.axis
    small = (tmp_path / "model.tflite").stat().st_size
    assert small < (tmp_path / "plain.tflite").stat().st_size
    x = np.random.default_rng(0).standard_normal((3, 13, 12, 4)).astype("float32")
    moved = computed(tmp_path / "model.tflite", "litert", x)
    plain = computed(tmp_path / "plain.tflite", "litert", x)
    assert 0 < np.abs(moved - plain).max() < 0.1 * np.abs(plain).max()


def test_a_kernel_that_computes_something_else_is_noticed(tmp_path):
    made = maker(on_a_grid(network(), 7), tmp_path)
    item, plain = made.items[-1], made._plain
    wrong = item._replace(codes=np.where(item.codes == 7, 6, item.codes).astype("int8"))

    def run(content, inputs):
        (tmp_path / "one.tflite").write_bytes(content)
        return computed(tmp_path / "one.tflite", "litert", inputs)

    litert_integers.check(plain, made._changed([(item, 4)]), item, run)
    with pytest.raises(Unsuited, match="no way to quantize"):
        litert_integers.check(plain, made._changed([(wrong, 4)]), wrong, run)


def test_an_export_says_how_far_outputs_move(tmp_path, monkeypatch, capsys):
    always(monkeypatch)
    model = on_a_grid(keras.Sequential([keras.Input((64,)), K.Dense(32), K.Dense(4)]), 7)
    model.layers[1].kernel.assign(np.random.default_rng(1).standard_normal((32, 4)))
    path = tmp_path / "model.tflite"
    result = tfcomp.export(model, path, format="litert", optimize="latency")
    (row,) = result
    assert 1e-4 * row.largest < row.difference < 0.05 * row.largest
    table = result.kernels["serve"]
    # The later of two, 8 bits, is the one that the clock of this test favours.
    assert [row.kernel for row in table] == ["8 bits, inputs quantized", "kernels"]
    (left,) = table.left_out
    assert left.reason == "its weights are not integers of 8 bits times a scale"
    printed = capsys.readouterr().out
    assert "quantized" in printed and "largest difference" in printed


def test_a_wrong_file_of_floats_is_an_error(tmp_path, monkeypatch):
    always(monkeypatch)
    model = on_a_grid(keras.Sequential([keras.Input((64,)), K.Dense(32)]), 7)
    kept = flatbuffer.read

    def spoilt(self, model, specs, folder):
        other = keras.models.clone_model(model)
        kept_init(self, other, specs, folder)

    kept_init = LiteRTFile.__init__
    monkeypatch.setattr(LiteRTFile, "__init__", spoilt)
    with pytest.raises(ValueError, match="does not compute what the model does"):
        tfcomp.export(
            model, tmp_path / "model.tflite", format="litert", optimize="latency", verbose=0
        )
    assert not list(tmp_path.iterdir()) and kept is flatbuffer.read


def test_pruned_weights_are_stored_without_zeros(tmp_path):
    model = keras.Sequential([keras.Input((9, 9, 16)), K.Conv2D(32, 3), K.Flatten(), K.Dense(64)])
    sizes = []
    for share in (0, 0.9):
        rng = np.random.default_rng(0)
        for layer in (model.layers[0], model.layers[2]):
            value = rng.standard_normal(layer.kernel.shape)
            layer.kernel.assign(np.where(rng.random(value.shape) < share, 0, value))
        path = tmp_path / "model.tflite"
        result = tfcomp.export(model, path, format="litert", verbose=0)
        assert result[0].difference <= 1e-5 * result[0].largest and not result.left_out
        sizes.append(result.file_bytes)
    assert sizes[1] < 0.25 * sizes[0]
    tensors = flatbuffer.read(path.read_bytes()).subgraphs[0].tensors
    assert sum(tensor.sparsity is not None for tensor in tensors) == 2


def test_bad_input(tmp_path):
    model = keras.Sequential([keras.Input((4,)), K.Dense(2)])
    for arguments, words in [
        ({"path": tmp_path / "model.xml"}, "ends in .tflite"),
        ({"path": tmp_path / "model.tflite", "optimizations": []}, "no further arguments"),
        ({"path": tmp_path / "model.tflite", "batch_sizes": ()}, "tuple of integers"),
    ]:
        with pytest.raises(ValueError, match=words):
            tfcomp.export(model, format="litert", optimize="latency", **arguments)
    with pytest.raises(ValueError, match="'size' with format='torch'"):
        tfcomp.export(model, tmp_path / "model.pt2", format="torch", optimize="latency")


@pytest.mark.parametrize(
    "format,name,missing",
    [
        ("litert", "model.tflite", "ai_edge_litert"),
        ("onnx", "model.onnx", "onnxruntime"),
        ("openvino", "model.xml", "openvino"),
    ],
)
def test_a_missing_package_is_said_before_any_work(tmp_path, monkeypatch, format, name, missing):
    import importlib.util

    kept = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == missing else kept(n, *a)
    )
    model = keras.Sequential([keras.Input((4,)), K.Dense(2)])
    with pytest.raises(ImportError, match=rf"tfcomp\[{format}\]"):
        tfcomp.export(model, tmp_path / name, format=format, optimize="latency")
    assert not list(tmp_path.iterdir())
