"""DoReFa layers: every combination of the paper's bits trains on the levels that they name."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import layers, summary
from tfcomp.quantizers import DoReFa

RNG = np.random.default_rng(0)

# W, A, G of the paper's tables for SVHN and ImageNet, one-bit weights to float.
WEIGHTS, ACTIVATIONS, GRADIENTS = (1, 2, 4, 8, 32), (1, 2, 3, 4, 8, 32), (2, 3, 4, 6, 8, 32)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def grid(r, bits):
    return np.round((2**bits - 1) * r) / (2**bits - 1)


def weights(w, bits):
    if bits == 1:
        return np.abs(w).mean() * np.where(w >= 0, 1, -1)
    if bits == 32:
        return w
    squashed = np.tanh(w.astype(np.float64))
    return 2 * grid(squashed / (2 * np.abs(squashed).max()) + 0.5, bits) - 1


def activations(x, bits):
    return x if bits == 32 else grid(np.clip(x, 0, 1), bits)


def gradient_steps(g, largest, bits):
    """Gradients in steps of their grid, `2 m / (2**bits - 1)` with m of the sample."""
    return (g / (2 * largest) + 0.5) * (2**bits - 1)


@pytest.mark.parametrize("weight_bits", WEIGHTS)
def test_every_combination(weight_bits):
    x = RNG.uniform(0, 1, size=(3, 4)).astype("float32")
    upstream = RNG.normal(size=(3, 5)).astype("float32")
    for activation_bits in ACTIVATIONS:
        for gradient_bits in GRADIENTS:
            layer = layers.DoReFaDense(
                5,
                weight_bits=weight_bits,
                activation_bits=activation_bits,
                gradient_bits=gradient_bits,
                use_bias=False,
                seed=1,
            )
            outputs = numpy(layer(x))
            kernel = weights(numpy(layer.kernel), weight_bits)
            quantized = activations(x, activation_bits)
            np.testing.assert_allclose(outputs, quantized @ kernel, rtol=1e-4, atol=1e-5)

            def weighed(x, layer=layer):
                return layer(x, training=True) * keras.ops.convert_to_tensor(upstream)

            found = gradient(weighed, x, compiled=False)
            # Off by a step, the noise included, in each of five products.
            steps = 2 * np.abs(upstream).max() / (2.0**gradient_bits - 1)
            limit = np.abs(kernel).sum(axis=1) * steps
            assert np.all(np.abs(found - upstream @ kernel.T) <= limit + 1e-5)


@pytest.mark.parametrize("gradient_bits", GRADIENTS[:-1])
def test_gradients_of_weights_are_made_of_few_levels(gradient_bits):
    layer = layers.DoReFaConv2D(
        2, 1, weight_bits=32, activation_bits=32, gradient_bits=gradient_bits, use_bias=False
    )
    model = keras.Sequential([keras.Input((3, 3, 1)), layer])
    before = numpy(layer.kernel)
    upstream = RNG.normal(size=(1, 3, 3, 2)).astype("float32")
    model.compile(keras.optimizers.SGD(1.0), lambda y, p: keras.ops.sum(p * y, axis=(1, 2, 3)))
    # One pixel is on, so that the gradient of each weight is the one that reached its output there.
    x = np.zeros((1, 3, 3, 1), "float32")
    x[0, 1, 2] = 1
    model.fit(x, upstream, verbose=0)
    moved = (before - numpy(layer.kernel)).ravel()
    largest = np.abs(upstream).max()
    steps = gradient_steps(moved, largest, gradient_bits)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    assert np.all(np.round(steps) >= 0) and np.all(np.round(steps) <= 2**gradient_bits - 1)
    exact = gradient_steps(upstream[0, 1, 2], largest, gradient_bits)
    assert np.all(np.abs(steps - exact) < 1.001)


def test_an_activation_comes_after_the_gradients_are_quantized():
    def layer(bits):
        return layers.DoReFaDense(3, gradient_bits=bits, activation="tanh", seed=0)

    x = RNG.uniform(0, 1, size=(2, 4)).astype("float32")
    plain, quantized = layer(32), layer(8)
    plain.build(x.shape), quantized.build(x.shape)
    quantized.set_weights(plain.get_weights())
    outputs = numpy(quantized(x, training=True))
    np.testing.assert_allclose(outputs, numpy(plain(x)), rtol=1e-6)
    assert np.any(outputs != numpy(plain.kernel_quantizer(x @ np.ones((4, 3)))))
    # The grid of eight bits is fine, so that the derivative of tanh shows.
    exact = gradient(plain, x)
    found = gradient(lambda x: quantized(x, training=True), x, compiled=False)
    np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.02)


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        (layers.DoReFaConv1D, (6, 2)),
        (layers.DoReFaConv2D, (5, 5, 2)),
        (layers.DoReFaConv3D, (4, 4, 4, 2)),
    ],
)
def test_networks_train_and_are_summed_up(cls, shape):
    layer = cls(3, 2, weight_bits=1, activation_bits=2, gradient_bits=6, name="dorefa")
    model = keras.Sequential([keras.Input(shape), layer, keras.layers.Flatten()])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = numpy(layer.kernel)
    targets = np.ones((4, model.output_shape[-1]))
    model.fit(RNG.uniform(0, 1, size=(4, *shape)), targets, verbose=0)
    assert np.any(before != numpy(layer.kernel))
    (row,) = [row for row in summary(model, print_table=False).layers if row.name == "dorefa"]
    assert row.distinct == 2 and set(row.macs) == {(1, 2)}


def test_config_and_bad_bits():
    layer = layers.DoReFaConv2D(2, 3, weight_bits=4, activation_bits=32, gradient_bits=6, seed=7)
    again = layers.DoReFaConv2D.from_config(layer.get_config())
    assert (again.weight_bits, again.activation_bits, again.gradient_bits) == (4, 32, 6)
    assert again.seed == 7 and again.input_quantizer is None
    assert isinstance(again.kernel_quantizer, DoReFa) and again.kernel_quantizer.bits == 4
    for name in ("weight_bits", "activation_bits", "gradient_bits"):
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            layers.DoReFaDense(2, **{name: 16})
