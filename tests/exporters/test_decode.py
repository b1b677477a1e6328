"""TensorFlow's decoding of every form against the array that was coded, bit for bit."""

import types

import numpy as np
import pytest

from tfcomp import storage
from tfcomp.storage import choose, packed
from tfcomp.storage.coders import deflate
from tfcomp.storage.forms import Bitmap, Palette, Raw, RelativeIndex

pytestmark = pytest.mark.tensorflow

DTYPES = ["float32", "float16", "bfloat16", "float64", "bool"]
DTYPES += [f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")]


FORMS = {
    "raw": (None, Raw),
    "palette": (None, Palette),
    "bitmap": (Bitmap(), None),
    "relative": (RelativeIndex(8), None),
    "relative of 3": (RelativeIndex(3), None),
    "relative of 31": (RelativeIndex(31), None),
}


def decoded(array, name=None):
    """Decodes within a function, as a SavedModel does."""
    import tensorflow as tf

    from tfcomp.exporters.decode import decode

    source = types.SimpleNamespace(is_file=lambda data: False, strings=tf.constant)
    coded = storage.streams(array)
    if name:
        coded = packed.in_streams(choose.in_form(array, deflate, *FORMS[name]))
    return coded, tf.function(lambda: decode([coded], source)[0])().numpy()


def assert_same_bits(actual, wanted):
    assert actual.shape == wanted.shape and actual.dtype == wanted.dtype
    assert actual.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMS)
def test_every_coding_and_dtype(name, dtype):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2 if dtype == "bool" else 7, (11, 3, 5))
    array = (values * (rng.random(values.shape) < 0.5)).astype(dtype)
    assert_same_bits(decoded(array, name)[1], array)


@pytest.mark.parametrize("name", FORMS)
def test_special_floats(name):
    array = np.array([0.0, -0.0, np.nan, -np.nan, np.inf, 1e-45, -1e-40, 3.4e38], "float32")
    assert_same_bits(decoded(array, name)[1], array)


def test_scales():
    rng = np.random.default_rng(0)
    array = rng.integers(-3, 4, (3, 3, 20, 30)) * rng.standard_normal(30).astype("float32")
    array = array.astype("float32")
    coded, got = decoded(array)
    assert coded.form.startswith("scaled/")
    assert_same_bits(got, array)


@pytest.mark.parametrize(
    "array",
    [
        np.float32(2.5),
        np.zeros((3, 0), "float32"),
        np.zeros((300, 70), "float32"),
        np.ones((5, 7), "float32"),
        np.arange(5000, dtype="float32").reshape(50, 100),
        np.arange(70_000, dtype="int32"),
    ],
    ids=lambda array: str(array.shape),
)
def test_shapes_and_sizes(array):
    assert_same_bits(decoded(array)[1], np.asarray(array))


@pytest.mark.parametrize("levels", [2, 3, 5, 9, 17, 33, 65, 200, 300, 5000])
def test_palettes_of_any_size(levels):
    rng = np.random.default_rng(levels)
    array = rng.standard_normal(levels).astype("float32")[rng.integers(0, levels, 20_003)]
    assert_same_bits(decoded(array, "palette")[1], array)
    sparse = np.where(rng.random(20_003) < 0.01, array, 0).astype("float32")
    for name in ("bitmap", "relative", "relative of 31"):
        assert_same_bits(decoded(sparse, name)[1], sparse)


@pytest.mark.parametrize("width", range(1, 8))
def test_bits_of_any_width(width):
    from tfcomp.exporters.decode import _unpack_bits
    from tfcomp.storage import stream

    rng = np.random.default_rng(width)
    for count in (1, 7, 8, 9, 1003):
        integers = rng.integers(0, 1 << width, count).astype("uint8")
        data = np.frombuffer(stream._laid_out(integers, "bits", width), "uint8")
        np.testing.assert_array_equal(_unpack_bits(data, width, count), integers)


def test_every_form_that_is_chosen_has_a_decoder():
    kinds = {
        type(form) for density in (0.5, 0.001) for form in choose._positions(deflate, 2, density)
    }
    assert kinds == {type(positions) for positions, _ in FORMS.values()} - {type(None)}
