"""Codes of a few bits in words, and products with them, against NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.kernels.fields import fields, multiply  # noqa: E402

pytestmark = pytest.mark.tensorflow
VALUES = {
    "signs": ([-1, 1], "steps", 1),
    "ternary": ([-1, 0, 1], "steps", 2),
    "four": ([-1, -1 / 3, 1 / 3, 1], "steps", 2),
    "grid": ([*range(-7, 8)], "steps", 4),
    "sixteen": ([2 * i / 15 - 1 for i in range(16)], "steps", 4),
    "powers": ([0, 1, 2, 4, 8, -1, -2, -4, -8], "powers", 4),
    "more powers": ([0, *(2.0**e for e in range(-4, 11)), -1, -1024], "powers", 8),
    "two scales": ([0, 0.37, -0.9], "bits", 2),
    "two terms": ([0.63, 0.37, -0.37, -0.63], "bits", 2),
}


def multiplied(found, x, outputs):
    return multiply(found.kind, found.bits, outputs)(tf.constant(x), *found[2:]).numpy()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.sampled_from(list(VALUES)),
    st.sampled_from([1, 63, 64, 70, 200]),
    st.sampled_from([1, 10, 256, 300]),
    st.integers(1, 3),
    st.integers(0, 10**6),
)
def test_products(name, inputs, outputs, samples, seed):
    rng = np.random.default_rng(seed)
    values, _, bits = VALUES[name]
    matrix = rng.choice(np.float32(values), (inputs, outputs))
    matrix = matrix * rng.uniform(0.01, 2, outputs).astype("float32")
    found = fields(matrix)
    assert found.bits <= bits and found.words.nbytes <= bits / 8 * (inputs + 64) * (outputs + 256)
    x = rng.standard_normal((samples, inputs)).astype("float32")
    expected = x.astype("float64") @ matrix
    # Sums of a grid that begins below zero are differences of larger ones.
    largest = np.abs(x.astype("float64")) @ np.abs(matrix)
    off = np.abs(multiplied(found, x, outputs) - expected)
    assert np.all(off <= 1e-6 * largest.max(axis=1, keepdims=True))


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_inputs_of_any_size(name, size):
    rng = np.random.default_rng(0)
    values, kind, bits = VALUES[name]
    matrix = rng.choice(np.float32(values), (70, 40))
    found = fields(matrix)
    assert (found.kind, found.bits) == (kind, bits)
    x = (rng.standard_normal((1, 70)) * size).astype("float32")
    expected = x.astype("float64") @ matrix
    assert np.abs(multiplied(found, x, 40) - expected).max() <= 1e-6 * np.abs(expected).max()


def test_words_by_hand():
    found = fields(np.float32([[-0.5], [0], [1.0]]))
    # Codes 0, 1 and 3, two bits each, the first lowest: 0 + 1 * 4 + 3 * 16.
    assert found.words[0, 0, 0, 0] == 52


@pytest.mark.parametrize("value", [0.0, -0.3, 2.0])
def test_one_value(value):
    matrix = np.full((65, 3), value, "float32")
    x = np.linspace(-1, 2, 65, dtype="float32")[None]
    np.testing.assert_allclose(multiplied(fields(matrix), x, 3), x @ matrix, rtol=1e-5)
