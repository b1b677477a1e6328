"""Scaled integers against a search over all scales."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import LeastSquaresInteger

RNG = np.random.default_rng(0)
NUMBERS = {
    "normal": RNG.normal(size=3000),
    "laplace": RNG.laplace(size=3000),
    "uniform": RNG.uniform(-1, 1, size=3000),
    "outlier": np.append(RNG.normal(size=500), 60.0),
}


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def error(x, alpha, largest):
    return np.sum((x - alpha * np.clip(np.round(x / alpha), -largest, largest)) ** 2)


def test_by_hand():
    # Two bits: 2.5 for 3 and 2. Three: the integers themselves.
    x = [3.0, -2.0, 1.0, 0.2]
    np.testing.assert_allclose(values(LeastSquaresInteger(2), x), [2.5, -2.5, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(values(LeastSquaresInteger(3), x), [3, -2, 1, 0], rtol=1e-6)
    assert values(LeastSquaresInteger(3), [0.0, 0.0]).tolist() == [0.0, 0.0]
    tiny = values(LeastSquaresInteger(3), [3e-30, -2e-30, 1e-30])
    np.testing.assert_allclose(tiny, [3e-30, -2e-30, 1e-30], rtol=1e-5)
    assert gradient(LeastSquaresInteger(2), np.float32(x)).tolist() == [1.0] * 4


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_near_the_best_scale(name, bits):
    x, largest = NUMBERS[name], 2 ** (bits - 1) - 1
    found = values(LeastSquaresInteger(bits), x)
    top = np.abs(x).max()
    best = min(error(x, a, largest) for a in np.geomspace(top / largest / 10, top, 1000))
    assert np.sum((found - x) ** 2) < 1.1 * best
    levels = np.unique(found)
    alpha = levels[levels > 0].min()
    integers = levels / alpha
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-4)
    assert np.abs(integers).max() < largest + 0.1


def test_a_scale_for_each_channel():
    w = RNG.normal(size=(3, 3, 8, 5)).astype("float32") * np.arange(1, 6, dtype="float32")
    found = values(LeastSquaresInteger(3, per_channel=True).for_kernel((-1,)), w)
    for i in range(5):
        expected = values(LeastSquaresInteger(3), w[..., i])
        np.testing.assert_allclose(found[..., i], expected, rtol=1e-5)
    whole = values(LeastSquaresInteger(3).for_kernel((-1,)), w)
    np.testing.assert_array_equal(whole, values(LeastSquaresInteger(3), w))


def test_saved_and_found_again():
    q = LeastSquaresInteger(4, per_channel=True, sweeps=2)
    assert quantizers.get(quantizers.serialize(q)).get_config() == q.get_config()
    assert quantizers.get("least_squares_integer").bits == 3


@pytest.mark.parametrize("name, value", [("bits", 1), ("bits", 9), ("bits", True), ("sweeps", 0)])
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        LeastSquaresInteger(**{name: value})
