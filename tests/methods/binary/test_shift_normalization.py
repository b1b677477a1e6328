"""Shift-based batch normalization: algorithm 3 of the paper, in numpy."""

import keras
import numpy as np
import pytest
from gradients import gradient
from keras.src.testing import TestCase

from tfcomp.layers import ShiftBatchNormalization
from tfcomp.methods.binary.ap2 import ap2

RNG = np.random.default_rng(0)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def nearest(x):
    x = np.asarray(x, np.float64)
    with np.errstate(divide="ignore"):
        return np.sign(x) * 2.0 ** np.round(np.log2(np.abs(x)))


def normalized(x, mean, variance, gamma, beta, epsilon):
    return (x - mean) * nearest(1 / np.sqrt(variance + epsilon)) * nearest(gamma) + beta


def statistics(x, axes):
    mean = x.mean(axes)
    centred = x - mean
    return mean, (centred * nearest(centred)).mean(axes)


def test_ap2():
    x = np.array([1.0, 1.4, 1.5, 3.0, -0.7, -0.72, 0.0, 1e-20, 6e30], "float32")
    expected = [1.0, 1.0, 2.0, 4.0, -0.5, -1.0, 0.0, 2.0**-66, 2.0**102]
    assert numpy(ap2(keras.ops.convert_to_tensor(x))).tolist() == expected
    wide = (RNG.normal(size=2000) * 10.0 ** RNG.uniform(-30, 30, 2000)).astype("float32")
    np.testing.assert_array_equal(numpy(ap2(keras.ops.convert_to_tensor(wide))), nearest(wide))
    np.testing.assert_array_equal(gradient(ap2, x), np.ones_like(x))
    nothing = np.float32([np.nan, np.inf, -np.inf])
    np.testing.assert_array_equal(numpy(ap2(keras.ops.convert_to_tensor(nothing))), nothing)


@pytest.mark.parametrize(("shape", "axis"), [((6, 3), -1), ((2, 4, 4, 3), -1), ((2, 3, 4, 4), 1)])
def test_training_and_inference(shape, axis):
    layer = ShiftBatchNormalization(axis=axis, momentum=0.75, epsilon=1e-2)
    layer.build(shape)
    gamma, beta = RNG.uniform(0.3, 3, 3), RNG.normal(size=3)
    layer.gamma.assign(gamma), layer.beta.assign(beta)
    x = (3 * RNG.normal(size=shape) + 1).astype("float32")
    last = np.moveaxis(x, axis, -1)
    mean, variance = statistics(last.astype(np.float64), tuple(range(len(shape) - 1)))
    outputs = np.moveaxis(numpy(layer(x, training=True)), axis, -1)
    expected = normalized(last, mean, variance, gamma, beta, 1e-2)
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)

    moving = 0.25 * mean, 0.75 + 0.25 * variance
    np.testing.assert_allclose(numpy(layer.moving_mean), moving[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(numpy(layer.moving_variance), moving[1], rtol=1e-4)
    outputs = np.moveaxis(numpy(layer(x)), axis, -1)
    np.testing.assert_allclose(
        outputs, normalized(last, *moving, gamma, beta, 1e-2), rtol=1e-4, atol=1e-5
    )
    layer.trainable = False
    np.testing.assert_array_equal(np.moveaxis(numpy(layer(x, training=True)), axis, -1), outputs)


def test_every_factor_is_a_power_of_two():
    layer = ShiftBatchNormalization(center=False, gamma_initializer="random_normal")
    x = RNG.normal(size=(8, 5)).astype("float32")
    outputs = numpy(layer(x, training=True))
    factors = outputs[0] / (x - x.mean(0))[0]
    np.testing.assert_allclose(factors, nearest(factors), rtol=1e-4)


def test_gradient():
    layer = ShiftBatchNormalization(center=False, scale=False, epsilon=0.0)
    x = np.array([[1.0], [-1.0], [3.0], [-3.0]], "float32")
    upstream = np.array([[1.0], [2.0], [0.5], [-1.0]], "float32")
    found = gradient(lambda x: layer(x, training=True) * keras.ops.convert_to_tensor(upstream), x)
    # y = C s with s = AP2(1 / sqrt(v)), v = mean(C AP2(C)) = 6.5, C = x and AP2(3) = 4.
    c, g, s, v = x[:, 0], upstream[:, 0], 0.5, 6.5
    power = np.array([1.0, -1.0, 4.0, -4.0])
    through = g * s + np.sum(g * c) * -0.5 * v**-1.5 * (c + power) / 4
    np.testing.assert_allclose(found[:, 0], through - through.mean(), rtol=1e-5, atol=1e-6)


def test_masked_steps_do_not_count():
    layer = ShiftBatchNormalization(epsilon=0.0, momentum=0.0)
    x = RNG.normal(size=(2, 4, 3)).astype("float32")
    mask = np.array([[1, 1, 1, 0], [1, 0, 0, 0]], bool)
    layer(x, training=True, mask=keras.ops.convert_to_tensor(mask))
    mean, variance = statistics(x[mask].astype(np.float64), 0)
    np.testing.assert_allclose(numpy(layer.moving_mean), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(numpy(layer.moving_variance), variance, rtol=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"center": False, "scale": False, "epsilon": 0.1}])
def test_keras_layer_exam(arguments):
    TestCase().run_layer_test(
        ShiftBatchNormalization,
        init_kwargs=arguments,
        input_shape=(4, 3, 5),
        expected_output_shape=(4, 3, 5),
        expected_num_trainable_weights=0 if arguments else 2,
        expected_num_non_trainable_weights=2,
        supports_masking=True,
    )


def test_half_precision_keeps_statistics_in_full():
    layer = ShiftBatchNormalization(dtype="mixed_float16")
    x = np.full((4, 2), 300.0, "float16") * np.array([[1], [-1], [1], [-1]], "float16")
    outputs = numpy(layer(x, training=True))
    assert outputs.dtype == np.float16 and np.all(np.isfinite(outputs))
    assert layer.moving_variance.dtype == "float32"


def test_bad_arguments():
    for name in ("renorm", "synchronized"):
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            ShiftBatchNormalization(**{name: True})
