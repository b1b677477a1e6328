"""Binary layers in OpenVINO against sums of products in NumPy, and against the model."""

import keras
import numpy as np
import pytest
from file_kernels import always, computed, images, needs, settled
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_products import reference

import tfcomp

tf = pytest.importorskip("tensorflow")
pytest.importorskip("openvino")

from tfcomp.exporters.files.holes import Pierced  # noqa: E402
from tfcomp.exporters.files.openvino_binary import binary_holes  # noqa: E402
from tfcomp.exporters.kernels.xnor import Window  # noqa: E402
from tfcomp.exporters.latency.flow import layer_flow  # noqa: E402
from tfcomp.exporters.snapshot import Snapshot  # noqa: E402
from tfcomp.exporters.to_openvino import write_openvino  # noqa: E402
from tfcomp.layers.base.padding import pad_widths  # noqa: E402
from tfcomp.model.final_weights import FinalWeights  # noqa: E402

pytestmark = [pytest.mark.tensorflow, needs("openvino")]
K, T = keras.layers, tfcomp.layers


def pierced(model):
    final = FinalWeights(model)
    spec = tf.TensorSpec((None, *model.input_shape[1:]))
    flow = layer_flow(lambda x: model(x, training=False), [spec], final.scope)
    holes, left = binary_holes(flow, final)
    return Pierced(model, flow, holes), left


def written(model, path, batch=None):
    """Writes a file; returns names of its kernels, and reasons of what has none."""
    made, left = pierced(model)
    spec = keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name="x")
    write_openvino(Snapshot(model, made), str(path), [spec], made.holes)
    return [hole.name for hole in made.holes], [row.reason for row in left]


def same(model, path, names, sizes=(1, 3)):
    assert written(model, path)[0] == names
    for size in sizes:
        x = images(model, size)
        np.testing.assert_array_equal(computed(path, "openvino", x), model.predict(x, verbose=0))
    written(model, path, 2)
    x = images(model, 2)
    np.testing.assert_array_equal(computed(path, "openvino", x), model.predict(x, verbose=0))


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 2))
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    size, dilation = draw(each), draw(each)
    if rank == 2:
        # No padding may be wider than two columns.
        dilation[1] = min(dilation[1], 2)
    strides = draw(each) if max(dilation) == 1 else [1] * rank
    padding = draw(st.sampled_from(["valid", "same"]))
    groups = draw(st.sampled_from([1, 1, 2]))
    channels = draw(st.sampled_from([1, 3, 8, 9, 31, 64])) if groups == 1 else 16
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
    space = [r + draw(st.integers(0, 4)) for r in reach]
    layer = (T.BinaryConv1D if rank == 1 else T.BinaryConv2D)(
        groups * draw(st.integers(1, 9)),
        size,
        strides,
        padding,
        dilation_rate=dilation,
        groups=groups,
        pad_value=draw(st.sampled_from([-1, 0, 1])),
        use_bias=False,
    )
    return keras.Sequential([keras.Input((*space, channels)), layer])


@settings(max_examples=25, deadline=None)
@given(convolutions())
def test_convolutions_are_sums_of_signs(tmp_path_factory, model):
    path = tmp_path_factory.mktemp("openvino") / "model.xml"
    (layer,) = model.layers
    names, left = written(model, path)
    assert names == ["BinaryConvolution"] and not left
    pads = [(0, 0)] * layer.rank
    if layer.padding == "same":
        pads = pad_widths(layer, (None, *model.input_shape[1:]))[1:-1]
    window = Window(
        layer.kernel_size, layer.strides, layer.dilation_rate, pads, layer.pad_value, layer.groups
    )
    x = images(model, 2)
    kernel = np.where(np.array(layer.kernel) >= 0, 1.0, -1.0)
    wanted = reference(np.where(x >= 0, 1.0, -1.0), kernel, window)
    np.testing.assert_array_equal(computed(path, "openvino", x), wanted)


def chain(channels, pool, last):
    layers = [
        T.BinaryConv2D(channels, 3, padding="same"),
        *([K.MaxPooling2D(pool)] if pool else []),
        K.BatchNormalization(),
        T.BinaryConv2D(channels + 3, 3, strides=2, pad_value=0, padding="same"),
        K.BatchNormalization(),
        *last,
    ]
    return settled(keras.Sequential([keras.Input((9, 8, 5)), *layers]))


@pytest.mark.parametrize("channels,pool", [(8, 2), (13, None), (16, 3), (7, 2)])
@pytest.mark.parametrize("end", ["dense", "normalized", "convolution"])
def test_rows_of_layers_are_one(tmp_path, channels, pool, end):
    last = {
        "dense": [K.Flatten(), T.BinaryDense(6), K.BatchNormalization(), T.BinaryDense(3)],
        "normalized": [K.Flatten(), K.BatchNormalization(), T.BinaryDense(4, scale=True)],
        "convolution": [T.BinaryConv2D(4, 2, padding="same"), K.ReLU()],
    }[end]
    count = {"dense": 4, "normalized": 3, "convolution": 3}[end]
    model = chain(channels, pool, last)
    assert written(model, tmp_path / "model.xml")[0] == [f"BinaryConvolution, {count} layers"]
    for size in (1, 3):
        x = images(model, size)
        found, wanted = computed(tmp_path / "model.xml", "openvino", x), model.predict(x, verbose=0)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_scales_biases_activations_and_pooling_behind(tmp_path):
    layers = [
        T.BinaryConv2D(8, 3, padding="same", scale=True, input_scale=True, activation="relu"),
        T.BinaryConv2D(8, 3, bias_initializer="ones"),
        K.GlobalAveragePooling2D(),
        T.BinaryDense(4, input_scale=True, activation="tanh"),
    ]
    model = keras.Sequential([keras.Input((6, 6, 4)), *layers])
    names, left = written(model, tmp_path / "model.xml")
    assert names == ["BinaryConvolution"] * 3 and not left
    x = images(model, 2)
    np.testing.assert_allclose(
        computed(tmp_path / "model.xml", "openvino", x), model.predict(x, verbose=0), rtol=1e-5
    )


def test_axes_of_tokens_and_several_uses(tmp_path):
    x = keras.Input((5, 16))
    shared = T.BinaryDense(16)
    y = shared(K.BatchNormalization()(shared(x)))
    model = keras.Model(x, K.Add()([T.BinaryConv1D(16, 3, padding="same")(y), x]))
    same(settled(model), tmp_path / "model.xml", ["BinaryConvolution, 3 layers"])


def test_what_stays_as_it_was_says_why():
    layers = [
        K.Conv2D(8, 3),
        T.BinaryConv2D(8, 3, pad_value=0.5, padding="same"),
        T.BinaryConv2D(8, 3, groups=4),
        T.BinaryConv2D(8, 1, kernel_quantizer="ternary", kernel_initializer="zeros"),
    ]
    model = keras.Sequential([keras.Input((9, 9, 4)), *layers])
    made, left = pierced(model)
    assert not made.holes and [row.reason for row in left] == [
        "its inputs are not signs",
        "it pads with 0.5",
        "it has groups of 2 channels",
        "its weights are not signs",
    ]
    model = keras.Sequential([keras.Input((4, 4, 4, 8)), T.BinaryConv3D(2, 2)])
    _, (left,) = pierced(model)
    assert left.reason == "BinaryConvolution has two axes of space"


@pytest.mark.parametrize(
    "space,size,options,reason",
    [
        ((16, 16), (11, 11), {}, "it pads 5 columns, where 2 are computed at once"),
        ((16, 16), (11, 5), {}, None),
        ((16, 16), (7, 7), {}, "it pads 3 columns, where 2 are computed at once"),
        ((9, 1), (3, 3), {"dilation_rate": 2}, "it pads 2 columns, where 1 are computed at once"),
        ((9, 2), (3, 3), {"dilation_rate": 2}, None),
        (
            (8, 16),
            (4, 9),
            {"strides": 2},
            "its windows of 9 columns are padded, and not moved by 1",
        ),
        ((12, 16), (1, 9), {"strides": 2, "padding": "valid"}, None),
        ((11, 11), (3, 3), {"strides": 3}, None),
    ],
)
def test_windows_that_some_processor_refuses_stay_as_they_were(
    tmp_path, space, size, options, reason
):
    layer = T.BinaryConv2D(8, size, **{"padding": "same", **options})
    model = keras.Sequential([keras.Input((*space, 8)), layer])
    path = tmp_path / "model.xml"
    names = [] if reason else ["BinaryConvolution"]
    assert written(model, path) == (names, [reason] if reason else [])
    x = images(model, 2)
    np.testing.assert_array_equal(computed(path, "openvino", x), model.predict(x, verbose=0))


def test_rows_of_one_axis_may_be_padded_widely(tmp_path):
    model = keras.Sequential([keras.Input((16, 8)), T.BinaryConv1D(8, 11, padding="same")])
    same(model, tmp_path / "model.xml", ["BinaryConvolution"])


def test_an_export_has_the_kernels_and_a_table(tmp_path, monkeypatch):
    always(monkeypatch)
    model = chain(8, 2, [K.Flatten(), T.BinaryDense(4)])
    path = tmp_path / "model.xml"
    result = tfcomp.export(
        model, path, format="openvino", optimize="latency", batch_sizes=(1, 2), verbose=0
    )
    assert result[0].difference == 0 and not result.left_out
    rows = result.kernels["serve"]
    assert [(row.batch, row.kernel) for row in rows] == [
        (1, "BinaryConvolution, 3 layers"),
        (1, "kernels"),
        (2, "BinaryConvolution, 3 layers"),
        (2, "kernels"),
    ]
    import openvino

    loops = openvino.Core().read_model(str(path)).get_ops()
    assert "TensorIterator" in {op.get_type_name() for op in loops}
    fixed = [keras.InputSpec(shape=(3, 9, 8, 5), dtype="float32")]
    result = tfcomp.export(
        model, path, format="openvino", optimize="latency", input_signature=fixed, verbose=0
    )
    assert {row.batch for row in result.kernels["serve"]} == {3}
    kinds = {op.get_type_name() for op in openvino.Core().read_model(str(path)).get_ops()}
    assert "BinaryConvolution" in kinds and "TensorIterator" not in kinds
