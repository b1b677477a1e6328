"""Clusters of numbers on a line.

Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural Networks with
Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.
"""

import numpy as np

# The exact optimum takes time and memory in proportion to numbers times clusters.
EXACT = 1 << 16


def linear(ordered, clusters, seed):
    """Evenly between the least and the largest: large weights are few, and matter."""
    return np.linspace(ordered[0], ordered[-1], clusters)


def density(ordered, clusters, seed):
    """Evenly along the cumulative distribution: as many numbers around each."""
    return ordered[(np.arange(clusters) * 2 + 1) * len(ordered) // (2 * clusters)]


def random(ordered, clusters, seed):
    """Any of the numbers, each value once."""
    values = ordered[_first_of_equals(ordered)]
    return np.random.default_rng(seed).choice(values, clusters, replace=False)


def optimal(ordered, clusters, seed):
    """The centroids of least squared error, of at most `EXACT` numbers evenly along the order."""
    import kmeans1d

    ranks = np.linspace(0, len(ordered) - 1, min(len(ordered), EXACT)).astype(int)
    return kmeans1d.cluster(ordered[ranks], clusters).centroids


INITS = {init.__name__: init for init in (linear, density, random, optimal)}


def kmeans(values, clusters, init="linear", seed=0):
    """Divides numbers into at most `clusters` clusters, each number to its nearest centroid.

    Lloyd's algorithm from one of the paper's three initialisations, or from the optimum, which it
    leaves as it is. A cluster that loses all its numbers is dropped. Numbers of no more than
    `clusters` different values keep their values.

    Args:
        values: Array of one axis or more, not empty.
        clusters: How many clusters.
        init: `"linear"`, `"density"`, `"random"` or `"optimal"`; the last is the exact optimum up
            to 65,536 numbers, and of more the optimum of as many of them, improved on all.
        seed: Seed of `"random"`.

    Returns:
        Centroids, ascending, in double precision, and an array of the shape of `values` that holds
        the centroid of each by its index.
    """
    ordered = np.sort(values, axis=None).astype(np.float64)
    centroids = ordered[_first_of_equals(ordered)]
    if len(centroids) > clusters:
        centroids = lloyd(ordered, np.unique(INITS[init](ordered, clusters, seed)))
    index = nearest(values, centroids)
    used = np.bincount(index.reshape(-1), minlength=len(centroids)) > 0
    return centroids[used], (np.cumsum(used) - 1)[index]


def lloyd(ordered, centroids, iterations=1000):
    """Moves each centroid to the mean of the numbers nearest to it until none moves.

    Args:
        ordered: Ascending array.
        centroids: Ascending array without equals; one that no number is nearest to stays where
            it is.
        iterations: At most so many rounds.

    Returns:
        The centroids, ascending.
    """
    # In order, a cluster is a range, and its sum a difference.
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(iterations):
        inner = np.searchsorted(ordered, _between(centroids), side="right")
        ends = np.concatenate([[0], inner, [len(ordered)]])
        counts = np.diff(ends)
        moved = np.where(counts, np.diff(sums[ends]) / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids


def nearest(values, centroids):
    """Index of the nearest of ascending centroids, of the lower one halfway between two."""
    return np.searchsorted(_between(centroids), values, side="left")


def _between(centroids):
    return (centroids[1:] + centroids[:-1]) / 2


def _first_of_equals(ordered):
    return np.concatenate([[True], ordered[1:] != ordered[:-1]])
