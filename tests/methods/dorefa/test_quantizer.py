"""DoReFa: the formulas of the paper written in numpy, gradients by finite differences."""

import keras
import ml_dtypes
import numpy as np
import pytest
from gradients import gradient

from tfcomp.layers import GradientQuantization
from tfcomp.quantizers import DoReFa

RNG = np.random.default_rng(0)
W = RNG.normal(size=(4, 5)).astype("float32")


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def grid(r, k):
    return np.round((2**k - 1) * r) / (2**k - 1)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weights(bits):
    squashed = np.tanh(W.astype(np.float64))
    expected = 2 * grid(squashed / (2 * np.abs(squashed).max()) + 0.5, bits) - 1
    found = values(DoReFa(bits), W)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert len(np.unique(found)) <= 2**bits == len(DoReFa(bits).levels)
    assert np.isin(found, np.float32(DoReFa(bits).levels)).all()


def test_gradient_of_weights_is_that_without_rounding():
    def smooth(w):
        squashed = np.tanh(w)
        return np.sum(squashed / np.abs(squashed).max())

    wide, step = W.astype(np.float64), 1e-6
    for index in [(0, 0), (2, 3), np.unravel_index(np.argmax(np.abs(W)), W.shape)]:
        up, down = wide.copy(), wide.copy()
        up[index] += step
        down[index] -= step
        expected = (smooth(up) - smooth(down)) / (2 * step)
        assert gradient(DoReFa(3), W)[index] == pytest.approx(expected, abs=1e-4)


def test_one_bit_weights_share_one_mean():
    np.testing.assert_allclose(
        values(DoReFa(1), W), np.mean(np.abs(W)) * np.where(W >= 0, 1, -1), rtol=1e-6
    )
    np.testing.assert_array_equal(gradient(DoReFa(1), W), np.ones_like(W))


def test_activations_by_hand():
    x = [-0.5, 0.0, 0.2, 0.4, 1.0, 1.7]
    activations = DoReFa(2, mode="activations")
    expected = [0, 0, 1 / 3, 1 / 3, 1, 1]
    np.testing.assert_allclose(values(activations, x), expected, rtol=1e-6)
    assert gradient(activations, np.array(x, "float32")).tolist() == [0, 1, 1, 1, 1, 0]
    assert values(DoReFa(1, mode="activations"), x).tolist() == [0, 0, 0, 0, 1, 1]
    np.testing.assert_allclose(activations.levels, [0, 1 / 3, 2 / 3, 1])


def test_32_bits_are_the_identity():
    np.testing.assert_array_equal(values(DoReFa(32), W), W)
    np.testing.assert_array_equal(values(DoReFa(32, mode="activations"), W), W)


def test_zeros():
    assert np.isfinite(values(DoReFa(2), np.zeros(4))).all()
    assert np.isfinite(gradient(DoReFa(2), np.zeros(4, "float32"))).all()


def test_gradients_are_on_the_grid_and_right_on_average():
    keras.utils.set_random_seed(0)
    layer, bits = GradientQuantization(3, seed=1), 3
    upstream = RNG.normal(size=(2, 50)).astype("float32")

    def run(x):
        return layer(x, training=True) * keras.ops.convert_to_tensor(upstream)

    zeros = np.zeros((2, 50), "float32")
    found = np.stack([gradient(run, zeros, compiled=False) for _ in range(200)])
    largest = np.abs(upstream).max(axis=1, keepdims=True)
    steps = (found / (2 * largest) + 0.5) * (2**bits - 1)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)
    # The noise makes rounding unbiased but at the ends, where it is clipped.
    inside = np.abs(upstream) < 0.8 * largest
    np.testing.assert_allclose(found.mean(0)[inside], upstream[inside], atol=0.25)
    assert abs(np.mean(found.mean(0)[inside] - upstream[inside])) < 0.02
    assert len(np.unique(found[:, 0, 0])) > 1


def test_gradients_of_half_precision_are_on_the_grid():
    """Eight bits of precision would put noise of its own on a grid of 63 steps."""
    layer, bits = GradientQuantization(6, seed=1, dtype="bfloat16"), 6
    upstream = np.linspace(-1, 1, 300, dtype="float32")[None]

    def run(x):
        return layer(x, training=True) * keras.ops.cast(upstream, "bfloat16")

    zeros = keras.ops.cast(np.zeros((1, 300)), "bfloat16")
    found = gradient(run, zeros, compiled=False).astype("float32")
    levels = (2 * np.arange(2**bits) / (2**bits - 1) - 1).astype(ml_dtypes.bfloat16)
    assert np.isin(found, levels.astype("float32")).all()


def test_gradients_pass_where_there_is_nothing_to_quantize():
    x = np.ones((2, 3), "float32")
    for layer, training in ((GradientQuantization(32), True), (GradientQuantization(2), False)):
        found = gradient(lambda x, layer=layer, t=training: layer(x, training=t) * 0.3, x)
        np.testing.assert_allclose(found, 0.3)
    zero = gradient(lambda x: GradientQuantization(2)(x, training=True) * 0.0, x)
    np.testing.assert_array_equal(zero, np.zeros_like(x))


@pytest.mark.parametrize("bits", [0, 9, 2.0, True, "2"])
def test_bad_bits(bits):
    for make in (DoReFa, GradientQuantization):
        with pytest.raises(ValueError, match="argument `bits`"):
            make(bits)
    with pytest.raises(ValueError, match="argument `mode`"):
        DoReFa(2, mode="weight")
