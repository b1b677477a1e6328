"""Mixtures of Gaussians in numpy, from the formulas of arXiv:1702.04008."""

import numpy as np


def components(parameters):
    """Means, variances and mixing proportions; the first component has the mean zero.

    Proportions are a logistic function for that one, and a softmax for the others among each other.
    """
    number = (len(parameters) - 2) // 3
    parameters = np.asarray(parameters, np.float64)
    means = np.concatenate([[0], parameters[:number]])
    variances = np.exp(parameters[number : 2 * number + 1])
    others = np.exp(parameters[2 * number + 1 : -1])
    zero = 1 / (1 + np.exp(-parameters[-1]))
    mixing = np.concatenate([[zero], (1 - zero) * others / others.sum()])
    return means, variances, mixing


def joint(weights, parameters):
    """`π_j N(w | μ_j, σ_j²)`, a row for each weight."""
    means, variances, mixing = components(parameters)
    density = np.exp(-((weights[:, None] - means) ** 2) / (2 * variances))
    return mixing * density / np.sqrt(2 * np.pi * variances)


def divergences(parameters):
    """`KL(p | q) + KL(q | p)` of all pairs of two components."""
    means, variances, _ = components(parameters)
    first, second = np.triu_indices(len(means), 1)

    def one_way(p, q):
        apart = (means[p] - means[q]) ** 2
        return (np.log(variances[q] / variances[p]) + (variances[p] + apart) / variances[q] - 1) / 2

    return one_way(first, second) + one_way(second, first)
