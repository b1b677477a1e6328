"""k-means on a line, against the plain algorithm and against all partitions there are."""

import itertools

import numpy as np
import pytest

from tfcomp.methods.deep_compression import kmeans as kmeans_lib
from tfcomp.methods.deep_compression.kmeans import kmeans, lloyd, nearest


def reference(values, centroids):
    """Lloyd's algorithm by all distances."""
    while True:
        index = np.argmin(np.abs(values[:, None] - centroids), axis=1)
        new = centroids.copy()
        for k in range(len(centroids)):
            if np.any(index == k):
                new[k] = values[index == k].mean()
        if np.allclose(new, centroids, rtol=1e-14, atol=0):
            return new, index
        centroids = new


def squared_error(values, centroids, index):
    return np.sum((values - centroids[index]) ** 2)


def least_squared_error(values, clusters):
    """Over all divisions of the ordered values into ranges."""
    ordered = np.sort(values)
    errors = []
    for cuts in itertools.combinations(range(1, len(ordered)), clusters - 1):
        parts = np.split(ordered, cuts)
        errors.append(sum(np.sum((part - part.mean()) ** 2) for part in parts))
    return min(errors)


def test_by_hand():
    # From 0, 5 and 10: {0, 1}, {4, 5.5} and {10}; then nothing changes.
    values = np.array([4, 10, 0, 5.5, 1])
    centroids, index = kmeans(values, 3)
    np.testing.assert_array_equal(centroids, [0.5, 4.75, 10])
    np.testing.assert_array_equal(index, [1, 2, 0, 1, 0])


def test_initialisations_by_hand():
    ordered = np.array([0, 1, 1, 2, 3, 8, 9, 12.0])
    np.testing.assert_array_equal(kmeans_lib.linear(ordered, 4, 0), [0, 4, 8, 12])
    # The second, fourth, sixth and eighth eighth of the numbers: two around each.
    np.testing.assert_array_equal(kmeans_lib.density(ordered, 4, 0), [1, 2, 8, 12])
    chosen = kmeans_lib.random(ordered, 4, 0)
    assert len(set(chosen)) == 4 and set(chosen) <= set(ordered)
    assert np.any(chosen != kmeans_lib.random(ordered, 4, 1))


@pytest.mark.parametrize("init", ["linear", "density", "random"])
@pytest.mark.parametrize("clusters", [1, 2, 7, 32])
def test_against_all_distances(init, clusters):
    rng = np.random.default_rng(clusters)
    values = rng.standard_t(3, size=(40, 25))
    values = np.where(np.abs(values) < 0.5, np.sign(values) * 2, values)
    begin = np.unique(kmeans_lib.INITS[init](np.sort(values, axis=None), clusters, 5))
    centroids, index = kmeans(values, clusters, init, seed=5)
    expected, found = reference(values.reshape(-1), begin)
    used = np.unique(found)
    np.testing.assert_allclose(centroids, expected[used], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(used[index], found.reshape(values.shape))


@pytest.mark.parametrize("clusters", [1, 2, 3, 4])
def test_optimal_against_all_partitions(clusters):
    pytest.importorskip("kmeans1d")
    rng = np.random.default_rng(clusters)
    for _ in range(5):
        values = rng.normal(size=11) ** 3
        centroids, index = kmeans(values, clusters, "optimal")
        error = squared_error(values, centroids, index)
        assert error == pytest.approx(least_squared_error(values, clusters), rel=1e-9)


def test_optimal_of_many_numbers_is_as_good_as_any(monkeypatch):
    """Beyond the limit it is improved on all numbers, and so still close to the optimum."""
    pytest.importorskip("kmeans1d")
    values = np.random.default_rng(0).normal(size=4000)
    exact = squared_error(values, *kmeans(values, 16, "optimal"))
    monkeypatch.setattr(kmeans_lib, "EXACT", 500)
    near = squared_error(values, *kmeans(values, 16, "optimal"))
    linear = squared_error(values, *kmeans(values, 16, "linear"))
    assert exact <= near < 1.01 * exact and exact < linear


def test_few_different_values_stay():
    values = np.array([[0.1, -3, 0.1], [7, 7, -3]], "float32")
    for init in ("linear", "random"):
        centroids, index = kmeans(values, 3, init)
        np.testing.assert_array_equal(centroids.astype("float32")[index], values)


def test_a_centroid_without_numbers_stays_and_is_dropped():
    ordered = np.array([0.0, 1, 9, 10])
    np.testing.assert_array_equal(lloyd(ordered, np.array([0.5, 5, 9.5])), [0.5, 5, 9.5])
    np.testing.assert_array_equal(kmeans(ordered, 3)[0], [0.5, 9.5])


def test_halfway_goes_to_the_lower():
    np.testing.assert_array_equal(nearest(np.array([1.0, 1.5, 3]), np.array([1.0, 2])), [0, 0, 1])
