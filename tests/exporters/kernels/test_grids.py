"""Weights that are integers times a scale are found, and others are not."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcomp.exporters.kernels.grids import integers


def test_golden():
    codes, scale = integers(np.array([[0.5, 0, -3], [-1, 0, 1.5], [1, 0, 0]], "float32"), 7)
    assert codes.tolist() == [[1, 0, -2], [-2, 0, 1], [2, 0, 0]]
    assert scale.tolist() == [0.5, 1.0, 1.5]
    # The thirds of DoReFa's quantizer have no zero, and are uniform.
    codes, _ = integers(np.array([[-1], [-1 / 3], [1 / 3], [1]], "float32"), 7)
    assert codes[:, 0].tolist() == [-3, -1, 1, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 200), st.sampled_from([1, 7, 127]))
def test_multiples_are_found_with_the_smallest_integers(seed, rows, most):
    rng = np.random.default_rng(seed)
    wanted = rng.integers(-most, most + 1, (rows, 5))
    steps = rng.uniform(1e-3, 10, 5).astype("float32")
    matrix = (wanted * steps).astype("float32")
    codes, scale = integers(matrix, most)
    np.testing.assert_allclose(codes * scale.astype("float64"), matrix, rtol=3e-7, atol=1e-12)
    assert np.all(np.abs(codes) <= np.abs(wanted))


def test_others_are_none():
    rng = np.random.default_rng(0)
    assert integers(rng.standard_normal((3, 4)).astype("float32"), 127) is None
    grid = rng.integers(-8, 9, (64, 4)).astype("float32")
    grid[0], grid[1] = 8, 7
    assert integers(grid, 7) is None and integers(grid, 8) is not None
    grid[5, 2] += 1e-3
    assert integers(grid, 127) is None
    # Seen by no sample of rows.
    long = np.ones((1000, 1), "float32")
    long[501] = 0.4999
    assert integers(long, 127) is None
    assert integers(np.full((3, 1), np.nan, "float32"), 127) is None
    codes, scale = integers(np.zeros((3, 2), "float32"), 7)
    assert not codes.any() and scale.tolist() == [1, 1]
