"""Quantizers: values and gradients by hand and against numpy, identifiers, exact levels."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import (
    Binary,
    DoReFa,
    FineGrainedTernary,
    FixedPoint,
    Int8,
    LeastSquaresInteger,
    ResidualBinary,
    Ternary,
    TrainedTernary,
)


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


X = np.array([0.5, -1.0, 2.0, 0.0, -0.25], "float32")


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


def test_ternary_by_hand():
    # Delta = 0.7 * 0.75 = 0.525; above it 1 and 2, whose mean is 1.5.
    assert values(Ternary(), X).tolist() == [0, -1.5, 1.5, 0, 0]
    assert values(Ternary(scale=False), X).tolist() == [0, -1, 1, 0, 0]
    assert gradient(Ternary(), X).tolist() == [1, 1, 1, 1, 1]


def binary_reference(w, axis):
    rest = tuple(a for a in range(w.ndim) if a - w.ndim not in axis)
    alpha = np.mean(np.abs(w), axis=rest, keepdims=True)
    return alpha * np.where(w >= 0, 1, -1)


def ternary_reference(w, axis):
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
    found = values(Binary(scale=True).for_kernel(axis), w)
    np.testing.assert_allclose(found, binary_reference(w, axis), rtol=1e-5)
    found = values(Ternary(per_channel=True).for_kernel(axis), w)
    np.testing.assert_allclose(found, ternary_reference(w, axis), rtol=1e-5)


@pytest.mark.parametrize("quantizer", [Binary(scale=True), Ternary()])
@pytest.mark.parametrize("size", [0.01, 0.8, 100.0])
def test_levels_are_exact(quantizer, size):
    w = (np.random.default_rng(0).normal(size=(100, 1000)) * size).astype("float32")
    assert len(np.unique(values(quantizer, w))) == 2**quantizer.bits - (quantizer.bits == 2)


def test_given_axes_stand_against_those_of_the_kernel():
    w = np.array([[1.0, 2.0], [3.0, -6.0]], "float32")
    by_row = Binary(scale=True, axis=0)
    assert values(by_row, w).tolist() == [[1.5, 1.5], [4.5, -4.5]]
    assert by_row.for_kernel((-1,)).axis == (0,)
    assert quantizers.get(quantizers.serialize(by_row)).axis == (0,)


def test_levels():
    assert Binary().levels == (-1, 1) and Binary().bits == 1
    assert Ternary(scale=False).levels == (-1, 0, 1) and Ternary().bits == 2
    assert Binary(scale=True).levels is None and Ternary().levels is None


def test_variables_serve_as_inputs():
    variable = keras.Variable(X)
    for quantizer in (Binary(), Ternary()):
        expected = values(quantizer, X)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(quantizer(variable)), expected)


def test_all_zero_ternary():
    assert values(Ternary(), np.zeros(4)).tolist() == [0, 0, 0, 0]


def test_half_precision_keeps_its_dtype():
    for dtype in ("float16", "bfloat16"):
        x = keras.ops.cast(X, dtype)
        for quantizer in (Binary(), Binary(scale=True), Ternary()):
            assert keras.backend.standardize_dtype(quantizer(x).dtype) == dtype


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "quantizer",
    [
        Ternary(),
        Binary(scale=True),
        TrainedTernary(),
        DoReFa(8),
        FixedPoint(2, 7),
        Int8(),
        FineGrainedTernary(4),
        LeastSquaresInteger(4),
        ResidualBinary(2, axis=()),
    ],
)
def test_half_precision_rounds_what_single_precision_finds(quantizer, dtype):
    """More weights than half precision counts to, whose sum is beyond its range."""
    x = np.random.default_rng(0).normal(size=(300, 300)).astype(dtype)
    expected = values(quantizer, x).astype(x.dtype)
    found = keras.ops.convert_to_numpy(quantizer(keras.ops.convert_to_tensor(x)))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.astype("float32"), expected.astype("float32"))


def test_identifiers():
    assert quantizers.get(None) is None
    assert isinstance(quantizers.get("binary"), Binary)
    assert isinstance(quantizers.get("ternary"), Ternary)
    quantizer = Binary(scale=True, clip_value=1.5)
    assert quantizers.get(quantizer) is quantizer
    again = quantizers.get(quantizers.serialize(quantizer))
    assert again.get_config() == quantizer.get_config()
    assert quantizers.deserialize(None) is None
    assert quantizers.get(keras.ops.sign) is keras.ops.sign
    with pytest.raises(ValueError, match=r"argument `identifier`.*'binary', .*'ternary'"):
        quantizers.get("binery")
    with pytest.raises(ValueError, match="argument `identifier`"):
        quantizers.get(3)


def test_bad_input():
    with pytest.raises(ValueError, match=r"argument `inputs` of Binary.*int32"):
        Binary()(np.array([1, 2], "int32"))
    with pytest.raises(ValueError, match="argument `clip_value`"):
        Binary(clip_value=0)
    with pytest.raises(ValueError, match="argument `threshold`"):
        Ternary(threshold=-1)
    for make, arguments, name in [
        (Binary, {"scale": "channel"}, "scale"),
        (Binary, {"gradient": "tanh"}, "gradient"),
        (Binary, {"beta": 0}, "beta"),
        (Ternary, {"delta": 0.0}, "delta"),
        (Ternary, {"clip_value": -1}, "clip_value"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            make(**arguments)


def test_slopes_of_the_sign_by_hand():
    x = np.array([0.0, 0.25, -1.0, 3.0, -1e4], "float32")
    assert gradient(quantizers.get("approx_sign"), x).tolist() == [2, 1.5, 0, 0, 0]
    swish = gradient(quantizers.get("swish_sign"), x)
    # At zero beta 2 / 2; far away nothing, and no infinity on the way.
    assert swish[0] == 5 and abs(swish[4]) < 1e-30 and np.isfinite(swish).all()


@pytest.mark.parametrize("name", ["approx_sign", "swish_sign", "magnitude_aware_sign", "ste_tern"])
def test_named_variants_keep_their_arguments(name):
    quantizer = quantizers.get(name)
    again = quantizers.get(quantizers.serialize(quantizer))
    assert again.get_config() == quantizer.get_config()
