"""Fixed point and int8 against integers."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import FixedPoint, Int8


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


@pytest.mark.parametrize("integer, fraction, signed", [(2, 9, True), (0, 7, True), (-2, 6, False)])
def test_against_integers(integer, fraction, signed):
    q = FixedPoint(integer, fraction, signed)
    x = np.random.default_rng(0).normal(size=2000).astype("float32") * 2.0**integer
    x[:9] = (np.arange(9) - 4.5) * q.step  # halves
    total = integer + fraction
    low, high = (-(2**total), 2**total - 1) if signed else (0, 2**total - 1)
    integers = np.clip(np.rint(x.astype(np.float64) * 2.0**fraction), low, high)
    np.testing.assert_array_equal(values(q, x), (integers * 2.0**-fraction).astype("float32"))
    assert q.bits == total + signed
    assert len(q.levels) == 2**q.bits and q.levels[0] == q.smallest and q.levels[-1] == q.largest


def test_by_hand():
    q = FixedPoint(1, 1)
    x = np.array([0.25, 0.75, 1.6, -2.5, 0.1], "float32")
    assert values(q, x).tolist() == [0, 1, 1.5, -2, 0]
    assert gradient(q, x).tolist() == [1, 1, 0, 0, 1]


def test_calibration():
    for largest, integer in ((0.9, 0), (1.0, 1), (3.9, 2), (0.2, -2), (100, 7)):
        q = FixedPoint.calibrated([-0.1 * largest, largest], bits=8)
        assert (q.integer_bits, q.bits, q.signed) == (integer, 8, True), largest
        assert abs(values(q, [largest])[0] - largest) <= q.step
    # Minus a power of two fits where plus does not.
    assert FixedPoint.calibrated([-1.0, 0.5], bits=8).integer_bits == 0
    q = FixedPoint.calibrated([0.0, 5.0], bits=8)
    assert not q.signed and q.integer_bits == 3 and q.fraction_bits == 5
    assert FixedPoint.calibrated(np.zeros(3)).bits == 8
    for bad in ([], [np.nan]):
        with pytest.raises(ValueError, match="argument `values`"):
            FixedPoint.calibrated(bad)


def test_int8_is_kerass():
    w = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    integers, scale = keras.quantizers.abs_max_quantize(w, axis=0, to_numpy=True)
    q = Int8().for_kernel((-1,))
    expected = np.asarray(integers, "float32") / np.asarray(scale).reshape(1, -1)
    np.testing.assert_allclose(values(q, w), expected, rtol=1e-5)
    per_channel = np.abs(w).max(axis=0) / 127
    np.testing.assert_allclose(
        values(q, w), np.rint(w / per_channel) * per_channel, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(gradient(q, w), np.ones_like(w))
    assert len(np.unique(values(Int8(False).for_kernel((-1,)), w))) <= 255
    assert values(Int8(), np.zeros(3)).tolist() == [0, 0, 0]


def test_saved_and_found_again():
    for q in (FixedPoint(3, 4, signed=False), Int8(per_channel=False)):
        again = quantizers.get(quantizers.serialize(q))
        assert again.get_config() == q.get_config()


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((2.0, 3), "integer_bits"),
        ((2, "3"), "fraction_bits"),
        ((0, 0), "fraction_bits"),
        ((20, 20), "fraction_bits"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        FixedPoint(*arguments)
