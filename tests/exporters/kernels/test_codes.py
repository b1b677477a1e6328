"""Values of a few kinds as codes, and what the codes stand for."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcomp.exporters.kernels.codes import codes_of


def decoded(found):
    """What codes stand for, by the words of `codes.py`."""
    codes = found.codes.astype(np.int64)
    if found.kind == "bits":
        numbers = [codes & 1, codes >> 1 & 1]
    elif found.kind == "powers":
        size = codes & (2 ** (found.bits - 1) - 1)
        numbers = [np.where(size, 2.0**size, 0) * np.where(codes >> (found.bits - 1), -1, 1)]
    else:
        numbers = [codes]
    return found.offset + sum(n * f.astype("float64") for n, f in zip(numbers, found.factors))


@pytest.mark.parametrize(
    "values,kind,bits",
    [
        ([-1, 1], "steps", 1),
        ([-0.3, 0.7], "steps", 1),
        ([-0.2, 0, 0.2], "steps", 2),
        ([-1, -1 / 3, 1 / 3, 1], "steps", 2),
        ([2 * i / 15 - 1 for i in range(16)], "steps", 4),
        ([0, 1, 2, -2], "steps", 4),
        ([0, 1, 2, 4, 8, -1, -2, -4, -8], "powers", 4),
        ([0, 0.3, 4.8, -0.3, 2.4], "powers", 4),
        ([0, *[s * 2.0**e for e in range(-6, 2) for s in (-1, 1)]], "powers", 8),
        ([0, 0.37, -0.9], "bits", 2),
        ([0.63, 0.37, -0.37, -0.63], "bits", 2),
    ],
)
def test_kinds(values, kind, bits):
    values = np.array(values, "float32")
    matrix = np.random.default_rng(0).choice(values, (200, 5))
    matrix[: len(values)] = values[:, None]
    scaled = matrix * np.float32([1, 0.5, 4, 1.7, -0.3])
    for each in (matrix, scaled):
        found = codes_of(each)
        assert (found.kind, found.bits) == (kind, bits) and found.codes.max() < 2**bits
        np.testing.assert_allclose(decoded(found), each, atol=3e-7 * np.abs(each).max())
        # What is pruned remains so, but for grids without a zero.
        if kind != "steps":
            assert not decoded(found)[each == 0].any()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from(["grid", "powers", "two"]))
def test_columns_of_any_scales(seed, rows, kind):
    rng = np.random.default_rng(seed)
    codes = rng.integers(-7, 8, (rows, 6)).astype("float32")
    if kind == "powers":
        codes = np.where(codes == 0, 0, np.sign(codes) * 2.0 ** np.abs(codes))
    elif kind == "two":
        codes = np.where(codes > 0, rng.uniform(0.5, 2, 6), np.where(codes < 0, -1, 0))
    matrix = (codes * rng.uniform(1e-3, 10, 6)).astype("float32")
    found = codes_of(matrix)
    largest = np.abs(matrix).max(axis=0, initial=1e-30)
    assert np.all(np.abs(decoded(found) - matrix) <= 4e-7 * largest)


def test_by_hand():
    found = codes_of(np.float32([[-0.5], [0], [1.0]]))
    assert (found.kind, found.bits, found.codes.tolist()) == ("steps", 2, [[0], [1], [3]])
    assert found.factors.tolist() == [[0.5]] and found.offset.tolist() == [-0.5]
    found = codes_of(np.float32([[3], [-48], [0], [6]]))
    # 3, 48 and 6 are 0.75 times 2 to the 2, 6 and 3; exponents begin at 1, and 8 is the sign.
    assert (found.kind, found.codes.tolist()) == ("powers", [[1], [13], [0], [2]])
    assert found.factors.tolist() == [[1.5]]
    found = codes_of(np.float32([[0.37], [-1], [0]]))
    assert (found.kind, found.codes.tolist()) == ("bits", [[1], [2], [0]])
    np.testing.assert_array_equal(found.factors, np.float32([[0.37], [-1]]))


@pytest.mark.parametrize(
    "matrix",
    [
        np.random.default_rng(1).standard_normal((8, 2)),
        [[1.0], [2.0], [18.0], [0]],  # 19 steps.
        [[1.0], [2.0], [4.0], [8.0], [2.0**15]],  # 16 powers of two.
        [[0.5], [1.0], [1.75], [0.1], [0]],  # More than two scales.
        [[0.0], [1.0], [np.inf]],
        [*[[0.0], [1.0]] * 10, [np.nan]],
        np.zeros((0, 3)),
    ],
)
def test_others_have_none(matrix):
    assert codes_of(np.array(matrix, "float32")) is None
