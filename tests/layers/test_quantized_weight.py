"""Reading the quantized weights of a layer from outside."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers

numpy = keras.ops.convert_to_numpy
SIGNS = tfcomp.quantizers.Binary(clip_value=None)


def built(layer, shape=(None, 6, 6, 2)):
    layer.build(shape)
    return layer


def latent(variable):
    return numpy(variable.value)


LAYERS = {
    "dense": (lambda: layers.BinaryDense(5), (None, 4)),
    "conv": (lambda: layers.BinaryConv2D(3, 3), (None, 6, 6, 2)),
    "depthwise": (lambda: layers.BinaryDepthwiseConv2D(3), (None, 6, 6, 2)),
    "transposed": (
        lambda: layers.QuantizedConv2DTranspose(3, 3, kernel_quantizer=SIGNS),
        (None, 6, 6, 2),
    ),
    "einsum": (
        lambda: layers.QuantizedEinsumDense("abc,cd->abd", (6, 3), kernel_quantizer=SIGNS),
        (None, 6, 2),
    ),
    "yoda": (lambda: layers.YodaConv2D(3, 3), (None, 6, 6, 2)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_binary_kernel_reads_as_signs(name):
    make, shape = LAYERS[name]
    layer = built(make(), shape)
    before = latent(layer.kernel)
    np.testing.assert_array_equal(numpy(layer.quantized_kernel), np.where(before < 0, -1, 1))
    np.testing.assert_array_equal(latent(layer.kernel), before)


def test_both_kernels_of_a_separable_convolution():
    layer = built(layers.BinarySeparableConv2D(4, 3))
    for name in ("depthwise_kernel", "pointwise_kernel"):
        found = numpy(getattr(layer, f"quantized_{name}"))
        np.testing.assert_array_equal(found, np.where(latent(getattr(layer, name)) < 0, -1, 1))


def test_ternary_scales_and_threshold_by_hand():
    layer = built(layers.TernaryDense(1, use_bias=False), (None, 4))
    layer.kernel.assign([[1.0], [-2.0], [0.1], [-0.1]])
    # The threshold is 0.7 of the mean magnitude 0.8; the scale the mean of 1 and 2.
    np.testing.assert_allclose(numpy(layer.quantized_kernel), [[1.5], [-1.5], [0], [0]])


def test_trained_scales_are_used():
    layer = built(layers.TrainedTernaryDense(1, use_bias=False), (None, 3))
    layer.kernel.assign([[0.5], [-0.4], [0.001]])
    scales = {weight.name: weight for weight in layer.weights}
    scales["positive"].assign(np.full(scales["positive"].shape, 3.0))
    scales["negative"].assign(np.full(scales["negative"].shape, 2.0))
    np.testing.assert_allclose(numpy(layer.quantized_kernel), [[3], [-2], [0]])


def test_factors_are_ternary():
    layer = built(layers.FactorizedDense(6, rank=3), (None, 4))
    for name in ("input_factor", "output_factor"):
        step = layer.quantizers[name].step
        expected = step * np.clip(np.rint(latent(getattr(layer, name)) / step), -1, 1)
        np.testing.assert_allclose(numpy(getattr(layer, f"quantized_{name}")), expected, rtol=1e-6)


def test_yoda_scale_and_bias_are_on_the_grid_of_the_chip():
    layer = built(layers.YodaConv2D(3, 3))
    layer.scale.assign([0.3, -1.7, 9.0])
    # Q2.9: steps of 1/512, up to 4 - 1/512.
    expected = [np.floor(0.3 * 512 + 0.5) / 512, np.floor(-1.7 * 512 + 0.5) / 512, 4 - 1 / 512]
    np.testing.assert_array_equal(numpy(layer.quantized_scale), np.float32(expected))
    np.testing.assert_array_equal(numpy(layer.quantized_bias), np.zeros(3))
    assert not numpy(built(layers.YodaConv2D(3, 3, use_bias=False)).quantized_bias).any()


def test_it_is_what_the_layer_multiplies_by():
    layer = layers.QuantizedDense(7, kernel_quantizer="dorefa", use_bias=False)
    outputs = numpy(layer(np.eye(4, dtype="float32")))
    np.testing.assert_array_equal(outputs, numpy(layer.quantized_kernel))


def test_lora_is_part_of_it():
    layer = built(layers.QuantizedDense(5, kernel_quantizer=SIGNS), (None, 4))
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(np.full(layer.lora_kernel_b.shape, 5.0))
    a, b = latent(layer.lora_kernel_a), latent(layer.lora_kernel_b)
    whole = latent(layer._kernel) + layer.lora_alpha / layer.lora_rank * a @ b
    np.testing.assert_array_equal(numpy(layer.quantized_kernel), np.where(whole < 0, -1, 1))


def test_random_quantizers_read_as_in_inference():
    binary = tfcomp.quantizers.Binary(stochastic=True)
    layer = built(layers.BinaryDense(50, kernel_quantizer=binary), (None, 50))
    signs = np.where(latent(layer.kernel) < 0, -1, 1)
    for _ in range(3):
        np.testing.assert_array_equal(numpy(layer.quantized_kernel), signs)


def test_without_a_quantizer_it_is_the_kernel():
    layer = built(layers.QuantizedConv2D(3, 3))
    np.testing.assert_array_equal(numpy(layer.quantized_kernel), latent(layer.kernel))


def test_what_a_callback_shows_is_quantized():
    """The variable holds what the model computes with; what is trained is hidden behind it."""
    ternary = tfcomp.quantizers.Ternary(scale=False, delta=0.05, clip_value=None)
    layer = layers.TernaryDense(6, kernel_quantizer=ternary, name="ternary")
    model = keras.Sequential([keras.Input((8,)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    surgery = tfcomp.callbacks.DynamicNetworkSurgery(0.5, gamma=0.1, targets="ternary")
    model.fit(np.ones((8, 8)), np.ones((8, 6)), epochs=3, verbose=0, callbacks=[surgery])
    shown = latent(layer.kernel)
    assert 0.1 < np.mean(shown == 0) < 0.9
    expected = np.where(np.abs(shown) > 0.05, np.sign(shown), 0)
    np.testing.assert_array_equal(numpy(layer.quantized_kernel), expected)


def test_half_precision_reads_in_the_precision_of_the_variable():
    layer = built(layers.BinaryDense(5, dtype="mixed_float16"), (None, 4))
    layer.kernel.assign(np.full((4, 5), -1e-30))
    found = layer.quantized_kernel
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_array_equal(numpy(found), np.full((4, 5), -1.0))


def test_before_it_is_built():
    # PyTorch's modules have a message of their own.
    with pytest.raises(AttributeError, match=r"Build the layer before you read its|no attribute"):
        layers.BinaryDense(5).quantized_kernel  # noqa: B018
