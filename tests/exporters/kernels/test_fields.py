"""Codes of a few bits in words, and products with them, against NumPy."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.kernels.fields import fields, product, sums  # noqa: E402

pytestmark = pytest.mark.tensorflow


def multiply(found, x):
    run = tf.function(lambda x: sums(x, found.words, found.bits), jit_compile=True)
    x = tf.constant(x)
    return product(x, run(x), found.scale, found.zero).numpy()


@pytest.mark.parametrize("levels,bits", [(3, 2), (4, 2), (15, 4), (16, 4)])
@pytest.mark.parametrize("inputs,outputs", [(64, 256), (70, 10), (200, 300)])
def test_uniform_grids(levels, bits, inputs, outputs):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, levels, (inputs, outputs)) - levels // 2
    matrix = (codes * rng.uniform(0.01, 2, outputs).astype("float32")).astype("float32")
    found = fields(matrix)
    assert found.bits == bits and found.words.nbytes <= bits / 8 * (inputs + 64) * (outputs + 256)
    x = rng.standard_normal((2, inputs)).astype("float32")
    expected = x.astype("float64") @ matrix
    np.testing.assert_allclose(multiply(found, x), expected, atol=3e-6 * np.abs(expected).max())


def test_codes_by_hand():
    found = fields(np.float32([[-0.5], [0], [1.0]]))
    assert found.scale == 0.5 and found.zero == 1 and found.bits == 2
    # Codes 0, 1 and 3, two bits each, the first lowest: 0 + 1 * 4 + 3 * 16.
    assert found.words[0, 0, 0, 0] == 52


@pytest.mark.parametrize("value", [0.0, -0.3, 2.0])
def test_one_value(value):
    matrix = np.full((65, 3), value, "float32")
    x = np.linspace(-1, 2, 65, dtype="float32")[None]
    np.testing.assert_allclose(multiply(fields(matrix), x), x @ matrix, rtol=1e-5)


def test_other_values_have_no_fields():
    rng = np.random.default_rng(1)
    assert fields(rng.standard_normal((8, 2)).astype("float32")) is None
    assert fields(np.float32([[1.0], [2.0], [18.0]])) is None  # 17 steps.
    assert fields(np.float32([[0.5], [1.0], [1.75]])) is None  # No grid of the smallest step.
