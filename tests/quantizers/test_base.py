"""What all quantizers share: names, configs, precision, which arguments are refused."""

import json
import pathlib
import re

import keras
import numpy as np
import pytest

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
    base,
)

X = np.array([0.5, -1.0, 2.0, 0.0, -0.25], "float32")


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def test_variables_serve_as_inputs():
    variable = keras.Variable(X)
    for quantizer in (Binary(), Ternary()):
        expected = values(quantizer, X)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(quantizer(variable)), expected)


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


@pytest.mark.parametrize("name", ["approx_sign", "swish_sign", "magnitude_aware_sign", "ste_tern"])
def test_named_variants_keep_their_arguments(name):
    quantizer = quantizers.get(name)
    again = quantizers.get(quantizers.serialize(quantizer))
    assert again.get_config() == quantizer.get_config()


DOCS = pathlib.Path(__file__).parents[2] / "docs" / "layers.md"
PUBLIC = [
    value
    for value in (getattr(quantizers, name) for name in quantizers.__all__)
    if isinstance(value, type) and value is not quantizers.Quantizer
]


def test_every_name_is_in_the_docs_with_its_quantizer():
    rows = re.findall(r"^\| `\"(\w+)\"` \| `(\w+\(.*?\))` \|", DOCS.read_text(), re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(base._KNOWN)
    for name, shown in rows:
        meant = eval(shown, {cls.__name__: cls for cls in PUBLIC})
        found = quantizers.get(name)
        assert type(found) is type(meant) and found.get_config() == meant.get_config()


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_every_public_quantizer_has_a_name(cls):
    assert any(make is cls for make in base._KNOWN.values())
    assert quantizers.get(quantizers.serialize(cls())).get_config() == cls().get_config()


INTEGERS = {
    ("Binary", "axis"): 1,
    ("Binary", "seed"): 3,
    ("DoReFa", "bits"): 4,
    ("DynamicFixedPoint", "bits"): 4,
    ("FineGrainedTernary", "group_size"): 8,
    ("FixedPoint", "integer_bits"): 3,
    ("FixedPoint", "fraction_bits"): 3,
    ("LeastSquaresInteger", "bits"): 4,
    ("LeastSquaresInteger", "sweeps"): 2,
    ("ResidualBinary", "order"): 3,
    ("ResidualBinary", "axis"): 1,
}


@pytest.mark.parametrize(("cls", "name"), INTEGERS, ids=str)
def test_integers_are_whole_numbers(cls, name):
    make, value = getattr(quantizers, cls), INTEGERS[cls, name]
    config = make(**{name: np.int64(value)}).get_config()
    assert config == make(**{name: value}).get_config()
    json.dumps(config)
    for bad in (value + 0.5, float(value), True, str(value)):
        with pytest.raises(ValueError, match=f"argument `{name}`.*integer"):
            make(**{name: bad})
