"""Mixtures of Gaussians over weights: a density, its gradients, and what they end as.

Karen Ullrich, Edward Meeds, Max Welling, "Soft Weight-Sharing for Neural Network Compression",
arXiv:1702.04008; Steven J. Nowlan, Geoffrey E. Hinton, "Simplifying Neural Networks by Soft
Weight-Sharing", 1992.

A mixture is one vector of parameters: the means of components 1 to J, the log-variances of 0 to J,
the logits of the mixing proportions of 1 to J among each other, and the logit of that of
component 0. Component 0 has the mean zero.
"""

import math
from typing import NamedTuple

import keras
import numpy as np

# Densities, of all components together, that are held at a time: what a processor's cache holds,
# and more only where there would be too many parts.
_CHUNK, _MOST, _PARTS = 1 << 18, 1 << 24, 64


class Priors(NamedTuple):
    """What is known of a mixture beforehand; each `None` where nothing is.

    Attributes:
        zero_precision: Shape and rate of the Gamma density of `1 / variance` of component 0.
        precision: Shape and rate of that of the other components.
        zero_proportion: `(a, b)` of the Beta density of the mixing proportion of component 0, which
            without it is not trained.
    """

    zero_precision: tuple | None = None
    precision: tuple | None = None
    zero_proportion: tuple | None = None


def components(parameters):
    """How many there are beside component 0."""
    return (parameters.shape[0] - 2) // 3


def split(parameters):
    """Returns means, log-variances, logits of the others, and logit of component 0."""
    number = components(parameters)
    ends = (number, 2 * number + 1, 3 * number + 1)
    return (
        parameters[: ends[0]],
        parameters[ends[0] : ends[1]],
        parameters[ends[1] : ends[2]],
        parameters[ends[2]],
    )


def initial(values, number, zero_proportion):
    """The parameters training begins with: means evenly over the range, neighbours overlapping.

    Args:
        values: List of arrays, the pretrained weights.
        number: Components beside component 0.
        zero_proportion: The mixing proportion of component 0.

    Returns:
        Vector of parameters in single precision.
    """
    least = min(float(value.min()) for value in values)
    most = max(float(value.max()) for value in values)
    spacing = (most - least) / max(number - 1, 1) or 1.0
    return np.concatenate(
        [
            np.linspace(least, most, number),
            np.full(number + 1, 2 * math.log(spacing)),
            np.zeros(number),
            [math.log(zero_proportion / (1 - zero_proportion))],
        ]
    ).astype("float32")


def log_joint(weights, parameters):
    """`log π_j N(w | μ_j, σ_j²)` of a vector of weights, one row for each component."""
    ops = keras.ops
    means, log_variances, log_mixing = _gaussians(parameters)
    distance = weights - means[:, None]
    exponent = distance**2 * ops.exp(-log_variances)[:, None]
    scale = log_mixing - 0.5 * (log_variances + math.log(2 * math.pi))
    return scale[:, None] - 0.5 * exponent


def _gaussians(parameters):
    """Means, log-variances and logarithms of the mixing proportions, component 0 first."""
    ops = keras.ops
    means, log_variances, logits, zero_logit = split(parameters)
    others = ops.log_sigmoid(-zero_logit) + ops.log_softmax(logits)
    log_mixing = ops.concatenate([ops.log_sigmoid(zero_logit)[None], others])
    return ops.concatenate([ops.zeros((1,), means.dtype), means]), log_variances, log_mixing


def pull(weights, parameters):
    """The gradient of `-log p(W)` with respect to the weights, and what mixtures learn from them.

    Weights that are exactly zero are pruned, and are left out.

    Args:
        weights: Vector, single precision.
        parameters: Vector of parameters.

    Returns:
        The gradient `Σ_j r_j (w - μ_j) / σ_j²`, with `r_j` the responsibilities; and an array
        `(3, components + 1)` of the sums of `r`, `r (w - μ)` and `r (w - μ)²` over the weights.
    """
    ops = keras.ops
    number = components(parameters) + 1
    held = min(max(_CHUNK, weights.shape[0] * number // _PARTS), _MOST)
    size = max(1, held // number)
    parts, total = [], 0.0
    for begin in range(0, weights.shape[0], size):
        part, sums = _pull(weights[begin : begin + size], parameters)
        parts.append(part)
        total = total + sums
    return (ops.concatenate(parts) if len(parts) > 1 else parts[0]), total


def _pull(weights, parameters):
    ops = keras.ops
    means, log_variances, _ = _gaussians(parameters)
    alive = ops.cast(weights != 0, weights.dtype)
    # A softmax of log-densities, so that far tails neither vanish nor overflow. Written out, since
    # backends transpose for one that is not over the last axis.
    joint = log_joint(weights, parameters)
    relative = ops.exp(joint - ops.max(joint, axis=0))
    responsible = relative * (alive / ops.sum(relative, axis=0))
    distance = weights - means[:, None]
    pulled = responsible * distance
    gradient = ops.sum(pulled * ops.exp(-log_variances)[:, None], axis=0)
    sums = [ops.sum(s, axis=1) for s in (responsible, pulled, pulled * distance)]
    return gradient, ops.stack(sums)


def parameter_gradient(sums, parameters, priors):
    """The gradient of `-log p(W)` and of the priors' `-log p` with respect to the parameters.

    Args:
        sums: Array `(3, components + 1)`, summed over all weights, as `pull` returns it.
        parameters: Vector of parameters.
        priors: `Priors`.
    """
    ops = keras.ops
    _, log_variances, logits, zero_logit = split(parameters)
    counts, pulled, squared = sums[0], sums[1], sums[2]
    precision = ops.exp(-log_variances)
    means = -(pulled * precision)[1:]
    spread = 0.5 * (counts - squared * precision)
    # Gamma(λ; a, b) with λ = 1 / σ²: its -log is (a - 1) log σ² + b λ.
    gammas = [priors.zero_precision] + [priors.precision] * components(parameters)
    shapes = ops.convert_to_tensor([0.0 if g is None else g[0] - 1.0 for g in gammas], "float32")
    rates = ops.convert_to_tensor([0.0 if g is None else float(g[1]) for g in gammas], "float32")
    spread = spread + shapes - rates * precision
    others = ops.sum(counts[1:])
    mixing = ops.softmax(logits) * others - counts[1:]
    if priors.zero_proportion is None:
        zero = ops.zeros_like(zero_logit)
    else:
        # Beta(π; a, b) is worth a - 1 weights in component 0 and b - 1 elsewhere.
        a, b = priors.zero_proportion
        proportion = ops.sigmoid(zero_logit)
        zero = proportion * (others + b - 1) - (1 - proportion) * (counts[0] + a - 1)
    return ops.concatenate([means, spread, mixing, zero[None]])


class Gaussians(NamedTuple):
    """Components as arrays, component 0 first: means, variances and mixing proportions."""

    means: np.ndarray
    variances: np.ndarray
    mixing: np.ndarray


def gaussians(parameters):
    """The components of a vector of parameters, in double precision on the host."""
    means, log_variances, logits, zero_logit = split(np.asarray(parameters, np.float64))
    others = np.exp(logits - logits.max())
    zero = 1 / (1 + np.exp(-zero_logit))
    mixing = np.concatenate([[zero], (1 - zero) * others / others.sum()])
    return Gaussians(np.concatenate([[0.0], means]), np.exp(log_variances), mixing)


def merge(mixture, threshold):
    """Makes one component of two whose symmetrised divergence is below a threshold.

    The closest two at a time, weighted by their mixing proportions. What joins component 0 has the
    mean zero.

    Args:
        mixture: `Gaussians`.
        threshold: Bound of `KL(p | q) + KL(q | p)`.

    Returns:
        The remaining `Gaussians`.
    """
    means, variances, mixing = (np.array(part, np.float64) for part in mixture)
    while len(means) > 1:
        apart = (means[:, None] - means) ** 2
        ratio = (variances[:, None] + apart) / variances
        divergence = (ratio + ratio.T) / 2 - 1
        divergence[np.tril_indices(len(means))] = np.inf
        first, second = np.unravel_index(np.argmin(divergence), divergence.shape)
        if divergence[first, second] >= threshold:
            break
        pair = [first, second]
        share = mixing[pair] / mixing[pair].sum()
        mean = share @ means[pair] if first else 0.0
        variances[first] = share @ (variances[pair] + (means[pair] - mean) ** 2)
        means[first], mixing[first] = mean, mixing[pair].sum()
        means, variances, mixing = (np.delete(a, second) for a in (means, variances, mixing))
    return Gaussians(means, variances, mixing)


def assign(value, mixture):
    """The component most responsible for each weight; component 0 for what is exactly zero."""
    scale = np.log(mixture.mixing) - np.log(mixture.variances) / 2
    best, index = np.full(value.shape, -np.inf), np.zeros(value.shape, np.int32)
    wide = value.astype(np.float64)
    for j, (mean, variance) in enumerate(zip(mixture.means, mixture.variances)):
        score = scale[j] - (wide - mean) ** 2 / (2 * variance)
        better = score > best
        best[better], index[better] = score[better], j
    index[value == 0] = 0
    return index
