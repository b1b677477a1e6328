"""What least squares on a layer's outputs needs: sums of products of its inputs and outputs."""

from typing import NamedTuple

import numpy as np

from tfcomp.model.linear import add_squares
from tfcomp.model.watching import watching


class Moments(NamedTuple):
    """Sums over all samples and positions, for each group of a layer.

    `X` are the inputs of the layer as it is called now, and `Y` the outputs, without bias, that it
    had in the original model.

    Attributes:
        gram: `X.T @ X`, of shape `(groups, inputs, inputs)`.
        cross: `X.T @ Y`, of shape `(groups, inputs, outputs)`.
        energy: `|Y|**2`, of shape `(groups,)`.
        inputs: Sum of `X`, of shape `(groups, inputs)`.
        outputs: Sum of `Y`, of shape `(groups, outputs)`.
        count: Number of rows of `X`.
    """

    gram: np.ndarray
    cross: np.ndarray
    energy: np.ndarray
    inputs: np.ndarray
    outputs: np.ndarray
    count: int


def moments(runs, linears, matrices, batches):
    """Returns the `Moments` of a layer.

    Args:
        runs: Two functions of a batch: one runs the original model, one the model as it is now.
        linears: The `tfcomp.model.linear.LinearMap` of the layer in each of them.
        matrices: Its weight in the original model, an array `(groups, inputs, outputs)`.
        batches: The `tfcomp.model.data.Batches` of inputs.

    Raises:
        ValueError: If inputs of the layer are not finite.
    """
    groups, size, outputs = matrices.shape
    gram, cross = np.zeros((groups, size, size)), np.zeros((groups, size, outputs))
    energy, count = np.zeros(groups), 0
    inputs, wanted_sum = np.zeros((groups, size)), np.zeros((groups, outputs))
    for x in batches:
        calls = [_calls(run, linear.layer, x) for run, linear in zip(runs, linears)]
        for (args, kwargs), (new_args, new_kwargs) in zip(*calls, strict=True):
            before = linears[0].samples(args, kwargs)
            after = linears[1].samples(new_args, new_kwargs)
            for old, new in zip(before, after, strict=True):
                wanted = np.matmul(old, matrices)
                add_squares(gram, new)
                cross += np.matmul(new.swapaxes(1, 2), wanted)
                energy += np.sum(wanted**2, axis=(1, 2))
                inputs += np.sum(new, axis=1)
                wanted_sum += np.sum(wanted, axis=1)
                count += new.shape[1]
    if not np.isfinite(gram).all() or not np.isfinite(energy).all():
        raise ValueError(
            f"The inputs of {linears[0].target.path} contain NaN or infinity on `data`."
        )
    return Moments(gram, cross, energy, inputs, wanted_sum, count)


def _calls(run, layer, x):
    """Positional and keyword arguments of every call of a layer."""
    seen = []
    with watching(layer, lambda args, kwargs: seen.append((args, kwargs))):
        run(x)
    return seen
