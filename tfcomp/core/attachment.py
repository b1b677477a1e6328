"""Attaches projections to the variables of a model, and takes them off."""

import warnings

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp import targets as targets_lib
from tfcomp.core import hooks
from tfcomp.core.entry import Entry, as_numpy
from tfcomp.core.latent import Latent
from tfcomp.core.optimizers import trainer, variable_scope
from tfcomp.core.step import Projected


def attach(model, target, projection, optimizer=None):
    """Puts a projection on a variable of a model, in place of one of the same kind.

    Args:
        model: A built `keras.Model`.
        target: A `tfcomp.targets.Target` of it.
        projection: A `Projection`.
        optimizer: What trains the variable; `None` for what the model was compiled with.

    Returns:
        The `Entry`.
    """
    # First of all, since it is a method's own and may raise.
    arrays = {**projection.init(as_numpy(target.variable)), "run": np.zeros(2, "i4")}
    home = _home(model, target.variable, optimizer)
    constraint = target.variable.constraint
    if not isinstance(constraint, Projected):
        constraint = Projected(target.path, constraint)
    for entry in constraint.entries:
        _move(entry, home)
    old = next((e for e in constraint.entries if e.projection.kind == projection.kind), None)
    if old is not None and old.projection is projection:
        return old
    entry = Entry(target, projection, {}, None, None, home)
    _add_variables(entry, arrays)
    if old is not None:
        home.forget(old)
    constraint.entries = [e for e in constraint.entries if e is not old] + [entry]
    constraint.entries.sort(key=lambda e: e.projection.order)
    target.variable.constraint = constraint
    # The step was traced without it. Not made anew here, once for each variable: `fit` does that.
    model.train_function = None
    return entry


def detach(entry):
    """Takes an entry off its variable again."""
    constraint = entry.variable.constraint
    constraint.entries = [other for other in constraint.entries if other is not entry]
    if not constraint.entries:
        entry.variable.constraint = constraint.original
    entry.home.forget(entry)
    hooks.leave(entry.home)


def _home(model, variable, optimizer):
    if optimizer is not None:
        return hooks.home_of(model, optimizer, trainer(optimizer, variable), given=True)
    outer = model.optimizer
    if not outer.built:
        with variable_scope(model):
            outer.build(model.trainable_variables)
    hooks.follow(model, entries_of, _bring_along, _renew)
    return hooks.home_of(model, outer, trainer(outer, variable), given=False)


def _bring_along(model):
    """Moves what was attached under an earlier optimizer to this one: the model was recompiled."""
    for entry in entries_of(model):
        if not entry.home.given:
            _move(entry, _home(model, entry.variable, None))


def take_over(model):
    """Moves what is attached to a model's weights to the optimizer that it is compiled with.

    For a model that was trained as a part of another one.
    """
    _bring_along(model)


def _renew(model):
    """Makes what is attached go with weights that somebody has set since the last run."""
    free = []
    for entry in entries_of(model):
        followed, entry.followed = entry.followed, False
        if not (entry.fresh or followed) and entry.is_stale:
            entry.adopt()
            free += [] if entry.latent or entry.is_stale else [entry.target.path]
    if free:
        warnings.warn(
            f"The weights {', '.join(free)} have been set, and are not the ones that were "
            "quantized, so they train freely until a callback quantizes them.",
            stacklevel=2,
        )


def _move(entry, home):
    """Gives an entry's variables to another optimizer."""
    if entry.home is home:
        return
    arrays = {name: as_numpy(old) for name, old in entry.owned.items()}
    former, entry.home = entry.home, home
    former.forget(entry)
    hooks.leave(former)
    _add_variables(entry, arrays)
    if former.model is not None:
        # Its step was traced with what is here now; its next `fit` will take it back.
        former.model.train_function = None


def _add_variables(entry, arrays):
    """Makes the variables of an entry at its home."""
    optimizer = entry.home.optimizer
    if isinstance(entry.projection, Latent) and optimizer.use_ema and not optimizer.built:
        raise ValueError(
            f"{optimizer.name!r} averages over the steps (`use_ema`), and has no averages yet of "
            "which those of latent weights could be made. Call its `build(trainable_variables)`, "
            "with the variables that it is to train, before the callback is used."
        )
    average = keras_private.moving_averages(optimizer).get(id(entry.variable))
    if average is None:
        arrays.pop("average", None)
    elif isinstance(entry.projection, Latent):
        arrays.setdefault("average", as_numpy(average))
    made = {name: _add_variable(entry, name, array) for name, array in arrays.items()}
    entry.run, entry.average = made.pop("run"), made.pop("average", None)
    entry.state = made
    entry.home.entries.append(entry)


def _add_variable(entry, name, array):
    variable, home = entry.variable, entry.home
    same_shape = array.shape == tuple(variable.shape)
    with home.scope():
        return home.optimizer.add_variable(
            shape=array.shape,
            initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(array, dtype=dtype),
            dtype=array.dtype.name,
            aggregation="only_first_replica",
            layout=keras_private.layout(variable) if same_shape else None,
            name=f"{entry.target.path.replace('/', '_')}_{entry.projection.kind}_{name}",
        )


def entries_of(model):
    """Lists what is attached to the variables of a model, whichever optimizer it came with."""
    return [
        entry
        for variable in model.variables
        if isinstance(variable.constraint, Projected)
        for entry in variable.constraint.entries
    ]


def release(model, targets=None):
    """Sets weights free again: they keep their values, and training may change all of them.

    When nothing is left attached, model and optimizer are plain Keras objects again, and their
    files are those of plain objects.

    Args:
        model: A `keras.Model` that a tfcomp callback was used on.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for all.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> tfcomp.release(model)
    """
    chosen = None
    if targets is not None:
        chosen = {id(target.variable) for target in targets_lib.find(model, targets)}
    # On JAX the variables of a model are elsewhere while it trains.
    getattr(model, "jax_state_sync", lambda: None)()
    for entry in entries_of(model):
        if chosen is None or id(entry.variable) in chosen:
            detach(entry)
    if not entries_of(model):
        hooks.unfollow(model)
    hooks.retrace(model)
