"""The choice of the largest scores, where it is made by way of a sample."""

import numpy as np
import pytest

from tfcomp.model.patterns import keep_largest

SIZE = 2**18


def structured(rng):
    """What a sample with a fixed stride sees is unlike the rest."""
    scores = rng.random(SIZE)
    scores[::4] = 2 + scores[::4]
    return scores


ARRAYS = {
    "random": lambda rng: rng.random(SIZE),
    "float32": lambda rng: np.abs(rng.normal(size=SIZE)).astype("float32"),
    "many dead": lambda rng: np.where(rng.random(SIZE) < 0.7, -1, rng.random(SIZE)),
    "few levels": lambda rng: rng.integers(0, 5, SIZE).astype(float),
    "structured": structured,
    "infinite": lambda rng: np.where(np.arange(SIZE) < 3, np.inf, rng.random(SIZE)),
}


@pytest.mark.parametrize("keep", [1, 1000, SIZE // 4, SIZE * 7 // 10, SIZE - 1, SIZE])
@pytest.mark.parametrize("name", ARRAYS)
def test_keeps_the_largest_and_the_first_of_equals(name, keep):
    scores = ARRAYS[name](np.random.default_rng(0)).reshape(512, -1)
    flat = scores.ravel()
    order = np.argsort(-flat, kind="stable")
    expected = np.zeros(flat.size, bool)
    expected[order[: min(keep, np.count_nonzero(flat >= 0))]] = True
    np.testing.assert_array_equal(keep_largest(scores, keep).ravel(), expected)
