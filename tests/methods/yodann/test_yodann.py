"""The data path of YodaNN: by hand, against loops, and the layer against it bit for bit."""

import keras
import numpy as np
import pytest
from gradients import gradient
from keras.src.testing import TestCase

import tfcomp
from tfcomp.layers import YodaConv2D
from tfcomp.methods.yodann import datapath as yodann
from tfcomp.methods.yodann import integers as formats


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def reference(x, w, scale, bias, rounding="truncate"):
    """The documented arithmetic in Python's integers, one output after the other."""

    def saturate(n, bits):
        return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, n))

    size, _, channels, filters = w.shape
    rows, columns = x.shape[1] - size + 1, x.shape[2] - size + 1
    out = np.zeros((len(x), rows, columns, filters), int)
    for b, i, j, f in np.ndindex(out.shape):
        total = tile = 0
        for c in range(channels):
            for u, v in np.ndindex(size, size):
                if u == v == 0:
                    window = 0
                window += int(x[b, i + u, j + v, c]) * int(w[u, v, c, f])
            tile = saturate(tile + window, 17)
            if c % 32 == 31 or c == channels - 1:
                total, tile = saturate(total + tile, 17), 0
        product = saturate(int(scale[f]) * total + int(bias[f]) * 512, 29)
        # Python's division rounds down, as dropping bits does.
        out[b, i, j, f] = saturate((product + 256 * (rounding == "nearest")) // 512, 12)
    return out


def make(size, channels, filters=3, strength=1.0, **arguments):
    """A built layer with kernels that agree in sign, so that sums saturate, and random α, β."""
    rng = np.random.default_rng(10 * size + channels)
    layer = YodaConv2D(filters, size, **arguments)
    layer.build((None, 9, 9, channels))
    layer.kernel.assign(np.clip(rng.normal(size=layer.kernel.shape) + strength, -1, 1))
    # Small enough that not all outputs are at an end of their range.
    layer.scale.assign(rng.normal(size=filters) / (4 * size))
    if layer.bias is not None:
        layer.bias.assign(rng.normal(size=filters))
    return layer, (2 * rng.normal(size=(2, 9, 9, channels)) + strength).astype("float32")


def test_by_hand():
    """Three channels of 3 in a 7 by 7 window saturate: 49 * 3 = 147 > 128."""
    x = np.zeros((1, 7, 7, 3), int)
    x[..., 0], x[..., 1] = 3 * 512, -512
    w, alpha = np.ones((7, 7, 3, 1), int), [5]
    # 65535 after channel 0, less 49 * 512: 40447; 40447 * 5 + 512 * 7 = 205819 = 401 * 512 + 507.
    assert yodann.convolve(x, w, alpha, [7]).item() == 401
    nearest = yodann.data_path(rounding="nearest")
    assert yodann.convolve(x, w, alpha, [7], nearest).item() == 402
    # In the other order nothing saturates on the way: -49 + 147 = 98.
    swapped = x[..., ::-1]
    assert yodann.convolve(swapped, w, alpha, [7]).item() == (98 * 512 * 5 + 512 * 7) // 512
    # Down, not to zero; and ends of the range.
    one = np.ones((1, 1, 1, 1), int)
    assert yodann.convolve(one, one, [-1], [0]).item() == -1
    assert yodann.convolve(2047 * one, one, [2047], [0]).item() == 2047
    assert yodann.convolve(2047 * one, -one, [2047], [0]).item() == -2048


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("rounding", yodann.ROUNDINGS)
def test_integers_against_loops(size, rounding):
    rng = np.random.default_rng(size)
    x = rng.integers(-2048, 2048, (2, size + 1, size, 35)) + 700
    x = np.clip(x, -2048, 2047)
    w = np.where(rng.random((size, size, 35, 2)) < 0.7, 1, -1)
    scale, bias = rng.integers(-90, 90, 2), rng.integers(-2048, 2048, 2)
    path = yodann.data_path(rounding=rounding)
    np.testing.assert_array_equal(
        yodann.convolve(x, w, scale, bias, path), reference(x, w, scale, bias, rounding)
    )


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize(
    "channels, strength, arguments",
    [
        (35, 0.0, {"rounding": "nearest"}),
        (67, 0.2, {"padding": "same", "use_bias": False}),
    ],
)
def test_layer_is_the_chip_bit_for_bit(size, channels, strength, arguments):
    layer, x = make(size, channels, strength=strength, **arguments)
    expected = yodann.emulate(layer, x)
    assert len(np.unique(expected)) > 10 and np.abs(expected).max() <= 2048
    np.testing.assert_array_equal(numpy(layer(x)) * 512, expected)


def test_layer_against_loops_in_a_compiled_model():
    layer, x = make(3, 34, strength=0.6)
    model = keras.Sequential([keras.Input((9, 9, 34)), layer])
    integers = np.clip(np.rint(x * 512), -2048, 2047).astype(int)
    kernel = np.where(numpy(layer.kernel) >= 0, 1, -1)
    scale, bias = (
        np.clip(np.rint(numpy(v).astype("float64") * 512), -2048, 2047).astype(int)
        for v in (layer.scale, layer.bias)
    )
    expected = reference(integers, kernel, scale, bias)
    np.testing.assert_array_equal(model.predict(x, verbose=0) * 512, expected)


def test_other_formats():
    arguments = {
        "activation_format": (3, 4),
        "weight_format": "Q0.5",
        "sum_format": "Q5.4",
        "product_format": "Q6.9",
    }
    layer, x = make(2, 5, strength=0.5, **arguments)
    expected = yodann.emulate(layer, x)
    np.testing.assert_array_equal(numpy(layer(x)) * 16, expected)
    assert layer.get_config()["activation_format"] == "Q3.4"
    assert expected.max() <= 127 and expected.min() >= -128


def test_half_precision_does_not_change_the_sums():
    layer, x = make(3, 6, dtype="mixed_float16")
    outputs = layer(x.astype("float16"))
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    np.testing.assert_array_equal(numpy(outputs) * 512, yodann.emulate(layer, x.astype("float16")))


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="convolves channels first anywhere")
def test_channels_first():
    layer, x = make(3, 4)
    other = YodaConv2D(3, 3, data_format="channels_first")
    x_first = np.moveaxis(x, -1, 1)
    other.build(x_first.shape)
    other.set_weights(layer.get_weights())
    found = numpy(other(x_first))
    np.testing.assert_array_equal(np.moveaxis(found, 1, -1), numpy(layer(x)))
    np.testing.assert_array_equal(found * 512, yodann.emulate(other, x_first))


def test_keras_layer_exam():
    TestCase().run_layer_test(
        YodaConv2D,
        init_kwargs={"filters": 4, "kernel_size": 3, "padding": "same"},
        input_shape=(2, 6, 5, 3),
        expected_output_shape=(2, 6, 5, 4),
        expected_num_trainable_weights=3,
        expected_num_non_trainable_weights=0,
        supports_masking=False,
    )


def test_gradient_is_that_of_the_smooth_convolution():
    layer, x = make(3, 4, strength=0.0)
    x = (0.05 * x).astype("float32")
    found = gradient(layer, x)
    plain = keras.layers.Conv2D(3, 3)
    plain.build(x.shape)
    scale, bias = numpy(layer.quantized_scale), numpy(layer.quantized_bias)
    plain.set_weights([numpy(layer.quantized_kernel) * scale, bias])
    np.testing.assert_allclose(found, gradient(plain, x), rtol=1e-4, atol=1e-5)
    # All outputs saturate, and inputs beyond their range do not matter either.
    layer.scale.assign(np.full(3, 3.9))
    layer.bias.assign(np.full(3, 3.9))
    layer.kernel.assign(np.ones(layer.kernel.shape))
    assert not gradient(layer, np.abs(x) + 0.1).any()


def test_trains_kernel_scale_and_bias():
    layer = YodaConv2D(4, 3, activation="relu")
    model = keras.Sequential(
        [keras.Input((6, 6, 3)), layer, keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    eager = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.Adam(0.02), "mse", run_eagerly=eager)
    x = np.random.default_rng(0).normal(size=(32, 6, 6, 3)).astype("float32")
    y = np.stack([x.mean((1, 2, 3)), x[:, 2, 2, 0]], 1) * 4
    before = [w.copy() for w in layer.get_weights()]
    losses = model.fit(x, y, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < 0.8 * losses[0]
    assert all((a != b).any() for a, b in zip(before, layer.get_weights()))
    assert np.abs(numpy(layer.kernel)).max() <= 1


def test_swapped_in_and_summed_up():
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, padding="same", name="conv")]
    )
    new = tfcomp.swap_layers(model, {keras.layers.Conv2D: YodaConv2D})
    np.testing.assert_array_equal(
        numpy(new.get_layer("conv").kernel), numpy(model.get_layer("conv").kernel)
    )
    row = tfcomp.summary(new, print_table=False).layers[0]
    assert row.macs == {(1, 12): 64 * 9 * 3 * 4}


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"kernel_size": 8}, "kernel_size"),
        ({"kernel_size": (3, 5)}, "kernel_size"),
        ({"activation_format": "2.9"}, "activations"),
        ({"activation_format": (2,)}, "activations"),
        ({"activation_format": "Q9.9", "sum_format": "Q9.9"}, "activations"),
        ({"sum_format": "Q7.8"}, "sums"),
        ({"product_format": "Q10.17"}, "products"),
        ({"weight_format": "Q9.9", "sum_format": "Q9.9"}, "sums"),
        ({"rounding": "up"}, "rounding"),
        ({"dtype": "mixed_bfloat16"}, "dtype"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        YodaConv2D(**{"filters": 2, "kernel_size": 3, **arguments})


def test_bad_kernels_and_formats():
    one = np.ones((1, 8, 8, 1), int)
    for kernel in (np.ones((8, 8, 1, 1)), np.ones((1, 2, 1, 1)), np.zeros((1, 1, 1, 1))):
        with pytest.raises(ValueError, match="argument `kernel`"):
            yodann.convolve(one, kernel, [1], [0])
    assert formats.get((2, 9)) == formats.get("Q2.9") == (2, 9)
    assert str(formats.get("Q10.18")) == "Q10.18" and formats.get("Q10.18").bits == 29
