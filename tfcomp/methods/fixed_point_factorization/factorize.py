"""Layers of a trained model in factorized form, without data.

Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.
"""

from typing import NamedTuple

import keras
import numpy as np
from rich.table import Table

from tfcomp import layers
from tfcomp import targets as targets_lib
from tfcomp.console import show
from tfcomp.core.projection import check_weights
from tfcomp.methods.fixed_point_factorization.semidiscrete import recover, semidiscrete
from tfcomp.surgery.carry import chosen_config
from tfcomp.surgery.swap import swap_layers
from tfcomp.validation import check_number, invalid

# Only these classes themselves: a subclass may do anything else with its kernel.
_FACTORIZED = {
    keras.layers.Dense: layers.FactorizedDense,
    keras.layers.Conv1D: layers.FactorizedConv1D,
    keras.layers.Conv2D: layers.FactorizedConv2D,
    keras.layers.Conv3D: layers.FactorizedConv3D,
}


class _Plan(NamedTuple):
    path: str
    layer: keras.layers.Layer
    matrix: np.ndarray
    rank: int


def factorize(model, rank=1.0, targets=None, recovery=10, balance=0.6, sweeps=20, verbose=1):
    """Returns a model in which kernels are products of ternary factors and a diagonal.

    A kernel, seen as a matrix `W` of inputs by outputs, becomes `X diag(d) Yᵀ` with `X` and `Y` of
    -1, 0 and 1, by a greedy semidiscrete decomposition. No data are used. What the new layers store
    are full-precision factors near the ternary ones, whose product is as near as can be to `W`, for
    fine-tuning to start at: compile the model and `fit` it.

    Names, connections and all other weights stay as they are; `model` is not changed. `Dense` and
    `Conv1D` to `Conv3D` without groups are replaced.

    Args:
        model: A Sequential or functional `keras.Model`, with nested models if need be.
        rank: `k`: an integer, or a float, a multiple of the smaller side of the matrix. Accuracy
            grows with it beyond 1.0, and so do size and work. Can be overridden in `targets`.
        targets: Which kernels, in any form `tfcomp.targets.find` takes; `None` for all that can be
            factorized.
        recovery: How often the full-precision factors are improved; 0 leaves the ternary ones.
        balance: How large the stored factors are, as in `tfcomp.layers.FactorizedDense`.
        sweeps: At most so many turns for each component of the decomposition.
        verbose: 0 for silence, 1 for a progress bar, 2 for a table of the layers, too.

    Returns:
        The new model, compiled as `model` is, with a fresh optimizer.

    Raises:
        ValueError: For an argument that cannot be used, a target of another kind, or a layer with a
            setting that the new one does not take, a kernel constraint for example.

    Reference:
        Peisong Wang, Jian Cheng, "Fixed-point Factorized Networks", arXiv:1611.01972.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> small = tfcomp.factorize(model, rank=6, verbose=0)
    >>> [tuple(weight.shape) for weight in small.get_layer("dense").weights]
    [(8, 6), (6, 4), (6,), (4,)]
    """
    check_number("balance", balance, above=0)
    for name, number in (("recovery", recovery), ("sweeps", sweeps)):
        if isinstance(number, bool) or not isinstance(number, int) or number < (name == "sweeps"):
            raise invalid(name, number, f"an integer >= {int(name == 'sweeps')}")
    plans = [_plan(target, rank) for target in _factorizable(model, targets)]
    rules = {plan.layer: _replacement(plan, balance) for plan in plans}
    new = swap_layers(model, rules)
    replaced = {site.path: site.layer for site in targets_lib.layer_sites(new)}

    errors = []
    bar = keras.utils.Progbar(sum(p.rank for p in plans), verbose=min(verbose, 1), unit_name="term")
    for plan in plans:
        found = semidiscrete(plan.matrix, plan.rank, sweeps, progress=lambda: bar.add(1))
        errors.append(_error(plan.matrix, found))
        replaced[plan.path].set_factors(recover(plan.matrix, found, recovery))
    if verbose > 1:
        show(_table(new.name, plans, errors))
    return new


def _factorizable(model, targets):
    found = targets_lib.find(model, targets)
    fit = [target for target in found if _is_factorizable(target)]
    # A dict starts from the default set, too.
    named = targets is not None and not isinstance(targets, dict)
    if not fit or (named and len(fit) < len(found)):
        raise invalid(
            "targets",
            [target.path for target in found if target not in fit],
            "kernels of Dense, Conv1D, Conv2D or Conv3D without groups, LoRA or quantization",
        )
    return fit


def _is_factorizable(target):
    layer = target.layer
    return (
        type(layer) in _FACTORIZED
        and target.variable.name == "kernel"
        and getattr(layer, "groups", 1) == 1
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
    )


def _plan(target, rank):
    if set(target.options) - {"rank"}:
        raise invalid("targets", target.options, f"no override but `rank` ({target.path})")
    value = keras.ops.convert_to_numpy(target.variable.value)
    check_weights(target.path, value)
    matrix = np.asarray(value, np.float32).reshape(-1, value.shape[-1])
    number = _components(target.options.get("rank", rank), min(matrix.shape))
    return _Plan(target.path.rpartition("/")[0], target.layer, matrix, number)


def _components(rank, side):
    whole = isinstance(rank, (int, np.integer)) and not isinstance(rank, bool)
    if whole and rank > 0:
        return int(rank)
    if whole or not isinstance(rank, (float, np.floating)) or not 0 < rank < np.inf:
        raise invalid("rank", rank, "a positive integer or a positive float")
    return max(1, round(rank * side))


def _replacement(plan, balance):
    config = chosen_config(plan.layer)
    # The kernel is there already.
    config.pop("kernel_initializer", None)
    config.pop("groups", None)
    if config.get("kernel_constraint") is not None:
        raise ValueError(
            f"Layer {plan.layer.name!r} has a kernel constraint, which the factors of its kernel "
            "cannot keep to. Leave the layer out by a dict of targets, "
            f"{{{plan.layer.name!r}: None}}."
        )
    config = {**config, "rank": plan.rank, "balance": balance}
    return lambda layer: _FACTORIZED[type(layer)].from_config(config)


def _error(matrix, found):
    whole = float(np.sum(matrix**2))
    return float(np.sum((matrix - found.product()) ** 2)) / whole if whole else 0.0


def _table(name, plans, errors):
    table = Table(title=f"Factorized layers of {name}")
    for heading in ("Layer", "Matrix", "Rank", "Squared error"):
        table.add_column(heading, justify="left" if heading == "Layer" else "right")
    for plan, error in zip(plans, errors):
        size = "x".join(map(str, plan.matrix.shape))
        table.add_row(plan.path, size, str(plan.rank), f"{error:.2%}")
    return table
