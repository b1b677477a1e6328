"""Fine-grained ternary by trying all."""

import itertools

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import FineGrainedTernary

RNG = np.random.default_rng(0)


def values(quantizer, x):
    return keras.ops.convert_to_numpy(quantizer(np.asarray(x, "float32")))


def nearest_ternary(w):
    """Of all sign patterns, each with its best scale, the one of least error."""
    best = (np.sum(w**2), np.zeros_like(w))
    for pattern in itertools.product((-1, 0, 1), repeat=len(w)):
        pattern = np.array(pattern)
        if pattern.any():
            candidate = max(w @ pattern / (pattern @ pattern), 0) * pattern
            error = np.sum((w - candidate) ** 2)
            if error < best[0]:
                best = (error, candidate)
    return best[1]


@pytest.mark.parametrize("length, size", [(4, 4), (12, 4), (7, 3)])
def test_groups_are_the_best_there_are(length, size):
    w = RNG.normal(size=(2, length)).astype("float32")
    expected = [
        np.concatenate([nearest_ternary(row[i : i + size]) for i in range(0, length, size)])
        for row in w.astype(np.float64)
    ]
    np.testing.assert_allclose(values(FineGrainedTernary(size), w), expected, atol=1e-6)


def test_groups_lie_along_the_input_channels():
    w = RNG.normal(size=(3, 3, 8, 5)).astype("float32")
    found = values(FineGrainedTernary(4).for_kernel((-1,)), w)
    for i, j, c, o in itertools.product(range(3), range(3), (0, 4), range(5)):
        expected = nearest_ternary(w[i, j, c : c + 4, o].astype(np.float64))
        np.testing.assert_allclose(found[i, j, c : c + 4, o], expected, atol=1e-6)
    transposed = values(FineGrainedTernary(4).for_kernel((-2,)), np.swapaxes(w, -1, -2))
    np.testing.assert_array_equal(transposed, np.swapaxes(found, -1, -2))
    np.testing.assert_array_equal(gradient(FineGrainedTernary(4), w), np.ones_like(w))


@pytest.mark.parametrize(
    "shape, axis",
    [((5, 5, 1, 6), (-1,)), ((3, 3, 6, 1), (-2, -1)), ((7, 3, 6), (-1,)), ((6, 9), (-2,))],
)
def test_groups_of_few_channels_go_on_at_the_next_position(shape, axis):
    """One input channel, depthwise, no multiple of the group size, outputs first."""
    w = RNG.normal(size=shape).astype("float32")
    found = values(FineGrainedTernary(4).for_kernel(axis), w)
    outputs = [a % len(shape) for a in axis]
    inputs = [a for a in range(len(shape)) if a not in outputs]
    filters, theirs = (np.transpose(v, outputs + inputs).reshape(6, -1) for v in (w, found))
    for row, levels in zip(filters.astype(np.float64), theirs):
        for start in range(0, len(row), 4):
            expected = nearest_ternary(row[start : start + 4])
            np.testing.assert_allclose(levels[start : start + 4], expected, atol=1e-6)


def test_groups_of_a_vector():
    w = RNG.normal(size=8).astype("float32")
    found = values(FineGrainedTernary(4).for_kernel((-1,)), w)
    np.testing.assert_array_equal(found, values(FineGrainedTernary(4), w))
    assert len(np.unique(np.abs(found[:4]))) == 2


def test_a_threshold_and_scale_for_each_sign():
    q = FineGrainedTernary(4, symmetric=False)
    # 4 and 3 are kept as 3.5; -1 stands for itself.
    assert values(q, [4.0, 3.0, 0.2, -1.0]).tolist() == [3.5, 3.5, 0.0, -1.0]
    w = RNG.normal(size=(6, 8)).astype("float32") + 0.3
    expected = []
    for group in w.astype(np.float64).reshape(-1, 4):
        parts = [nearest_ternary(np.maximum(sign * group, 0)) for sign in (1, -1)]
        expected.append(parts[0] - parts[1])
    np.testing.assert_allclose(values(q, w).reshape(-1, 4), expected, atol=1e-6)
    errors = [np.sum((values(FineGrainedTernary(4, s), w) - w) ** 2) for s in (True, False)]
    assert errors[1] < errors[0]
    again = quantizers.get(quantizers.serialize(q)).for_kernel((-1,))
    assert again.get_config() == {"group_size": 4, "symmetric": False}


def test_smaller_groups_are_nearer():
    w = RNG.normal(size=(64, 32)).astype("float32")
    errors = [np.sum((values(FineGrainedTernary(n), w) - w) ** 2) for n in (1, 2, 4, 8, 16, 32)]
    assert errors[0] == 0 and np.all(np.diff(errors) > 0)


def test_bad_arguments():
    with pytest.raises(ValueError, match="argument `group_size`"):
        FineGrainedTernary(0)
