"""Fixed point and int8 against integers."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import DynamicFixedPoint, FixedPoint, Int8


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
    assert FixedPoint.calibrated([1e-25]).fraction_bits == 64
    for bad in ([], [np.nan]):
        with pytest.raises(ValueError, match="argument `values`"):
            FixedPoint.calibrated(bad)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_dynamic_is_what_calibration_finds(bits):
    rng = np.random.default_rng(bits)
    tensors = [rng.normal(size=50) * 10.0**k for k in range(-6, 6)]
    tensors += [np.array([1.0, -0.3]), np.array([-1.0, 0.3]), np.array([0.999999, -1.0])]
    for tensor in map(np.float32, tensors):
        expected = values(FixedPoint.calibrated(tensor, bits, signed=True), tensor)
        np.testing.assert_array_equal(values(DynamicFixedPoint(bits), tensor), expected)
    assert values(DynamicFixedPoint(bits), np.zeros(3)).tolist() == [0, 0, 0]
    np.testing.assert_array_equal(gradient(DynamicFixedPoint(bits), tensors[0]), np.ones(50))


def integers_and_scales(w):
    """Int8's, from its values: along the last axis."""
    rest = tuple(range(w.ndim - 1))
    found = values(Int8().for_kernel((-1,)), w)
    scales = np.abs(found).max(rest) / 127
    return found, np.rint(found / scales), scales


def test_int8_by_formula():
    w = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    q = Int8().for_kernel((-1,))
    per_channel = np.abs(w).max(axis=0) / 127
    np.testing.assert_allclose(
        values(q, w), np.rint(w / per_channel) * per_channel, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_array_equal(gradient(q, w), np.ones_like(w))
    assert len(np.unique(values(Int8(False).for_kernel((-1,)), w))) <= 255
    assert values(Int8(), np.zeros(3)).tolist() == [0, 0, 0]


def test_int8_is_kerass():
    """The integers of `Dense.quantize("int8")`; Keras adds 1e-7 to the maximum under its scale."""
    layer = keras.layers.Dense(6)
    layer.build((None, 40))
    w = keras.ops.convert_to_numpy(layer.kernel.value)
    found, integers, scales = integers_and_scales(w)
    layer.quantize("int8")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer._kernel.value), integers)
    theirs = 1 / keras.ops.convert_to_numpy(layer.kernel_scale.value)
    np.testing.assert_allclose(theirs, scales + 1e-7 / 127, rtol=1e-6)
    np.testing.assert_allclose(found, integers * theirs, rtol=1e-5)


@pytest.mark.parametrize("dtype, size", [("float32", 1e-37), ("float32", 1e-45), ("float16", 1e-6)])
def test_int8_of_almost_nothing(dtype, size):
    """A scale below the smallest normal number counts as zero."""
    x = np.array([[size, -size], [1.0, 0.5]], dtype)
    found = keras.ops.convert_to_numpy(Int8().for_kernel((-2,))(x)).astype("float32")
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[0], x[0].astype("float32"), atol=1e-6)
    np.testing.assert_allclose(found[1], x[1], rtol=1e-2)


def test_many_fraction_bits_in_half_precision():
    x = np.array([1.0, 0.1, -3.5, 100.0], "float16")
    found = keras.ops.convert_to_numpy(FixedPoint(2, 20)(x))
    assert found.tolist() == [*x[:3].tolist(), 4.0]


@pytest.mark.tensorflow
def test_int8_is_literts(tmp_path):
    """Integers, scales and values of LiteRT's int8 weights, to the last bit."""
    import tensorflow as tf

    layers = [keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(12)]
    model = keras.Sequential([keras.Input((8, 8, 8)), *layers])
    model.export(tmp_path / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved"))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    seen = {}
    for tensor in interpreter.get_tensor_details():
        if tensor["dtype"] == np.int8:
            integers = np.moveaxis(interpreter.get_tensor(tensor["index"]), 0, -1)
            seen[integers.ndim] = integers, tensor["quantization_parameters"]
    for layer in (layers[0], layers[2]):
        w = layer.kernel.numpy()
        found, integers, _ = integers_and_scales(w)
        theirs, parameters = seen[w.ndim]
        np.testing.assert_array_equal(theirs, integers)
        assert not np.any(parameters["zero_points"])
        np.testing.assert_array_equal(theirs * parameters["scales"], found)


def test_saved_and_found_again():
    for q in (FixedPoint(3, 4, signed=False), Int8(per_channel=False), DynamicFixedPoint(5)):
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


@pytest.mark.parametrize("bits", [1, 17, 8.0, True])
def test_bad_bits(bits):
    with pytest.raises(ValueError, match="argument `bits`"):
        DynamicFixedPoint(bits)
