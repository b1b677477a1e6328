"""The pairwise loss: by hand, against numpy, and its gradient by differences."""

import keras
import numpy as np
import pytest
from gradients import gradient

import tfcomp


def reference(labels, codes, alpha):
    """The paper's sum, pair by pair, over sets of labels."""
    pairs = [(i, j) for i in range(len(codes)) for j in range(len(codes)) if i != j]
    similar = [pair for pair in pairs if labels[pair[0]] & labels[pair[1]]]
    total = 0.0
    for i, j in pairs:
        theta = alpha * float(codes[i] @ codes[j])
        if (i, j) in similar:
            weight = len(pairs) / len(similar)
            weight *= len(labels[i] & labels[j]) / len(labels[i] | labels[j])
            total += weight * (np.log1p(np.exp(theta)) - theta)
        else:
            total += len(pairs) / (len(pairs) - len(similar)) * np.log1p(np.exp(theta))
    return total / len(pairs)


def test_by_hand():
    """Three pairs, one of them similar: weights 3 and 3/2, inner products 2, -2 and -2."""
    codes = np.array([[1, 1], [1, 1], [-1, -1]], "float32")
    match = np.log1p(np.exp(-2))
    expected = (3 * match + 2 * 1.5 * match) / 3
    loss = tfcomp.losses.WeightedPairwise(alpha=1)
    assert float(loss(np.array([0, 0, 1]), codes)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("alpha", [None, 0.3])
def test_against_numpy(alpha):
    rng = np.random.default_rng(0)
    codes = rng.uniform(-1, 1, size=(9, 5)).astype("float32")
    loss = tfcomp.losses.WeightedPairwise(alpha)
    classes = rng.integers(0, 3, 9)
    expected = reference([{c} for c in classes], codes, alpha or 2)
    assert float(loss(classes, codes)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(classes[:, None], codes)) == pytest.approx(expected, rel=1e-5)
    assert float(loss(np.eye(3)[classes], codes)) == pytest.approx(expected, rel=1e-5)
    several = (rng.random((9, 4)) < 0.4).astype("float32")
    sets = [set(np.flatnonzero(row)) for row in several]
    expected = reference(sets, codes, alpha or 2)
    assert float(loss(several, codes)) == pytest.approx(expected, rel=1e-5)


def test_gradient_by_differences():
    rng = np.random.default_rng(1)
    codes = rng.uniform(-1, 1, size=(4, 3)).astype("float32")
    labels = np.array([0, 1, 0, 1])
    found = gradient(lambda h: tfcomp.losses.WeightedPairwise(1.0)(labels, h), codes)
    sets = [{c} for c in labels]
    for index in np.ndindex(codes.shape):
        step = np.zeros(codes.shape)
        step[index] = 1e-4
        up, down = reference(sets, codes + step, 1.0), reference(sets, codes - step, 1.0)
        assert found[index] == pytest.approx((up - down) / 2e-4, rel=1e-3, abs=1e-4)


def test_extremes_are_finite():
    loss = tfcomp.losses.WeightedPairwise(1.0)
    codes = 100 * np.array([[1, 1], [-1, -1], [1, 1]], "float32")
    assert np.isfinite(float(loss(np.array([0, 0, 1]), codes)))
    assert float(loss(np.array([0]), codes[:1])) == 0
    assert np.isfinite(float(loss(np.array([0, 0, 0]), codes)))


def test_config_and_bad_arguments():
    loss = tfcomp.losses.WeightedPairwise(0.5)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.alpha == 0.5
    for alpha in (0, -1, "much", float("nan")):
        with pytest.raises(ValueError, match="argument `alpha`"):
            tfcomp.losses.WeightedPairwise(alpha)
