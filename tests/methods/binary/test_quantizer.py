"""The sign: values and gradients by hand, scales against numpy."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import Binary

X = np.array([0.5, -1.0, 2.0, 0.0, -0.25], "float32")


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def test_binary_by_hand():
    assert values(Binary(), X).tolist() == [1, -1, 1, 1, -1]
    assert gradient(Binary(), X).tolist() == [1, 1, 0, 1, 1]
    assert gradient(Binary(clip_value=None), X).tolist() == [1, 1, 1, 1, 1]
    assert gradient(Binary(clip_value=0.4), X).tolist() == [0, 0, 0, 1, 1]


def test_scaled_binary_by_hand():
    # alpha = (0.5 + 1 + 2 + 0 + 0.25) / 5 = 0.75; gradient alpha 1(|x| <= 1) + 1/5.
    assert values(Binary(scale=True), X).tolist() == [0.75, -0.75, 0.75, 0.75, -0.75]
    np.testing.assert_allclose(
        gradient(Binary(scale=True), X), [0.95, 0.95, 0.2, 0.95, 0.95], rtol=1e-6
    )


def reference(w, axis):
    rest = tuple(a for a in range(w.ndim) if a - w.ndim not in axis)
    alpha = np.mean(np.abs(w), axis=rest, keepdims=True)
    return alpha * np.where(w >= 0, 1, -1)


@pytest.mark.parametrize("axis", [(-1,), (-2,), (-2, -1)])
def test_scales_per_channel(axis):
    w = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")
    found = values(Binary(scale=True).for_kernel(axis), w)
    np.testing.assert_allclose(found, reference(w, axis), rtol=1e-5)


@pytest.mark.parametrize("size", [0.01, 0.8, 100.0])
def test_levels_are_exact(size):
    w = (np.random.default_rng(0).normal(size=(100, 1000)) * size).astype("float32")
    assert len(np.unique(values(Binary(scale=True), w))) == 2


def test_given_axes_stand_against_those_of_the_kernel():
    w = np.array([[1.0, 2.0], [3.0, -6.0]], "float32")
    by_row = Binary(scale=True, axis=0)
    assert values(by_row, w).tolist() == [[1.5, 1.5], [4.5, -4.5]]
    assert by_row.for_kernel((-1,)).axis == (0,)
    assert quantizers.get(quantizers.serialize(by_row)).axis == (0,)


def test_levels():
    assert Binary().levels == (-1, 1) and Binary().bits == 1
    assert Binary(scale=True).levels is None


def test_slopes_of_the_sign_by_hand():
    x = np.array([0.0, 0.25, -1.0, 3.0, -1e4], "float32")
    assert gradient(quantizers.get("approx_sign"), x).tolist() == [2, 1.5, 0, 0, 0]
    swish = gradient(quantizers.get("swish_sign"), x)
    # At zero beta 2 / 2; far away nothing, and no infinity on the way.
    assert swish[0] == 5 and abs(swish[4]) < 1e-30 and np.isfinite(swish).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"clip_value": 0},
        {"scale": "channel"},
        {"gradient": "tanh"},
        {"beta": 0},
        {"axis": 1.0},
        {"axis": (0, "1")},
        {"seed": "1"},
    ],
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        Binary(**arguments)
