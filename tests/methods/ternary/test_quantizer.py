"""Ternary weights: by hand, and channel by channel as the paper's formula reads."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp.quantizers import Ternary

X = np.array([0.5, -1.0, 2.0, 0.0, -0.25], "float32")


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def test_ternary_by_hand():
    # Delta = 0.7 * 0.75 = 0.525; above it 1 and 2, whose mean is 1.5.
    assert values(Ternary(), X).tolist() == [0, -1.5, 1.5, 0, 0]
    assert values(Ternary(scale=False), X).tolist() == [0, -1, 1, 0, 0]
    assert gradient(Ternary(), X).tolist() == [1, 1, 1, 1, 1]


def reference(w, axis):
    """Channel by channel, as the paper's formula reads."""
    out = np.zeros_like(w)
    moved = np.moveaxis(w, axis, range(len(axis)))
    result = np.moveaxis(out, axis, range(len(axis)))
    for index in np.ndindex(moved.shape[: len(axis)]):
        channel = moved[index]
        delta = 0.7 * np.mean(np.abs(channel))
        above = np.abs(channel) > delta
        alpha = np.abs(channel)[above].sum() / max(above.sum(), 1)
        result[index] = alpha * np.sign(channel) * above
    return out


@pytest.mark.parametrize("axis", [(-1,), (-2,), (-2, -1)])
def test_scales_per_channel(axis):
    w = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype("float32")
    found = values(Ternary(per_channel=True).for_kernel(axis), w)
    np.testing.assert_allclose(found, reference(w, axis), rtol=1e-5)


@pytest.mark.parametrize("size", [0.01, 0.8, 100.0])
def test_levels_are_exact(size):
    w = (np.random.default_rng(0).normal(size=(100, 1000)) * size).astype("float32")
    assert len(np.unique(values(Ternary(), w))) == 3


def test_levels():
    assert Ternary(scale=False).levels == (-1, 0, 1) and Ternary().bits == 2
    assert Ternary().levels is None


def test_all_zero():
    assert values(Ternary(), np.zeros(4)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "arguments", [{"threshold": -1}, {"delta": 0.0}, {"clip_value": -1}, {"threshold": "0.7"}]
)
def test_bad_arguments(arguments):
    (name,) = arguments
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        Ternary(**arguments)
