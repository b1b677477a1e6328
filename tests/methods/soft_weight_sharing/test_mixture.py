"""The mixture of Gaussians, against its density written out in numpy."""

import keras
import numpy as np
import pytest

from tests.methods.soft_weight_sharing import mixture_reference as reference
from tfcomp.methods.soft_weight_sharing import mixture
from tfcomp.methods.soft_weight_sharing.mixture import Gaussians, Priors

PRIORS = Priors(zero_precision=(7.0, 0.2), precision=(3.0, 0.1), zero_proportion=(5.0, 2.0))


def negative_log(weights, parameters, priors):
    """`-log p(W)` and the priors, from the densities themselves, in double precision."""
    _, variances, (zero, *others) = reference.components(parameters)
    total = -np.sum(np.log(reference.joint(weights, parameters).sum(axis=1))[weights != 0])
    gammas = [priors.zero_precision] + [priors.precision] * len(others)
    for variance, prior in zip(variances, gammas):
        if prior is not None:
            total -= (prior[0] - 1) * np.log(1 / variance) - prior[1] / variance
    if priors.zero_proportion is not None:
        a, b = priors.zero_proportion
        total -= (a - 1) * np.log(zero) + (b - 1) * np.log(1 - zero)
    return total


def differences(function, x, width=1e-5):
    """The gradient of a function of a vector by central differences."""
    steps = width * np.eye(len(x))
    return np.array([(function(x + s) - function(x - s)) / (2 * width) for s in steps])


@pytest.fixture
def weights():
    weights = np.random.default_rng(0).normal(size=40) * 0.4
    weights[::8] = 0
    return weights


@pytest.fixture
def parameters():
    rng = np.random.default_rng(1)
    means, spread = [-0.6, -0.1, 0.5], rng.normal(size=4) * 0.3 - 3
    return np.concatenate([means, spread, rng.normal(size=3), [0.4]])


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def pull(weights, parameters):
    tensors = [keras.ops.convert_to_tensor(v.astype("float32")) for v in (weights, parameters)]
    return mixture.pull(*tensors)


def slope(weights, parameters, priors):
    _, sums = pull(weights, parameters)
    tensor = keras.ops.convert_to_tensor(parameters.astype("float32"))
    return numpy(mixture.parameter_gradient(sums, tensor, priors))


def test_density(weights, parameters):
    tensors = [keras.ops.convert_to_tensor(v.astype("float32")) for v in (weights, parameters)]
    joint = numpy(mixture.log_joint(*tensors))
    density = np.log(np.exp(joint.astype(np.float64)).sum(axis=0))
    alive = weights != 0
    expected = negative_log(weights, parameters, Priors())
    np.testing.assert_allclose(-density[alive].sum(), expected, rtol=1e-5)


def test_gradient_of_weights_by_finite_differences(weights, parameters, monkeypatch):
    expected = differences(lambda w: negative_log(w, parameters, Priors()), weights)
    expected[weights == 0] = 0
    np.testing.assert_allclose(numpy(pull(weights, parameters)[0]), expected, rtol=2e-4, atol=1e-4)
    whole = [numpy(part) for part in pull(weights, parameters)]
    monkeypatch.setattr(mixture, "_CHUNK", 4 * 16)
    for part, full in zip(pull(weights, parameters), whole):
        np.testing.assert_allclose(numpy(part), full, rtol=1e-5, atol=1e-5)


def test_parts_are_few(weights, parameters, monkeypatch):
    sizes, of_part = [], mixture._pull
    monkeypatch.setattr(mixture, "_CHUNK", 1)
    monkeypatch.setattr(mixture, "_PARTS", 4)
    monkeypatch.setattr(mixture, "_pull", lambda w, p: sizes.append(len(w)) or of_part(w, p))
    pull(weights, parameters)
    assert sum(sizes) == len(weights) and 4 <= len(sizes) <= 5
    monkeypatch.setattr(mixture, "_MOST", 1)
    sizes.clear()
    pull(weights, parameters)
    assert sizes == [1] * len(weights)


@pytest.mark.parametrize("priors", [Priors(), PRIORS, Priors(precision=(3.0, 0.1))])
def test_gradient_of_the_mixture_by_finite_differences(weights, parameters, priors):
    expected = differences(lambda p: negative_log(weights, p, priors), parameters)
    if priors.zero_proportion is None:
        expected[-1] = 0
    np.testing.assert_allclose(slope(weights, parameters, priors), expected, rtol=5e-4, atol=2e-4)


def test_far_tails_are_finite():
    """A weight a thousand deviations from every mean is drawn to the nearest."""
    parameters = np.array([-1.0, 1, -10, -10, -10, 0, 0, 3])
    weights = np.array([7.0, -7])
    gradient, _ = pull(weights, parameters)
    np.testing.assert_allclose(numpy(gradient), 6 * np.exp(10) * np.array([1, -1]), rtol=1e-5)
    assert np.all(np.isfinite(slope(weights, parameters, PRIORS)))


def test_initial_by_hand():
    begin = mixture.initial([np.array([-1.0, 0.5]), np.array([[2.0]])], 4, 0.75)
    means, log_variances, logits, zero = mixture.split(begin)
    np.testing.assert_array_equal(means, [-1, 0, 1, 2])
    np.testing.assert_array_equal(log_variances, np.zeros(5))  # deviations of 1, the spacing
    np.testing.assert_array_equal(logits, np.zeros(4))
    np.testing.assert_allclose(zero, np.log(3), rtol=1e-6)
    found = mixture.gaussians(begin)
    np.testing.assert_allclose(found.mixing, [0.75, *[0.0625] * 4], rtol=1e-6)
    np.testing.assert_allclose(found.means, [0, -1, 0, 1, 2])
    assert np.all(np.isfinite(mixture.initial([np.ones(3)], 2, 0.5)))


def test_merging_by_hand():
    # KL both ways between N(1, 4) and N(3, 4): 2 * (2² / (2 * 4)) = 1; all others lie farther.
    components = Gaussians(
        np.array([0.0, 1, 3, 30]), np.array([1.0, 4, 4, 4]), np.array([0.4, 0.3, 0.1, 0.2])
    )
    assert len(mixture.merge(components, 0.99).means) == 4
    merged = mixture.merge(components, 1.01)
    np.testing.assert_allclose(merged.means, [0, 1.5, 30])
    np.testing.assert_allclose(merged.variances, [1, 4.75, 4])
    np.testing.assert_allclose(merged.mixing, [0.4, 0.4, 0.2])


def test_merging_into_the_component_at_zero_by_hand():
    components = Gaussians(np.array([0.0, 0.2]), np.array([1.0, 1.0]), np.array([0.75, 0.25]))
    merged = mixture.merge(components, 0.05)
    np.testing.assert_array_equal(merged.means, [0])
    np.testing.assert_allclose(merged.variances, [1.01])  # 0.25 * 0.2²
    np.testing.assert_allclose(merged.mixing, [1])


def test_assignment_by_hand():
    # Of equal deviations 1: from 0 to 2 at (4 + 2 log 9) / 4 = 2.0986.
    components = Gaussians(np.array([0.0, 2]), np.array([1.0, 1]), np.array([0.9, 0.1]))
    values = np.array([[-1, 2.09], [2.11, 0.0]])
    np.testing.assert_array_equal(mixture.assign(values, components), [[0, 0], [1, 0]])
