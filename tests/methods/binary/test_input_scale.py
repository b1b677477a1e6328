"""XNOR-Net's scales of inputs: K position by position in numpy, gradients by hand."""

import keras
import numpy as np
import pytest
from gradients import gradient
from patches import patches

from tfcomp import layers
from tfcomp.quantizers import Binary

RNG = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def xnor(x, kernel, bias, groups=1, **geometry):
    """(sign(I) * sign(W)) ⊙ K α + b, from patches."""
    *sizes, inside, filters = kernel.shape
    signs = patches(sign(x), sizes, fill=1.0, **geometry)
    magnitudes = patches(np.abs(x), sizes, **geometry)
    outputs = np.zeros((*signs.shape[:-2], filters))
    for f in range(filters):
        g = f // (filters // groups)
        mine = slice(g * inside, (g + 1) * inside)
        w = kernel[..., f].reshape(-1, inside)
        K = magnitudes[..., mine].mean(axis=(-2, -1))
        product = np.sum(signs[..., mine] * sign(w), axis=(-2, -1))
        outputs[..., f] = product * K * np.abs(w).mean()
    return outputs + bias


CONVOLUTIONS = {
    "plain": (layers.BinaryConv2D, (2, 6, 5, 3), {"kernel_size": (3, 2)}, {}),
    "same": (layers.BinaryConv2D, (2, 6, 5, 3), {"kernel_size": 3}, {"padding": "same"}),
    "strided": (
        layers.BinaryConv2D,
        (2, 7, 6, 3),
        {"kernel_size": (3, 2)},
        {"padding": "same", "strides": 2},
    ),
    "dilated": (
        layers.BinaryConv2D,
        (2, 7, 7, 3),
        {"kernel_size": 3},
        {"padding": "same", "dilation": 2},
    ),
    "grouped": (
        layers.BinaryConv2D,
        (2, 5, 5, 4),
        {"kernel_size": 3, "groups": 2},
        {"padding": "same"},
    ),
    "causal": (layers.BinaryConv1D, (2, 7, 3), {"kernel_size": 3}, {"padding": "causal"}),
    "volume": (
        layers.BinaryConv3D,
        (1, 4, 3, 4, 2),
        {"kernel_size": 2},
        {"padding": "same", "strides": 2},
    ),
}


def make(cls, arguments, geometry, **more):
    geometry = {("dilation_rate" if k == "dilation" else k): v for k, v in geometry.items()}
    return cls(
        4,
        scale=True,
        input_scale=True,
        bias_initializer="random_normal",
        **arguments,
        **geometry,
        **more,
    )


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions(name):
    cls, shape, arguments, geometry = CONVOLUTIONS[name]
    layer = make(cls, arguments, geometry)
    x = RNG.normal(size=shape).astype("float32")
    outputs = numpy(layer(x))
    kernel, bias = map(numpy, layer.weights)
    expected = xnor(x, kernel, bias, arguments.get("groups", 1), **geometry)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    activated = make(cls, arguments, geometry, activation="relu")
    activated.build(shape)
    activated.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(activated(x)), np.maximum(expected, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="channels last only, on CPU")
def test_channels_first():
    cls, shape, arguments, geometry = CONVOLUTIONS["strided"]
    layer = make(cls, arguments, geometry, data_format="channels_first")
    x = RNG.normal(size=shape).astype("float32")
    outputs = numpy(layer(np.moveaxis(x, -1, 1)))
    expected = xnor(x, *map(numpy, layer.weights), **geometry)
    np.testing.assert_allclose(np.moveaxis(outputs, 1, -1), expected, rtol=1e-4, atol=1e-5)


def test_a_depthwise_filter_has_the_scale_of_its_channel():
    layer = layers.BinaryDepthwiseConv2D(
        3, depth_multiplier=2, padding="same", scale=True, input_scale=True
    )
    x = RNG.normal(size=(2, 5, 5, 3)).astype("float32")
    outputs = numpy(layer(x))
    kernel, bias = map(numpy, layer.weights)
    one_by_one = [
        xnor(x[..., c : c + 1], kernel[:, :, c : c + 1], bias[2 * c : 2 * c + 2], padding="same")
        for c in range(3)
    ]
    np.testing.assert_allclose(outputs, np.concatenate(one_by_one, -1), rtol=1e-4, atol=1e-5)


def test_dense_by_hand():
    layer = layers.BinaryDense(1, input_scale=True, scale=True, use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign([[0.5], [-0.25]])
    # mean |w| = 3/8; rows have mean |x| = 1 and 2; signs agree with those of w twice, and never.
    x = np.array([[0.5, -1.5], [-3.0, 1.0]], "float32")
    np.testing.assert_allclose(numpy(layer(x)), [[0.75], [-1.5]], rtol=1e-6)
    # Through the signs β α sign(w) where |x| <= 1, through β sign(x) / 2 times the product 2 α.
    expected = [[0.375 + 0.375, -0.375], [0.375, -0.75 - 0.375]]
    np.testing.assert_allclose(gradient(layer, x), expected, rtol=1e-5)


def test_gradient_flows_through_the_map():
    layer = make(layers.BinaryConv2D, {"kernel_size": 3}, {"padding": "same", "strides": 2})
    layer.build((1, 5, 5, 2))
    # Beyond 1 the signs have no gradient, so what is left is that of K, whose function is smooth.
    x = RNG.uniform(1.5, 3, size=(1, 5, 5, 2)) * RNG.choice([-1, 1], size=(1, 5, 5, 2))
    found = gradient(layer, x.astype("float32"))
    kernel, bias = map(numpy, layer.weights)

    def total(x):
        return xnor(x, kernel, bias, padding="same", strides=2).sum()

    for index in [(0, 0, 0, 0), (0, 2, 3, 1), (0, 4, 4, 0)]:
        up, down = x.copy(), x.copy()
        up[index] += 1e-4
        down[index] -= 1e-4
        assert found[index] == pytest.approx((total(up) - total(down)) / 2e-4, rel=1e-2, abs=1e-4)


def test_a_pointwise_convolution_is_a_dense_layer():
    dense = layers.BinaryDense(4, input_scale=True, scale=True)
    conv = layers.BinaryConv2D(4, 1, input_scale=True, scale=True)
    x = RNG.normal(size=(2, 3, 3, 5)).astype("float32")
    dense.build(x.shape), conv.build(x.shape)
    conv.set_weights([dense.get_weights()[0][None, None], dense.get_weights()[1]])
    np.testing.assert_allclose(numpy(conv(x)), numpy(dense(x)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient(conv, x), gradient(dense, x), rtol=1e-4, atol=1e-5)


def test_config_and_bad_arguments():
    layer = layers.BinaryConv2D(2, 3, input_scale=True)
    assert layers.BinaryConv2D.from_config(layer.get_config()).input_scale
    assert not layers.BinaryDense(2).input_scale
    for make in (
        lambda: layers.BinarySeparableConv2D(2, 3, input_scale=True),
        lambda: layers.BinaryDense(2, input_quantizer=None, input_scale=True),
        lambda: layers.BinaryConv1D(2, 3, input_quantizer=Binary(scale=True), input_scale=True),
    ):
        with pytest.raises(ValueError, match="argument `input_scale`"):
            make()


def test_binary_weight_networks():
    layer = layers.BinaryDense(3, scale=True, input_quantizer=None, use_bias=False)
    x = RNG.normal(size=(2, 4)).astype("float32")
    outputs, kernel = numpy(layer(x)), numpy(layer.weights[0])
    np.testing.assert_allclose(outputs, x @ sign(kernel) * np.abs(kernel).mean(0), rtol=1e-5)


def test_xnor_block():
    block = layers.XNORBlock(4, 3, pool_size=2, epsilon=0.0)
    x = RNG.normal(size=(2, 6, 6, 3)).astype("float32")
    outputs = numpy(block(x, training=True))
    named = {"/".join(w.path.split("/")[-2:]): numpy(w) for w in block.weights}
    normal = (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))
    product = xnor(normal, named["conv/kernel"], named["conv/bias"], padding="same")
    expected = product.reshape(2, 3, 2, 3, 2, 4).max(axis=(2, 4))
    np.testing.assert_allclose(outputs, expected, rtol=1e-3, atol=1e-4)
    again = layers.XNORBlock.from_config(layers.XNORBlock(4, 3, pool_size=2).get_config())
    assert again.pool_size == 2 and again.input_scale and again.scale
    for arguments, name in (({"pool_strides": 2}, "pool_strides"), ({"filters": 0}, "filters")):
        with pytest.raises(ValueError, match=name):
            layers.XNORBlock(**{"filters": 2, "kernel_size": 3, **arguments})
