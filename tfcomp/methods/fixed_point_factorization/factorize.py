"""Layers of a trained model in factorized form, without data.

Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.
"""

import functools
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core.projection import check_weights
from tfcomp.methods.fixed_point_factorization.layers import (
    FactorizedConv1D,
    FactorizedConv2D,
    FactorizedConv3D,
    FactorizedDense,
)
from tfcomp.methods.fixed_point_factorization.semidiscrete import recover, semidiscrete
from tfcomp.model.choice import Unsuited, choose, why_not_plain
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.surgery.carry import chosen_config
from tfcomp.surgery.swap import swapped_copy
from tfcomp.validation import check_integer, check_number, check_verbose

# Only these classes themselves: a subclass may do anything else with its kernel.
_FACTORIZED = {
    keras.layers.Dense: FactorizedDense,
    keras.layers.Conv1D: FactorizedConv1D,
    keras.layers.Conv2D: FactorizedConv2D,
    keras.layers.Conv3D: FactorizedConv3D,
}


_COLUMNS = {
    "Layer": "{0.path}",
    "Inputs": "{0.inputs}",
    "Outputs": "{0.outputs}",
    "Rank": "{0.rank}",
    "Squared error": "{0.error:.2%}",
}


class FactorizedTarget(NamedTuple):
    """What `factorize` made of one layer.

    Attributes:
        path: Path of the layer.
        inputs: Rows of the kernel as a matrix.
        outputs: Its columns.
        rank: Components of the factors.
        error: Squared error of the product of the ternary factors, relative to the squared norm.
    """

    path: str
    inputs: int
    outputs: int
    rank: int
    error: float


class _Plan(NamedTuple):
    path: str
    layer: keras.layers.Layer
    matrix: np.ndarray
    rank: int
    replacement: Any


def factorize(model, rank=1.0, targets=None, *, recovery=10, balance=0.6, sweeps=20, verbose=1):
    """Returns a model in which kernels are products of ternary factors and a diagonal.

    Makes a new model; `model` is not changed.

    A kernel, seen as a matrix `W` of inputs by outputs, becomes `X diag(d) Yᵀ` with `X` and `Y` of
    -1, 0 and 1, by a greedy semidiscrete decomposition. No data are used. What the new layers store
    are full-precision factors near the ternary ones, whose product is as near as can be to `W`, for
    fine-tuning to start at: compile the model and `fit` it.

    Names, connections and all other weights stay as they are. `Dense` and `Conv1D` to `Conv3D`
    without groups are replaced; the others are left out, and the result says so.

    Args:
        model: A Sequential or functional `keras.Model`, with nested models if need be.
        rank: `k`: an integer, or a float, a multiple of the smaller side of the matrix. Accuracy
            grows with it beyond 1.0, and so do size and work. Can be overridden in `targets`.
        targets: Which kernels, in any form `tfcomp.targets.find` takes; `None` for all that can be
            factorized.
        recovery: How often the full-precision factors are improved; 0 leaves the ternary ones.
        balance: How large the stored factors are, as in `tfcomp.layers.FactorizedDense`.
        sweeps: At most so many turns for each component of the decomposition.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each layer.

    Returns:
        A `tfcomp.Result`: the new `model`, compiled as `model` is, with a fresh optimizer, `rows`
        of `FactorizedTarget`, and what was `left_out`.

    Raises:
        ValueError: For an argument that cannot be used; for a weight that `targets` names and that
            is of another kind, or in a layer with a setting that the new one does not take, such as
            a kernel constraint.

    Reference:
        Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> small = tfcomp.factorize(model, rank=6, verbose=0).model
    >>> [tuple(weight.shape) for weight in small.get_layer("dense").weights]
    [(8, 6), (6, 4), (6,), (4,)]
    """
    check_number("balance", balance, above=0)
    recovery = check_integer("recovery", recovery, 0)
    sweeps = check_integer("sweeps", sweeps, 1)
    verbose = check_verbose(verbose)
    targets_lib.check_built(model)
    prepare = functools.partial(_plan, rank, balance)
    plans, left_out = choose(model, targets, prepare, ["rank"])
    new = swapped_copy(model, {plan.layer: plan.replacement for plan in plans})
    replaced = {site.path: site.layer for site in targets_lib.layer_sites(new)}

    rows, progress = [], Progress(sum(plan.rank for plan in plans), verbose, "term")
    for plan in plans:
        found = semidiscrete(plan.matrix, plan.rank, sweeps, progress=progress.step)
        replaced[plan.path].set_factors(recover(plan.matrix, found, recovery))
        error = _error(plan.matrix, found)
        rows.append(FactorizedTarget(plan.path, *plan.matrix.shape, plan.rank, error))
        progress.line(f"{plan.path}: rank {plan.rank}, squared error {error:.2%}")
    progress.left_out(left_out)
    return Result(new, rows, left_out, f"Factorized layers of {new.name}", _COLUMNS)


def _why_not(target):
    """Why a weight cannot be factorized, or `None`."""
    layer = target.layer
    if type(layer) not in _FACTORIZED or target.variable.name != "kernel":
        return f"the {target.variable.name!r} of {type(layer).__name__}"
    if getattr(layer, "groups", 1) != 1:
        return "its layer has groups"
    if layer.kernel_constraint is not None:
        return "it has a kernel constraint, which the factors cannot keep to"
    return why_not_plain(layer)


def _plan(rank, balance, target):
    reason = _why_not(target)
    if reason:
        raise Unsuited(reason)
    value = keras.ops.convert_to_numpy(target.variable.value)
    check_weights(target.path, value)
    matrix = np.asarray(value, np.float32).reshape(-1, value.shape[-1])
    number = _components(target.options.get("rank", rank), min(matrix.shape))
    path = target.path.rpartition("/")[0]
    replacement = _replacement(target.layer, number, balance)
    return _Plan(path, target.layer, matrix, number, replacement)


def _components(rank, side):
    if isinstance(rank, (float, np.floating)):
        check_number("rank", rank, above=0)
        return max(1, round(rank * side))
    return check_integer("rank", rank, 1)


def _replacement(layer, rank, balance):
    config = chosen_config(layer)
    # The kernel is there already.
    config.pop("kernel_initializer", None)
    config.pop("groups", None)
    config = {**config, "rank": rank, "balance": balance}
    return lambda layer: _FACTORIZED[type(layer)].from_config(config)


def _error(matrix, found):
    whole = float(np.sum(matrix**2))
    return float(np.sum((matrix - found.product()) ** 2)) / whole if whole else 0.0
