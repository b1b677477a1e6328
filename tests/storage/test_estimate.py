"""Estimates of large tensors against all of these."""

import numpy as np
import pytest

from tfcomp.storage import describe
from tfcomp.storage.estimate import LARGE, about_distinct, estimate

SHAPE = (1024, 700)


def normal(shape=SHAPE, dtype="float32", seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def rounded(bits):
    """Floats without so many of their last bits."""
    value = normal()
    value.view("u4")[:] &= np.uint32(0xFFFFFFFF << bits & 0xFFFFFFFF)
    return value


def pruned(share, rows=False):
    value = normal((1024, 1536))
    drawn = np.random.default_rng(1).random((1024, 1) if rows else value.shape)
    return np.where(drawn < share, np.float32(0), value)


CONTINUOUS = {
    "normal": normal,
    "a conv kernel": lambda: normal((3, 3, 300, 200)),
    "a pointwise kernel": lambda: normal((1, 1, 1024, 700)),
    "uniform": lambda: np.random.default_rng(0).uniform(-0.1, 0.1, SHAPE).astype("float32"),
    "rounded": lambda: rounded(4),
    "float64": lambda: normal(dtype="float64"),
    "channels of many sizes": lambda: normal() * np.exp(normal(SHAPE[1:])),
    "rows that grow": lambda: normal() * np.linspace(0.01, 2, SHAPE[0], dtype="float32")[:, None],
    "just large": lambda: normal((LARGE,)),
    "half zero": lambda: pruned(0.5),
    "half of the rows zero": lambda: pruned(0.5, rows=True),
}


@pytest.mark.parametrize("make", CONTINUOUS.values(), ids=CONTINUOUS)
def test_within_one_per_cent(make):
    array = make()
    about, exact = estimate(array), describe(array)
    assert about.is_estimate and not exact.is_estimate
    assert (about.size, about.nonzeros) == (exact.size, exact.nonzeros)
    assert about.coded_bytes == pytest.approx(exact.coded_bytes, rel=0.01)
    assert about.distinct == pytest.approx(exact.distinct, rel=0.02)
    # Nobody gets another estimate of the same weights.
    assert estimate(array) == about


def scaled():
    units = np.random.default_rng(0).integers(-127, 128, SHAPE).astype("float32")
    return units * np.abs(normal(SHAPE[1:]))


def clustered():
    """Sixteen values for each channel: no row repeats one."""
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(normal(16, seed=seed), SHAPE[0]) for seed in range(SHAPE[1])], 1)


REPEATING = {
    "bfloat16": lambda: rounded(16),
    "float16": lambda: normal(dtype="float16"),
    "four bits": lambda: np.random.default_rng(0).choice(normal(16), SHAPE),
    "many values": lambda: np.random.default_rng(0).choice(normal(100_000), SHAPE),
    "integers with scales": scaled,
    "clusters for each channel": clustered,
    "the same rows": lambda: np.tile(normal((4, 700)), (256, 1)),
    "mostly zero": lambda: pruned(0.95),
    "an order": lambda: np.arange(1 << 19, dtype="float32"),
    "constant": lambda: np.ones(SHAPE, "float32"),
    "zeros": lambda: np.zeros(SHAPE, "float32"),
    "integers": lambda: np.random.default_rng(0).integers(0, 1 << 31, SHAPE),
    "small": lambda: normal((LARGE - 1,)),
}


@pytest.mark.parametrize("make", REPEATING.values(), ids=REPEATING)
def test_others_are_exact(make):
    array = make()
    assert estimate(array) == describe(array)


def test_distinct_values_of_arrays_together():
    one, other = normal(), normal(seed=1)[:, :10].astype("float16")
    half = one.copy()
    half[::2] = normal(seed=2)[::2]
    exact = len(np.union1d(one, half)) + len(np.unique(other))
    assert about_distinct([one, half, other]) == pytest.approx(exact, rel=0.02)
