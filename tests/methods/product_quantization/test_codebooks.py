"""Product quantization of a matrix against numpy, written out entry by entry."""

import itertools

import numpy as np
import pytest

from tfcomp.methods.product_quantization import codebooks as pq


def problem(seed=0, positions=2, spaces=3, size=2, outputs=5, codewords=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(40, positions * spaces * size)) @ rng.normal(size=(12, 12))
    weight = rng.normal(size=(positions, spaces, size, outputs))
    y = x @ weight.reshape(12, outputs)
    books, codes = pq.cluster(weight, codewords, seed=0)
    return x, y, weight, books, codes


def squared(x, y, books, codes):
    weight = np.empty((codes.shape[0], len(books), books.shape[2], codes.shape[2]))
    for p, m, t in np.ndindex(*codes.shape):
        weight[p, m, :, t] = books[m, codes[p, m, t]]
    return np.sum((y - x @ weight.reshape(-1, codes.shape[2])) ** 2)


def test_clusters_are_nearest_means():
    _, _, weight, books, codes = problem(outputs=9)
    for p, m, t in np.ndindex(*codes.shape):
        distances = np.sum((books[m] - weight[p, m, :, t]) ** 2, axis=1)
        assert distances[codes[p, m, t]] == pytest.approx(distances.min())
    for m, k in itertools.product(range(3), range(3)):
        members = weight[:, m].swapaxes(1, 2)[codes[:, m] == k]
        np.testing.assert_allclose(books[m, k], members.mean(axis=0), atol=1e-9)


def test_few_different_vectors_are_exact():
    weight = np.ones((1, 2, 2, 4))
    weight[..., 2:] = -3
    books, codes = pq.cluster(weight, 3, seed=0)
    np.testing.assert_array_equal(pq.decode(books, codes), weight)


def test_error_is_that_of_the_samples():
    x, y, _, books, codes = problem()
    found = pq.error(pq.decode(books, codes), x.T @ x, x.T @ y, np.sum(y**2))
    assert found == pytest.approx(squared(x, y, books, codes))


def test_codewords_are_least_squares():
    """The design matrix of one codebook, written out, by numpy's `lstsq`."""
    x, y, _, books, codes = problem()
    m, rows = 1, np.arange(12).reshape(2, 3, 2)
    others = pq.decode(books, codes)
    others[:, m] = 0
    rest = y - x @ others.reshape(12, 5)
    blocks = []
    for t in range(5):
        design = np.zeros((len(x), 3, 2))
        for p in range(2):
            design[:, codes[p, m, t]] += x[:, rows[p, m]]
        blocks.append(design.reshape(len(x), 6))
    expected, *_ = np.linalg.lstsq(np.concatenate(blocks), rest.T.reshape(-1), rcond=None)
    own = rows[:, m].reshape(-1)
    gram = x.T @ x
    found = pq._codewords(books[m], codes[:, m], gram, rows[:, m], x[:, own].T @ rest)
    np.testing.assert_allclose(found.reshape(-1), expected, rtol=1e-5, atol=1e-7)


def test_codes_leave_the_least_error():
    x, y, _, books, _ = problem(positions=1, spaces=1, size=12, codewords=4)
    found = pq._nearest(books[0], x.T @ x, x.T @ y)
    for t in range(5):
        errors = [np.sum((y[:, t] - x @ codeword) ** 2) for codeword in books[0]]
        assert found[t] == np.argmin(errors)


@pytest.mark.parametrize("seed", range(3))
def test_every_sweep_lowers_the_error(seed):
    x, y, _, books, codes = problem(seed)
    gram, cross = x.T @ x, x.T @ y
    errors = [squared(x, y, books, codes)]
    for sweeps in (1, 2, 3):
        errors.append(squared(x, y, *pq.correct(books, codes, gram, cross, sweeps)))
    assert errors[1] < 0.9 * errors[0]
    assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(errors))


def test_dead_inputs_and_unused_codewords_are_harmless():
    x, y, weight, _, _ = problem()
    x[:, :3] = 0
    books, codes = pq.cluster(weight, 3, seed=0)
    codes[codes == 2] = 0
    books, codes = pq.correct(books, codes, x.T @ x, x.T @ y, 2)
    assert np.all(np.isfinite(books))
    books, codes = pq.correct(books, codes, 0 * x.T @ x, 0 * x.T @ y, 1)
    assert np.all(np.isfinite(books))
