"""HORQ: residuals of every patch column in numpy, position by position."""

import keras
import numpy as np
import pytest
from gradients import gradient
from patches import patches

from tfcomp import layers
from tfcomp.quantizers import ResidualBinary

RNG = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def sign(x):
    return np.where(x >= 0, 1.0, -1.0)


def residual(column, order):
    """β1 H1 + β2 H2 + ... of one vector."""
    rest, total = column.astype(np.float64), 0
    for _ in range(order):
        step = np.abs(rest).mean() * sign(rest)
        total, rest = total + step, rest - step
    return total


def horq(x, kernel, bias, order, weight_order=1, groups=1, **geometry):
    *sizes, inside, filters = kernel.shape
    columns = patches(x, sizes, **geometry)
    outputs = np.zeros((*columns.shape[:-2], filters))
    for f in range(filters):
        g = f // (filters // groups)
        w = residual(kernel[..., f].ravel(), weight_order)
        for place in np.ndindex(outputs.shape[:-1]):
            column = columns[place][:, g * inside : (g + 1) * inside].ravel()
            outputs[(*place, f)] = residual(column, order) @ w
    return outputs + bias


CASES = {
    "plain": (layers.HORQConv2D, (2, 5, 4, 3), {"kernel_size": (3, 2)}, {}),
    "strided": (
        layers.HORQConv2D,
        (2, 6, 5, 3),
        {"kernel_size": 3},
        {"padding": "same", "strides": 2},
    ),
    "dilated": (layers.HORQConv2D, (1, 7, 6, 2), {"kernel_size": 3}, {"dilation": 2}),
    "grouped": (
        layers.HORQConv2D,
        (2, 4, 4, 4),
        {"kernel_size": 3, "groups": 2},
        {"padding": "same"},
    ),
    "causal": (layers.HORQConv1D, (2, 6, 3), {"kernel_size": 3}, {"padding": "causal"}),
    "volume": (layers.HORQConv3D, (1, 3, 4, 3, 2), {"kernel_size": 2}, {"padding": "same"}),
}


@pytest.mark.parametrize(("order", "weight_order"), [(1, 1), (2, 1), (3, 2)])
@pytest.mark.parametrize("name", CASES)
def test_convolutions_equal_patch_columns(name, order, weight_order):
    cls, shape, arguments, geometry = CASES[name]
    renamed = {("dilation_rate" if k == "dilation" else k): v for k, v in geometry.items()}
    layer = cls(
        4,
        order=order,
        weight_order=weight_order,
        bias_initializer="random_normal",
        **arguments,
        **renamed,
    )
    x = RNG.normal(size=shape).astype("float32")
    outputs = numpy(layer(x))
    assert outputs.shape == layer.compute_output_shape(shape)
    kernel, bias = map(numpy, layer.weights)
    expected = horq(x, kernel, bias, order, weight_order, arguments.get("groups", 1), **geometry)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="channels last only, on CPU")
def test_channels_first():
    layer = layers.HORQConv2D(4, 3, padding="same", strides=2, data_format="channels_first")
    x = RNG.normal(size=(2, 6, 5, 3)).astype("float32")
    outputs = numpy(layer(np.moveaxis(x, -1, 1)))
    expected = horq(x, *map(numpy, layer.weights), order=2, padding="same", strides=2)
    np.testing.assert_allclose(np.moveaxis(outputs, 1, -1), expected, rtol=1e-4, atol=1e-5)


def test_first_order_is_xnor_net():
    arguments = {"kernel_size": 3, "padding": "same", "strides": 2}
    first = layers.HORQConv2D(4, order=1, **arguments)
    xnor = layers.BinaryConv2D(4, scale=True, input_scale=True, **arguments)
    x = RNG.normal(size=(2, 6, 6, 3)).astype("float32")
    first.build(x.shape), xnor.build(x.shape)
    xnor.set_weights(first.get_weights())
    np.testing.assert_allclose(numpy(first(x)), numpy(xnor(x)), rtol=1e-4, atol=1e-5)


def test_dense_by_hand():
    layer = layers.HORQDense(1, use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign([[0.5], [-0.25]])
    # Two signs tell two numbers apart: (1, -3) is (2, -2) and then (-1, -1).
    x = np.array([[1.0, -3.0]], "float32")
    np.testing.assert_allclose(numpy(layer(x)), [[0.375 * 4]], rtol=1e-6)
    # β1 1(|x| <= 1) + β2 1(1 <= 1) + 1/2, times α sign(w).
    np.testing.assert_allclose(gradient(layer, x), [[0.375 * 3.5, -0.375 * 1.5]], rtol=1e-6)


def test_a_sequence_has_scales_for_each_step():
    layer = layers.HORQDense(3, order=2)
    x = RNG.normal(size=(2, 4, 5)).astype("float32")
    whole = numpy(layer(x))
    rows = numpy(layer(x.reshape(8, 5))).reshape(2, 4, 3)
    np.testing.assert_allclose(whole, rows, rtol=1e-6)


def test_each_order_comes_closer():
    x = RNG.normal(size=(2, 6, 6, 4)).astype("float32")
    real = layers.HORQConv2D(5, 3, padding="same", input_quantizer=None)
    target = numpy(real(x))
    errors = []
    for order in (1, 2, 4):
        layer = layers.HORQConv2D(5, 3, padding="same", order=order)
        layer.build(x.shape)
        layer.set_weights(real.get_weights())
        errors.append(np.square(numpy(layer(x)) - target).mean())
    assert errors[0] > errors[1] > errors[2]


def test_gradients_reach_inputs_and_latent_weights():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.HORQConv2D(3, 3), keras.layers.Flatten()]
    )
    model.add(layers.HORQDense(2, weight_order=2))
    model.compile(keras.optimizers.SGD(0.01), "mse")
    before = model.get_weights()
    model.fit(RNG.normal(size=(8, 6, 6, 2)), np.ones((8, 2)), verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))


@pytest.mark.tensorflow
def test_sizes_that_are_not_known_before_the_call():
    import tensorflow as tf

    layer = layers.HORQConv2D(2, 3, strides=2, padding="same")
    layer.build((None, None, None, 3))
    run = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    for size in ((7, 8), (4, 5)):
        x = RNG.normal(size=(2, *size, 3)).astype("float32")
        expected = horq(x, *map(numpy, layer.weights), order=2, padding="same", strides=2)
        np.testing.assert_allclose(run(x).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_config_round_trip():
    layer = layers.HORQConv2D(2, 3, order=3, weight_order=2)
    again = layers.HORQConv2D.from_config(layer.get_config())
    assert again.input_quantizer.order == 3 and again.kernel_quantizer.order == 2
    first = layers.HORQDense.from_config(layers.HORQDense(2, input_quantizer=None).get_config())
    assert first.input_quantizer is None
    assert layers.HORQDense(2, input_quantizer=ResidualBinary(4)).input_quantizer.order == 4
    with pytest.raises(ValueError, match="argument `order`"):
        layers.HORQConv2D(2, 3, order=0)
