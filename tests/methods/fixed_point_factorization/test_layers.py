"""Factorized layers: their product, their training, what they cost and what a file holds."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

import tfcomp
from tfcomp import layers, storage
from tfcomp.model.final_weights import FinalWeights

IMAGE, SEQUENCE, VOLUME, ROWS = (2, 8, 7, 3), (2, 9, 3), (2, 5, 6, 5, 2), (2, 4, 6)

CASES = [
    (layers.FactorizedDense, {"units": 5, "rank": 4}, ROWS),
    (layers.FactorizedConv1D, {"filters": 4, "kernel_size": 3, "rank": 5}, SEQUENCE),
    (
        layers.FactorizedConv1D,
        {"filters": 4, "kernel_size": 3, "rank": 5, "padding": "causal", "dilation_rate": 2},
        SEQUENCE,
    ),
    (
        layers.FactorizedConv2D,
        {"filters": 4, "kernel_size": (3, 2), "rank": 12, "strides": 2, "padding": "same"},
        IMAGE,
    ),
    (
        layers.FactorizedConv2D,
        {"filters": 4, "kernel_size": 3, "rank": 2, "activation": "relu", "use_bias": False},
        IMAGE,
    ),
    (layers.FactorizedConv3D, {"filters": 4, "kernel_size": 2, "rank": 5}, VOLUME),
]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def batch(shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


@pytest.mark.parametrize(("cls", "arguments", "shape"), CASES)
def test_keras_layer_exam(cls, arguments, shape):
    layer = cls(**arguments)
    TestCase().run_layer_test(
        cls,
        init_kwargs=arguments,
        input_shape=shape,
        expected_output_shape=layer.compute_output_shape(shape),
        expected_num_trainable_weights=3 + layer.use_bias,
        expected_num_non_trainable_weights=0,
        supports_masking=False,
    )


@pytest.mark.parametrize(("cls", "arguments", "shape"), CASES)
def test_is_the_keras_layer_with_the_product_as_kernel(cls, arguments, shape):
    layer = cls(**arguments)
    layer.build(shape)
    if layer.use_bias:
        layer.bias.assign(np.arange(layer.bias.shape[0]) / 7)
    found = numpy(layer(batch(shape)))
    x, y = (numpy(v) for v in (layer.input_factor, layer.output_factor))
    steps = [0.6 * np.sqrt(2 / sum(matrix.shape)) for matrix in (x.reshape(-1, x.shape[-1]), y)]
    x, y = (step * np.sign(v) * (np.abs(v) > step / 2) for v, step in zip((x, y), steps))
    kernel = (x * numpy(layer.scale)) @ y
    np.testing.assert_allclose(numpy(layer.kernel), kernel, rtol=1e-4, atol=1e-6)

    plain = getattr(keras.layers, cls.__name__.removeprefix("Factorized"))
    plain = plain(**{name: v for name, v in arguments.items() if name != "rank"})
    plain.build(shape)
    plain.set_weights([kernel, *([numpy(layer.bias)] if layer.use_bias else [])])
    np.testing.assert_allclose(found, numpy(plain(batch(shape))), rtol=1e-4, atol=1e-5)


def test_new_kernels_have_the_variance_of_glorot():
    layer = layers.FactorizedDense(200, rank=150)
    layer.build((None, 300))
    assert numpy(layer.kernel).std() == pytest.approx(np.sqrt(2 / 500), rel=0.1)


def test_trains_both_factors_alike():
    """Balanced: training moves them by a like part of a rounding step."""
    layer = layers.FactorizedDense(8, rank=40, kernel_regularizer="l2")
    model = keras.Sequential([keras.Input((16,)), layer])
    model.compile("sgd", "mse", run_eagerly=keras.backend.backend() != "jax")
    before = [numpy(v).copy() for v, _ in layer.weight_quantizers]
    x = batch((64, 16))
    losses = model.fit(x, x @ batch((16, 8)), epochs=15, verbose=0).history["loss"]
    assert losses[-1] < 0.9 * losses[0]
    moved = []
    for (variable, quantizer), old in zip(layer.weight_quantizers, before):
        moved.append(np.abs(numpy(variable) - old).mean() / quantizer.step)
        assert np.abs(numpy(variable)).max() <= 1.5 * quantizer.step * 1.0001
    assert 1 / 3 < moved[0] / moved[1] < 3


def test_coded_as_ternary_and_costs():
    model = keras.Sequential([keras.Input((8, 8, 16)), layers.FactorizedConv2D(32, 3, rank=64)])
    layer = model.layers[0]
    final = FinalWeights(model)
    for factor in (layer.input_factor, layer.output_factor):
        value = final.value(factor)
        assert len(np.unique(value)) == 3
        # Three equally likely values take log2(3) = 1.58 bits.
        assert storage.describe(value).coded_bytes < value.size * 2 / 8 + 64
    assert len(np.unique(numpy(layer.input_factor))) > 1000
    row = tfcomp.summary(model, print_table=False).layers[0]
    # 6 by 6 positions; the scale multiplies, the factors add.
    assert row.macs == {(2, 32): 36 * 64 * (144 + 32), (32, 32): 36 * 64}
    dense = keras.Sequential([keras.Input((7, 6)), layers.FactorizedDense(5, rank=9)])
    row = tfcomp.summary(dense, print_table=False).layers[0]
    assert row.macs == {(2, 32): 7 * 9 * (6 + 5), (32, 32): 7 * 9}


@pytest.mark.parametrize(
    ("cls", "arguments", "name"),
    [
        (layers.FactorizedDense, {"units": 4, "rank": 0}, "rank"),
        (layers.FactorizedDense, {"units": 4, "rank": 2.5}, "rank"),
        (layers.FactorizedDense, {"units": 0, "rank": 2}, "units"),
        (layers.FactorizedDense, {"units": 4, "rank": 2, "balance": 0}, "balance"),
        (layers.FactorizedConv2D, {"filters": 4, "kernel_size": 3, "rank": -1}, "rank"),
    ],
)
def test_bad_arguments(cls, arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        cls(**arguments)
