"""Dense layers of up to eight bits in OpenVINO against NumPy, and against the model."""

import keras
import numpy as np
import pytest
from file_kernels import always, computed, mixed, needs
from hypothesis import given, settings
from hypothesis import strategies as st

import tfcomp

tf = pytest.importorskip("tensorflow")
pytest.importorskip("openvino")

from tfcomp.exporters.engines import OpenVINOEngine  # noqa: E402
from tfcomp.exporters.files.makers import OpenVINOFile  # noqa: E402

pytestmark = [pytest.mark.tensorflow, needs("openvino")]
K = keras.layers


def made(model, folder, batch=None):
    specs = [keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name="x")]
    return OpenVINOFile(model, specs, str(folder))


def written(model, path, batch=None):
    """Writes a file with all kernels; returns names of these, and reasons of what has none."""
    maker = made(model, path.parent, batch)
    maker.write(str(path), [(place, 0) for place in range(len(maker.items))])
    return [item.name for item in maker.items], [row.reason for row in maker.left]


def of_integers(layer, most, seed=0):
    """Gives a built layer integers times a scale for each output, and random biases."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(-most, most + 1, layer.kernel.shape)
    codes[0] = most
    layer.kernel.assign((codes * rng.uniform(0.01, 1, codes.shape[-1])).astype("float32"))
    if layer.use_bias:
        layer.bias.assign(rng.standard_normal(codes.shape[-1]).astype("float32"))


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 300),
    st.integers(1, 20),
    st.sampled_from([1, 7, 8, 127]),
    st.sampled_from([None, 2]),
)
def test_products_are_those_of_numpy(tmp_path_factory, seed, inputs, outputs, most, batch):
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    model = keras.Sequential([keras.Input((inputs,)), K.Dense(outputs)])
    of_integers(model.layers[0], most, seed)
    bits = 4 if most <= 7 and inputs % 2 == 0 else 8
    assert written(model, path, batch) == ([f"MatMul, {bits} bits"], [])
    text = path.read_text()
    assert f'element_type="i{bits}"' in text and "DYNAMIC_QUANTIZATION_GROUP_SIZE" in text
    kernel, bias = (np.array(v, np.float64) for v in model.get_weights())
    for size in (1, 5) if batch is None else (batch,):
        x = np.random.default_rng(seed).standard_normal((size, inputs)).astype("float32")
        wanted = x @ kernel + bias
        # Inputs that were quantized on the fly would move it by a hundredth.
        np.testing.assert_allclose(
            computed(path, "openvino", x), wanted, atol=3e-6 * np.abs(wanted).max(), rtol=0
        )


def test_integers_by_hand(tmp_path):
    model = keras.Sequential([keras.Input((4,)), K.Dense(1, use_bias=False)])
    model.layers[0].kernel.assign(np.float32([[0.5], [-1], [3.5], [0]]))
    (item,) = made(model, tmp_path).items
    assert item.codes.tolist() == [[1], [-2], [7], [0]] and item.scale.tolist() == [0.5]
    # 1 and -2, then 7 and 0, the low ones first.
    assert item.packed().tolist() == [0xE1, 0x07]


@pytest.mark.parametrize("batch", [None, 3])
def test_a_whole_model(tmp_path, batch):
    pixels = K.Dense(6, activation="relu")
    model = mixed(pixels)
    of_integers(pixels, 100)
    names, left = written(model, tmp_path / "model.xml", batch)
    assert names == ["BinaryConvolution", "MatMul, 8 bits", "MatMul, 4 bits"]
    dense = "MatMul: its weights are not on a uniform grid of up to 8 bits"
    assert left == [
        "BinaryConvolution: its inputs are not signs; MatMul: its layer is not dense",
        f"BinaryConvolution: its inputs are not signs; {dense}",
    ]
    for size in (1, 3) if batch is None else (batch,):
        x = np.random.default_rng(size).standard_normal((size, 6, 6, 3)).astype("float32")
        found = OpenVINOEngine(str(tmp_path / "model.xml"), 1).prepare([x])()
        for one, wanted in zip(found, model.predict(x, verbose=0)):
            np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-5)


def test_export(tmp_path, monkeypatch):
    """The file has the integers, and no loop: they are for any batch size."""
    always(monkeypatch)
    model = keras.Sequential([keras.Input((64,)), K.Dense(256, "relu"), K.Dense(10)])
    of_integers(model.layers[0], 7)
    path = tmp_path / "model.xml"
    result = tfcomp.export(model, str(path), format="openvino", optimize="latency", verbose=0)
    first, *_, whole = result.kernels["serve"]
    assert (first.kernel, whole.kernel) == ("MatMul, 4 bits", "kernels") and not result.left_out
    assert result[0].difference <= 1e-5 * result[0].largest
    assert "TensorIterator" not in path.read_text()
    # Four bits for each of 64 x 256 weights, and the rest in floats.
    floats = 256 + 256 + 2560 + 10
    assert result.file_bytes - len(path.read_text()) < 64 * 256 // 2 + 4 * floats + 100
