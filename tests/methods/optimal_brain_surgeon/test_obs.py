"""Optimal brain surgeon on linear maps, against brute force."""

import tracemalloc

import numpy as np
import pytest

from tfcomp.methods.optimal_brain_surgeon import obs, triangles
from tfcomp.model.linear import add_squares


def problem(inputs, outputs, seed=0):
    """Correlated inputs, for compensation to have something to work with."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(4 * inputs, inputs)) @ rng.normal(size=(inputs, inputs))
    return rng.normal(size=(inputs, outputs)), x.T @ x


def loss(weight, new, hessian):
    return np.sum((new - weight) * (hessian @ (new - weight)))


def best_without(weight, hessian, gone):
    """The exact minimiser with some weights at zero, by the normal equations."""
    on = np.setdiff1d(np.arange(len(weight)), gone)
    new = np.zeros_like(weight)
    new[on] = np.linalg.solve(hessian[np.ix_(on, on)], hessian[on] @ weight)
    return new


def inverse_by_recursion(samples, alpha):
    """The inverse of `alpha * I + mean of x x.T`, as the paper has it: a rank-1 step for each x."""
    inverse = np.eye(samples.shape[1]) / alpha
    for x in samples:
        moved = inverse @ x
        inverse -= np.outer(moved, moved) / (len(samples) + x @ moved)
    return inverse


def test_the_procedure_of_the_paper():
    """Step by step: the recursion over the weights left, the least saliency, all others moved."""
    rng = np.random.default_rng(0)
    x, weight, alpha = rng.normal(size=(40, 7)) @ rng.normal(size=(7, 7)), rng.normal(size=7), 1e-4
    hessian = alpha * np.eye(7) + x.T @ x / 40
    left, new = np.arange(7), weight.copy()
    for pruned in range(1, 6):
        inverse = inverse_by_recursion(x[:, left], alpha)
        q = np.argmin(new[left] ** 2 / (2 * np.diagonal(inverse)))
        new[left] -= new[left[q]] / inverse[q, q] * inverse[:, q]
        new[left[q]], left = 0, np.delete(left, q)
        kept = obs.greedy(weight[:, None], hessian, np.ones((7, 1), bool), pruned)
        np.testing.assert_array_equal(np.flatnonzero(kept), left)
        found = obs.refit(weight[:, None], hessian, kept)[:, 0]
        np.testing.assert_allclose(found, new, rtol=1e-5, atol=1e-8)


def test_removal_by_hand():
    """H = [[2, 1], [1, 2]] and w = (1, 3): without w_0 the minimum is at 3.5 and costs 1.5."""
    inverse = np.array([[2.0, -1.0], [-1.0, 2.0]]) / 3
    new, left = obs.remove(np.array([1.0, 3.0]), inverse, np.array(0))
    np.testing.assert_allclose(new, [0, 3.5])
    np.testing.assert_allclose(left, [[0, 0], [0, 0.5]], atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_picks_the_best_weight_and_the_exact_minimiser(seed):
    weight, hessian = problem(8, 1, seed)
    every = [best_without(weight[:, 0], hessian, [i]) for i in range(8)]
    losses = [loss(weight[:, 0], new, hessian) for new in every]
    kept = obs.greedy(weight, hessian, weight != 0, pruned=1)
    assert np.flatnonzero(~kept[:, 0]).tolist() == [np.argmin(losses)]
    new = obs.refit(weight, hessian, kept)
    np.testing.assert_allclose(new[:, 0], every[np.argmin(losses)], rtol=1e-6, atol=1e-9)
    direct, _ = obs.remove(weight[:, 0], np.linalg.inv(hessian), np.argmin(losses))
    np.testing.assert_allclose(direct, new[:, 0], rtol=1e-6, atol=1e-9)


def test_magnitude_takes_the_wrong_weight_where_this_does_not():
    # The smallest weight is on the largest input.
    weight, hessian = np.array([[0.5], [1.0]]), np.diag([100.0, 1.0])
    assert obs.greedy(weight, hessian, weight != 0, 1).ravel().tolist() == [True, False]


def test_greedy_against_brute_force():
    weight, hessian = problem(6, 3)
    kept = obs.greedy(weight, hessian, weight != 0, pruned=9)
    gone, current = [set(), set(), set()], weight.copy()
    for _ in range(9):
        best = None
        for column in range(3):
            for i in set(range(6)) - gone[column]:
                new = best_without(weight[:, column], hessian, sorted(gone[column] | {i}))
                rise = loss(weight[:, column], new, hessian) - loss(
                    weight[:, column], current[:, column], hessian
                )
                if best is None or rise < best[0]:
                    best = rise, column, i, new
        _, column, i, new = best
        gone[column].add(i)
        current[:, column] = new
    for column in range(3):
        assert set(np.flatnonzero(~kept[:, column])) == gone[column]
    np.testing.assert_allclose(obs.refit(weight, hessian, kept), current, atol=1e-8)


@pytest.mark.parametrize("block", [1, 3, 128])
def test_sweep_against_inverting_anew_for_every_input(block):
    weight, hessian = problem(7, 4)
    new, kept = obs.sweep(weight, hessian, weight != 0, pruned=14, block=block)
    assert np.count_nonzero(kept) == 14
    current = weight.copy()
    for row in range(7):
        inverse = np.linalg.inv(hessian[row:, row:])
        error = np.where(kept[row], 0, current[row]) / inverse[0, 0]
        current[row:] -= np.outer(inverse[0], error)
        current[row, ~kept[row]] = 0
    np.testing.assert_allclose(new, current, atol=1e-8)


def test_m_by_n_has_its_zeros_in_every_group():
    weight, hessian = problem(10, 5)
    _, kept = obs.sweep(weight, hessian, weight != 0, pruned=25, block=3, m_by_n=(2, 4))
    assert (~kept[:8]).reshape(2, 4, 5).sum(axis=1).tolist() == [[2] * 5] * 2
    # Of the last group of four two inputs do not exist: they are its zeros.
    assert kept[8:].all()


@pytest.mark.parametrize("method", ["greedy", "sweep"])
@pytest.mark.parametrize("sparsity", [0.0, 0.33, 0.5, 0.9])
def test_sparsity_is_exact_and_the_error_below_that_of_magnitude(method, sparsity):
    weight, hessian = problem(12, 9, seed=3)
    new, kept = obs.prune(weight, hessian, sparsity, method)
    zeros = int(sparsity * weight.size + 0.5)
    assert np.count_nonzero(~kept) == np.count_nonzero(new == 0) == zeros
    smallest = weight.copy()
    smallest.flat[np.argsort(np.abs(weight), axis=None)[:zeros]] = 0
    if sparsity:
        assert obs.error(weight, new, hessian) < 0.8 * obs.error(weight, smallest, hessian)
    else:
        np.testing.assert_array_equal(new, weight)


@pytest.mark.parametrize("method", ["greedy", "sweep"])
def test_what_is_zero_stays_zero_and_counts(method):
    weight, hessian = problem(10, 6)
    weight[::3] = 0
    new, kept = obs.prune(weight, hessian, 0.6, method)
    assert np.count_nonzero(~kept) == 36
    np.testing.assert_array_equal(new[::3], 0)
    _, same = obs.prune(weight, hessian, 0.1, method)
    np.testing.assert_array_equal(same, weight != 0)


@pytest.mark.parametrize("method", ["greedy", "sweep"])
def test_inputs_that_are_never_active_go_first(method):
    weight, hessian = problem(10, 6)
    hessian[[2, 5]] = 0
    hessian[:, [2, 5]] = 0
    new, kept = obs.prune(weight, hessian, 0.2, method, damping=1e-6)
    if method == "greedy":
        assert not kept[[2, 5]].any()
        assert obs.error(weight, new, hessian) < 1e-12
    assert np.isfinite(new).all()


@pytest.fixture(params=[7, 64])
def narrow(request, monkeypatch):
    """Blocks so narrow that a small matrix has many, the last one of another size."""
    monkeypatch.setattr(triangles, "_WIDTH", request.param)
    monkeypatch.setattr(obs, "_ROWS", request.param)


def test_factors_in_place(narrow):
    _, hessian = problem(150, 1)
    before, inverse = hessian.copy(), np.linalg.inv(hessian)
    with triangles.inverse_factor(hessian) as found:
        factor = np.triu(found)
    np.testing.assert_allclose(factor, np.linalg.cholesky(inverse).T, atol=1e-9 * inverse.max())
    np.testing.assert_array_equal(hessian, before)
    triangles.factorize(hessian)
    upper = np.triu(hessian)
    np.testing.assert_allclose(upper @ upper.T, before, rtol=1e-12, atol=1e-12 * before.max())


def test_what_cannot_be_factorized_is_left_as_it_was(narrow):
    hessian = -np.eye(150) + 0.5
    before = hessian.copy()
    with pytest.raises(np.linalg.LinAlgError), triangles.inverse_factor(hessian):
        pass
    np.testing.assert_array_equal(hessian, before)


def test_solving_in_blocks(narrow):
    weight, hessian = problem(150, 1)
    found = triangles.solve(hessian.copy(), hessian @ weight[:, 0])
    np.testing.assert_allclose(found, weight[:, 0], rtol=1e-6)


@pytest.mark.parametrize("sparsity", [0.1, 0.5])
def test_blocks_change_no_result(narrow, sparsity, monkeypatch):
    """Pruned in blocks and as a whole, the latter by explicit inverses in double precision."""
    weight, hessian = problem(150, 5)
    weight, before = weight.astype("float32"), hessian.copy()
    new, kept = obs.prune(weight, hessian, sparsity, "sweep")
    np.testing.assert_array_equal(hessian, before)
    whole = before + 0.01 * np.diag(before).mean() * np.eye(150)
    with monkeypatch.context() as patch:
        patch.setattr(triangles, "_WIDTH", 1000)
        _, same = obs.sweep(weight, whole.copy(), weight != 0, round(sparsity * weight.size))
    np.testing.assert_array_equal(kept, same)
    for column in range(5):
        gone = np.flatnonzero(~kept[:, column])
        best = best_without(weight.astype("float64"), whole, gone)[:, column]
        np.testing.assert_allclose(new[:, column], best, rtol=1e-4, atol=1e-4)
    change, old = (new - weight).astype("float64"), weight.astype("float64")
    wanted = np.sum(change * (before @ change)) / np.sum(old * (before @ old))
    assert obs.error(weight, new, before) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(("outputs", "sparsity"), [(8, 0.7), (8, 0.05)])
def test_no_more_memory_than_two_hessians(outputs, sparsity):
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(1, 64, 1600)).astype("float32")
    weight = rng.normal(size=(1600, outputs)).astype("float32")
    tracemalloc.start()
    hessian = np.zeros((1, 1600, 1600))
    add_squares(hessian, samples)
    (hessian,) = hessian
    new, _ = obs.prune(weight, hessian, sparsity, "sweep")
    obs.error(weight, new, hessian)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Blocks of 512 are large beside a matrix of 1600.
    blocks = 3 * 512 * 1600 * 8
    assert peak <= obs.needed_bytes(1, 1600, outputs, sparsity, "sweep") + blocks
    assert peak <= 2 * hessian.nbytes + blocks
