"""Stochastic signs: how often, when, and from which state."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import layers
from tfcomp.quantizers import Binary


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_probabilities():
    x = np.repeat(np.array([[-1.5, -1.0, -0.5, 0.0, 0.6, 1.0, 2.0]], "float32"), 20_000, axis=0)
    drawn = numpy(Binary(stochastic=True)(x, keras.random.SeedGenerator(0)))
    assert set(np.unique(drawn)) == {-1.0, 1.0}
    # Within four standard deviations of clip((x + 1) / 2, 0, 1).
    expected = np.array([0, 0, 0.25, 0.5, 0.8, 1, 1])
    spread = 4 * np.sqrt(expected * (1 - expected) / len(x))
    assert np.all(np.abs(np.mean(drawn > 0, axis=0) - expected) <= spread)


@pytest.mark.parametrize("scale", [False, True])
def test_values_and_gradient_are_those_of_the_sign_but_for_the_sign(scale):
    x = np.array([-2.0, -0.5, 0.0, 0.5, 2.0], "float32")
    quantizer, plain = Binary(scale=scale, stochastic=True), Binary(scale=scale)
    generator = keras.random.SeedGenerator(0)
    np.testing.assert_allclose(
        np.abs(numpy(quantizer(x, generator))), np.abs(numpy(plain(x))), rtol=1e-6
    )
    found = gradient(lambda x: quantizer(x, keras.random.SeedGenerator(0)), x)
    np.testing.assert_allclose(found, gradient(plain, x), rtol=1e-6)
    np.testing.assert_array_equal(numpy(quantizer(x)), numpy(plain(x)))


@pytest.mark.parametrize("where", ["input_quantizer", "kernel_quantizer"])
def test_layers_draw_in_training_only(where):
    def make():
        layer = layers.BinaryDense(64, use_bias=False, **{where: Binary(stochastic=True, seed=5)})
        layer.build((None, 64))
        layer.kernel.assign(np.linspace(-0.9, 0.9, 64 * 64).reshape(64, 64))
        return layer

    x = np.random.default_rng(0).uniform(-1, 1, size=(2, 64)).astype("float32")
    layer = make()
    drawn = [numpy(layer(x, training=True)) for _ in range(2)]
    assert np.any(drawn[0] != drawn[1])
    np.testing.assert_array_equal(numpy(make()(x, training=True)), drawn[0])
    plain = layers.BinaryDense(64, use_bias=False)
    plain.build((None, 64))
    plain.set_weights(layer.get_weights())
    for _ in range(2):
        np.testing.assert_array_equal(numpy(layer(x)), numpy(plain(x)))


def test_files_hold_the_state(tmp_path):
    def make():
        layer = layers.BinaryDense(8, input_quantizer=Binary(stochastic=True))
        return keras.Sequential([keras.Input((8,)), layer, layers.GradientQuantization(2)])

    model, x = make(), np.zeros((4, 8), "float32")
    model(x, training=True)
    model.save_weights(tmp_path / "m.weights.h5")
    model.save(tmp_path / "m.keras")
    loaded = make()
    loaded.load_weights(tmp_path / "m.weights.h5")
    expected = numpy(model(x, training=True))
    np.testing.assert_array_equal(numpy(loaded(x, training=True)), expected)
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded(x, training=True)), expected)


def test_a_file_without_the_state_loads(tmp_path):
    plain = keras.Sequential([keras.Input((3,)), layers.BinaryDense(2, name="a")])
    plain.save_weights(tmp_path / "m.weights.h5")
    quantizer = Binary(stochastic=True)
    model = keras.Sequential(
        [keras.Input((3,)), layers.BinaryDense(2, name="a", kernel_quantizer=quantizer)]
    )
    model.load_weights(tmp_path / "m.weights.h5")
    for a, b in zip(plain.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_config():
    quantizer = Binary(scale=True, stochastic=True, seed=3)
    again = Binary.from_config(quantizer.get_config())
    assert again.stochastic and again.seed == 3 and again.scale
    assert quantizer.for_kernel((-1,)).stochastic
