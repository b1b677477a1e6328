"""Selection and refitting, against least squares on the samples themselves."""

import numpy as np
import pytest

from tfcomp.methods.channel_pruning.normal_equations import (
    NormalEquations,
    Quotas,
    block_obs,
    lasso,
)


def problem(x, y, weight, owners, damping=0.0):
    alive = np.ones(x.shape[1], bool)
    return NormalEquations(x.T @ x, x.T @ y, float(np.sum(y**2)), weight, owners, alive, damping)


def make(rng, channels=5, window=2, outputs=3, samples=60):
    x = rng.normal(size=(samples, 6)) @ rng.normal(size=(6, channels * window))
    x = np.maximum(x + rng.normal(size=x.shape), 0)
    weight = rng.normal(size=(channels * window, outputs))
    # Inputs of a window are not side by side.
    return x, x @ weight, weight, np.tile(np.arange(channels), window)


def loss(x, y, columns):
    if not columns.any():
        return np.sum(y**2)
    best = np.linalg.lstsq(x[:, columns], y, rcond=None)[0]
    return np.sum((y - x[:, columns] @ best) ** 2)


def test_refit_by_hand():
    """Two inputs that are equal, and one that is alone: the first takes over for the second."""
    x = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 1.0], [0.0, 0.0, 1.0]])
    weight = np.array([[1.0], [2.0], [5.0]])
    found = problem(x, x @ weight, weight, np.arange(3))
    new = found.refit(np.array([True, False, True]))
    np.testing.assert_allclose(new, [[3.0], [0.0], [5.0]], atol=1e-6)
    assert found.error(new) < 1e-6
    # Without refitting: (-2, -4, 0) of (3, 11, 5).
    assert found.error(weight * [[1], [0], [1]]) == pytest.approx(20 / 155, rel=1e-5)


def test_what_the_data_do_not_tell_stays():
    x = np.array([[1.0, 0.0], [2.0, 0.0]])
    weight = np.array([[1.0], [7.0]])
    found = problem(x, x @ weight, weight, np.arange(2), damping=0.1)
    np.testing.assert_allclose(found.refit(np.ones(2, bool)), weight)


@pytest.mark.parametrize("seed", range(5))
def test_block_obs_drops_what_costs_least_when_all_others_are_refitted(seed):
    rng = np.random.default_rng(seed)
    parts = [make(rng), make(rng, outputs=2)]
    kept = block_obs([problem(*part) for part in parts], Quotas(np.zeros(5, int), np.array([2])))
    left = np.ones(5, bool)
    for _ in range(3):
        costs = {}
        for channel in np.flatnonzero(left):
            rest = left.copy()
            rest[channel] = False
            costs[channel] = sum(loss(x, y, rest[owners]) for x, y, _, owners in parts)
        left[min(costs, key=costs.get)] = False
    assert kept.tolist() == left.tolist()


def test_each_cell_keeps_its_number():
    rng = np.random.default_rng(0)
    cells = np.array([0, 1, 0, 1, 1])
    for choose in (block_obs, lasso):
        kept = choose([problem(*make(rng))], Quotas(cells, np.array([1, 2])))
        assert [int(kept[cells == cell].sum()) for cell in (0, 1)] == [1, 2]


def test_lasso_by_hand():
    """Channels that do not overlap are taken up in the order of what they add."""
    x, weight = np.eye(4), np.array([[3.0], [-1.0], [2.0], [0.5]])
    found = problem(x, x @ weight, weight, np.arange(4))
    for number, wanted in ((1, [0]), (2, [0, 2]), (3, [0, 1, 2])):
        kept = lasso([found], Quotas(np.zeros(4, int), np.array([number])))
        assert np.flatnonzero(kept).tolist() == wanted


@pytest.mark.parametrize("seed", range(3))
def test_lasso_follows_the_path_of_one_scale_for_each_channel(seed):
    """Against scikit-learn on the outputs themselves, one column for each channel."""
    from sklearn.linear_model import lars_path

    rng = np.random.default_rng(seed)
    x, y, weight, owners = make(rng, channels=6)
    columns = [(x[:, owners == c] @ weight[owners == c]).ravel() for c in range(6)]
    _, active, _ = lars_path(np.stack(columns, 1), y.ravel(), method="lar", max_iter=3)
    kept = lasso([problem(x, y, weight, owners)], Quotas(np.zeros(6, int), np.array([3])))
    assert np.flatnonzero(kept).tolist() == sorted(active)


def test_inputs_of_other_channels_stay():
    rng = np.random.default_rng(1)
    x, y, weight, owners = make(rng)
    owners = np.where(owners == 4, -1, owners)
    kept = block_obs([problem(x, y, weight, owners)], Quotas(np.zeros(4, int), np.array([1])))
    left = np.ones(4, bool)
    for _ in range(3):
        costs = {}
        for channel in np.flatnonzero(left):
            rest = left.copy()
            rest[channel] = False
            costs[channel] = loss(x, y, np.append(rest, True)[owners])
        left[min(costs, key=costs.get)] = False
    assert kept.tolist() == left.tolist()
