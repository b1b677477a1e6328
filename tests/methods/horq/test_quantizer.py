"""Residual binarization, step by step."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp.quantizers import Binary, ResidualBinary

RNG = np.random.default_rng(0)


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def test_residuals_by_hand():
    x = np.array([[1.0, -2.0, 0.0, 5.0]], "float32")
    # beta1 = 2: rest [-1, 0, -2, 3]; beta2 = 1.5: [-1.5, 1.5, -1.5, 1.5].
    assert values(ResidualBinary(1), x).tolist() == [[2, -2, 2, 2]]
    assert values(ResidualBinary(2), x).tolist() == [[0.5, -0.5, 0.5, 3.5]]
    # 2 where |x| <= 1, 1.5 where the rest is, and a quarter everywhere.
    assert gradient(ResidualBinary(2), x).tolist() == [[3.75, 1.75, 2.25, 0.25]]


def test_residuals_shrink_for_each_sample():
    x = RNG.normal(size=(5, 40)).astype("float32") * np.arange(1, 6)[:, None]
    errors = []
    for order in range(1, 6):
        rest = x.astype(np.float64)
        for _ in range(order):
            rest = rest - np.abs(rest).mean(axis=1, keepdims=True) * np.where(rest >= 0, 1, -1)
        np.testing.assert_allclose(values(ResidualBinary(order), x), x - rest, atol=1e-5)
        errors.append(np.sum(rest**2, axis=1))
    assert np.all(np.diff(errors, axis=0) < 0)


def test_first_order_weights_are_xnors():
    w = RNG.normal(size=(3, 3, 4, 5)).astype("float32")
    first, xnor = ResidualBinary(1).for_kernel((-1,)), Binary(scale=True).for_kernel((-1,))
    np.testing.assert_array_equal(values(first, w), values(xnor, w))
    np.testing.assert_allclose(gradient(first, w), gradient(xnor, w), rtol=1e-6)


@pytest.mark.parametrize("arguments", [{"order": 0}, {"order": 9}, {"clip_value": -1}])
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        ResidualBinary(**arguments)
