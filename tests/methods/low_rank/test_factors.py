"""Chains of kernels: worked out by hand, and against numpy's own decompositions."""

import numpy as np
import pytest

from tfcomp.methods.low_rank import factors

METHODS = ("svd", "spatial", "tucker")


def kernel(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_energy_by_hand():
    """Singular values 3, 2, 1: squares 9, 4, 1 of 14, so that 9/14 = 0.64 and 13/14 = 0.93."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 3)))[0] for n in (5, 4))
    squares = factors.spectrum(left @ np.diag([3, 2, 1]) @ right.T)
    np.testing.assert_allclose(squares, [9, 4, 1, 0], atol=1e-12)
    ranks = {0.1: 1, 0.64: 1, 0.65: 2, 0.92: 2, 9 / 14: 1, 13 / 14: 2, 0.93: 3, 1.0: 3}
    assert {energy: factors.rank_of(energy, squares) for energy in ranks} == ranks
    # Kernels that have a rank in common: 10 + 4 of 18 at rank one, 13.5 + 4 at rank two.
    pair = np.array([[10, 3.5, 0.5], [4, 0, 0]])
    assert factors.rank_of(14 / 18, pair) == 1 and factors.rank_of(14 / 18 + 1e-6, pair) == 2
    assert factors.rank_of(0.98, pair) == 3
    assert factors.rank_of(1.0, np.zeros(4)) == 1


def test_tucker_keeps_what_is_asked_for():
    """Each side may lose half of it: 0.85 asks for 0.925 and 0.9 for 0.95 of 13/14 = 0.929."""
    window = np.array([0.6, 0.8])[:, None, None]
    whole = window * np.diag([3.0, 2, 1])
    for unfolded in factors.unfoldings(whole, "tucker"):
        squares = factors.spectrum(unfolded)
        np.testing.assert_allclose(squares, [9, 4, 1], atol=1e-12)
        for energy, rank in ((0.85, 2), (0.9, 3)):
            assert [factors.rank_of(e, squares) for e in factors.shares(energy, "tucker")] == [
                rank
            ] * 2
    chain = factors.chain_of(whole, "tucker", (2, 2))
    np.testing.assert_allclose(factors.product(chain), window * np.diag([3.0, 2, 0]), atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4), (3, 2, 5, 4), (2, 3, 2, 5, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_full_rank_is_exact(shape, method):
    if method != "svd" and len(shape) == 2:
        return
    whole = kernel(*shape)
    ranks = [min(matrix.shape) for matrix in factors.unfoldings(whole, method)]
    chain = factors.chain_of(whole, method, ranks)
    np.testing.assert_allclose(factors.product(chain), whole, atol=1e-12)
    window = shape[:-2]
    for part, axes in zip(chain, factors.covered(method, len(window)), strict=True):
        assert part.shape[:-2] == tuple(n if i in axes else 1 for i, n in enumerate(window))


@pytest.mark.parametrize("rank", [1, 3])
def test_matrices_are_the_best_of_their_rank(rank):
    """Eckart and Young: the error are the squares of the singular values that go."""
    whole = kernel(3, 3, 5, 4)
    for method, matrix in [
        ("svd", whole.reshape(45, 4)),
        ("spatial", whole.transpose(0, 2, 1, 3).reshape(15, 12)),
    ]:
        lost = np.linalg.svd(matrix, compute_uv=False)[rank:] ** 2
        found = factors.product(factors.chain_of(whole, method, [rank]))
        assert np.sum((whole - found) ** 2) == pytest.approx(np.sum(lost))


def test_tucker_is_better_than_the_two_sides_by_themselves():
    whole = kernel(3, 3, 8, 6)
    left, right = (
        np.linalg.svd(side)[0]
        for side in (
            whole.transpose(2, 0, 1, 3).reshape(8, -1),
            whole.transpose(3, 0, 1, 2).reshape(6, -1),
        )
    )
    left, right = left[:, :3], right[:, :2]
    plain = np.einsum("hwcn,ca,nb,da,mb->hwdm", whole, left, right, left, right)
    found = factors.product(factors.chain_of(whole, "tucker", (3, 2)))
    errors = [np.sum((whole - each) ** 2) for each in (found, plain)]
    assert errors[0] < errors[1]
    # What is kept is the square of the core.
    core = factors.chain_of(whole, "tucker", (3, 2))[1]
    assert errors[0] == pytest.approx(np.sum(whole**2) - np.sum(core**2))


def samples(count, inputs, outputs, matrix, seed=3):
    """Correlated inputs, outputs that the matrix makes of them, and their moments."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, inputs)) @ rng.normal(size=(inputs, inputs))
    y = x @ matrix.reshape(inputs, outputs) + 0.1 * rng.normal(size=(count, outputs))
    return x, y, x.T @ x, x.T @ y


def test_reduced_rank_regression():
    """As written out on the samples: least squares, then the components of what it predicts."""
    whole = kernel(3, 3, 2, 4)
    x, y, gram, cross = samples(200, 18, 4, whole)
    predicted = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    u, s, v = np.linalg.svd(predicted, full_matrices=False)
    expected = (u[:, :2] * s[:2]) @ v[:2]
    start = factors.chain_of(whole, "svd", [2])
    chain = factors.fitted(start, whole, "svd", gram, cross)
    assert [part.shape for part in chain] == [(3, 3, 2, 2), (1, 1, 2, 4)]
    found = factors.product(chain)
    np.testing.assert_allclose(x @ found.reshape(18, 4), expected, rtol=1e-3, atol=1e-3)
    error = factors.error(found, gram, cross, np.sum(y**2))
    assert error == pytest.approx(np.sum((y - expected) ** 2), rel=1e-5)
    plain = factors.product(start).reshape(18, 4)
    assert error < 0.9 * np.sum((y - x @ plain) ** 2)


@pytest.mark.parametrize(("method", "ranks"), [("spatial", [3]), ("tucker", (2, 2))])
def test_last_factor_is_fitted(method, ranks):
    """What is left is orthogonal to all that the last kernel has to work with."""
    whole = kernel(3, 2, 3, 4)
    x, y, gram, cross = samples(200, 18, 4, whole)
    start = factors.chain_of(whole, method, ranks)
    chain = factors.fitted(start, whole, method, gram, cross)
    for a, b in zip(chain[:-1], start[:-1]):
        np.testing.assert_array_equal(a, b)
    left = y - x @ factors.product(chain).reshape(18, 4)
    first = factors.product(chain[:-1])
    images = x.reshape(-1, 3, 2, 3)
    # Spatial: for each place along the other axis by itself. Tucker: the whole window.
    features = (
        np.einsum("bhwc,hxcr->bwr", images, first)
        if method == "spatial"
        else np.einsum("bhwc,hwcr->br", images, first)
    ).reshape(len(x), -1)
    assert np.max(np.abs(features.T @ left)) < 1e-4 * np.max(np.abs(features.T @ y))
    before = y - x @ factors.product(start).reshape(18, 4)
    assert np.sum(left**2) < np.sum(before**2)


def test_inputs_that_are_never_there_change_nothing():
    whole = kernel(6, 4)
    x, y, *_ = samples(100, 6, 4, whole)
    x[:, 2] = 0
    start = factors.chain_of(whole, "svd", [4])
    chain = factors.fitted(start, whole, "svd", x.T @ x, x.T @ y)
    np.testing.assert_allclose(factors.product(chain)[2], whole[2], atol=1e-4)
    chain = factors.fitted(start, whole, "svd", np.zeros((6, 6)), np.zeros((6, 4)))
    np.testing.assert_allclose(factors.product(chain), whole, atol=1e-9)
