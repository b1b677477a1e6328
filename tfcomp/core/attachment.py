"""Attaches projections to the variables of a compiled model.

Three facts of Keras carry it. Every optimizer applies `variable.constraint` right after its update,
inside the compiled step, on every backend: that is where a projection runs. Variables of the
optimizer are threaded through the step on JAX, too: that is where state lives. And a file of
weights is a tree of the objects found on the model's attributes: that is how state is saved.
"""

import contextlib
from dataclasses import dataclass

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core import fuse
from tfcomp.core.projection import Projection

_ATTRIBUTE = "tfcomp_state"


@dataclass(eq=False)
class Entry:
    """One projection on one variable.

    Attributes:
        target: The `tfcomp.targets.Target`.
        projection: The `Projection`.
        state: Dict from name to `keras.Variable`.
        run: `keras.Variable`, the optimizer steps at which the current run began and will end.
        home: The `_Held` of the optimizer that tracks these variables.
        fresh: Whether the state says nothing yet about the value it belongs to.
        restored: Whether state and run have just come from a file.
    """

    target: targets_lib.Target
    projection: object
    state: dict
    run: object
    home: object
    fresh: bool = True
    restored: bool = False

    @property
    def variable(self):
        """The variable that is kept compressed."""
        return self.target.variable

    @property
    def owned(self):
        """Dict of all variables that belong to this entry."""
        return {**self.state, "run": self.run}

    def tensors(self):
        """Returns the state as backend tensors."""
        return {name: keras.ops.convert_to_tensor(v) for name, v in self.state.items()}

    def read(self):
        """Returns value and state as numpy arrays, to look at and not to write into."""
        state = {name: _numpy(variable) for name, variable in self.state.items()}
        return _numpy(self.variable), state

    def write(self, value, state):
        """Assigns value and state."""
        self.variable.assign(value)
        self.write_state(state)

    def write_state(self, state):
        """Assigns the state."""
        for name, array in state.items():
            self.state[name].assign(array)

    def settled(self, value):
        """The value, a numpy array, as the variable's projections from this one on leave it."""
        entries = getattr(self.variable.constraint, "entries", [])
        for entry in entries[entries.index(self) :] if self in entries else []:
            state = {name: _numpy(variable) for name, variable in entry.state.items()}
            value = entry.projection.settle(value, state)
        return value

    def project(self):
        """Puts the variable through the projection where it is, by way of the device."""
        value, _ = self.projection(keras.ops.convert_to_tensor(self.variable), self.tensors())
        self.variable.assign(value)


def _numpy(variable):
    if keras.backend.backend() == "tensorflow":
        # Keras copies; the memory of a tensor, unlike that of a variable, can be looked at as is.
        return np.asarray(keras.ops.reshape(variable.value, variable.shape))
    return keras.ops.convert_to_numpy(variable.value)


class Constraint(keras.constraints.Constraint):
    """The constraint of a variable: the one it had, then its projections in their order."""

    def __init__(self, original):
        self.original = original
        self.entries = []

    def __call__(self, value):
        if self.original is not None:
            value = self.original(value)
        value = keras.ops.convert_to_tensor(value)
        for entry in self.entries:
            tensors = entry.tensors()
            new = tensors
            if entry.projection.needs_gradient and id(entry) in entry.home.steps:
                new = entry.projection.observe(*entry.home.steps[id(entry)], value, tensors)
            value, new = entry.projection(value, new)
            for name, tensor in new.items():
                if tensor is not tensors[name]:
                    entry.state[name].assign(tensor)
        return value


class _PlainView:
    """An optimizer as it would be without tfcomp, for Keras's own saving code to look at."""

    def __init__(self, optimizer, hidden):
        self._optimizer = optimizer
        self._hidden = hidden

    @property
    def variables(self):
        hidden = {id(variable) for variable in self._hidden()}
        return [v for v in self._optimizer.variables if id(v) not in hidden]

    def __getattr__(self, name):
        return getattr(self._optimizer, name)


class ProjectionState(keras.layers.Layer):
    """Everything attached to one optimizer.

    It is a layer because Keras saves and restores the layers it finds on a model's attributes. The
    optimizer's own entry in a file stays exactly as Keras writes it, so a file loads, optimizer
    state included, whether or not anything is attached; a plain Keras model skips this layer.
    """

    def __init__(self, model, optimizer):
        super().__init__(name=_ATTRIBUTE, dtype="float32")
        self._held = _Held(model, optimizer)

    @property
    def entries(self):
        """List of `Entry`, in the order in which they were attached."""
        return self._held.entries

    def save_own_variables(self, store):
        for _, keyed in self._keyed():
            for key, variable in keyed.items():
                store[key] = _numpy(variable)

    def load_own_variables(self, store):
        saved = set(store.keys())
        for entry in self.entries:
            entry.fresh = True
        if not saved:
            # A plain file: what it holds is found by looking at the weights.
            for entry in self.entries:
                entry.write_state(entry.projection.init(_numpy(entry.variable)))
            return
        for entry, keyed in self._keyed():
            if not saved.issuperset(keyed):
                continue
            for key, variable in keyed.items():
                array = np.asarray(store[key])
                if array.shape != tuple(variable.shape):
                    raise ValueError(
                        f"The file holds compression state of shape {array.shape} for "
                        f"{variable.path}, which has shape {tuple(variable.shape)}: it was "
                        "written for other targets."
                    )
                variable.assign(array)
            entry.fresh, entry.restored = False, True

    def _keyed(self):
        """Yields each entry with a dict from its keys in a file to its variables."""
        counts = {}
        for entry in self.entries:
            # Numbered, because automatic layer names differ from one process to the next; by kind,
            # because another process need not attach what is there from an earlier `fit`.
            kind = entry.projection.kind
            number = counts[kind] = counts.get(kind, -1) + 1
            yield entry, {f"{kind}.{number}.{name}": v for name, v in entry.owned.items()}


class _Held:
    """Plain object, so that neither Keras nor TensorFlow tracks what it refers to."""

    def __init__(self, model, optimizer):
        self.optimizer = optimizer
        self.entries = []
        # Values and gradients of the step under way, by id of entry, for those that need them.
        self.steps = {}
        self.shows_gradients = False
        strategy = getattr(model, "distribute_strategy", None)
        self.scope = strategy.scope if strategy is not None else contextlib.nullcontext
        self.replicas = getattr(strategy, "num_replicas_in_sync", 1)

    def state_variables(self):
        return [variable for entry in self.entries for variable in entry.owned.values()]

    def forget(self, entry):
        """Drops an entry and its variables."""
        self.entries[:] = [other for other in self.entries if other is not entry]
        for variable in entry.owned.values():
            self.optimizer._untrack_variable(variable)


def innermost(optimizer):
    """Returns the optimizer inside wrappers such as `LossScaleOptimizer`."""
    # Constraints run in the wrapped optimizer, so on JAX its variables are the ones that change.
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer


def find(model):
    """Returns the `ProjectionState` of a model's optimizer, or `None`."""
    optimizer = getattr(model, "optimizer", None)
    return None if optimizer is None else getattr(innermost(optimizer), _ATTRIBUTE, None)


def _find_or_create(model):
    """Returns the `_Held` of a model's optimizer."""
    state = find(model)
    if state is None:
        outer = model.optimizer
        inner = innermost(outer)
        state = ProjectionState(model, inner)
        with state._held.scope():
            if not outer.built:
                outer.build(model.trainable_variables)
        setattr(inner, _ATTRIBUTE, state)
        for optimizer in {id(o): o for o in (outer, inner)}.values():
            _save_plainly(optimizer, state._held.state_variables)
        fuse.install(state._held)
        _follow(model)
    _bring_along(model, state._held)
    return state._held


def _bring_along(model, held):
    """Moves to this optimizer what was attached under an earlier one: the model was recompiled."""
    for entry in _entries_of(model):
        if entry.home is not held:
            arrays = {name: _numpy(old) for name, old in entry.owned.items()}
            entry.home.forget(entry)
            entry.state = _add_variables(held, entry.target, entry.projection, arrays)
            entry.run, entry.home = entry.state.pop("run"), held
            held.entries.append(entry)
            if entry.projection.needs_gradient and not held.shows_gradients:
                _show_gradients(held)


def _follow(model):
    """Lets a later `fit` find what is attached, although the model was recompiled in between."""
    if "make_train_function" in vars(model):
        return
    make = model.make_train_function

    def make_train_function(force=False):
        # Not in every `train_on_batch`: compiling takes the function away.
        if model.optimizer is not None and (force or model.train_function is None):
            held = getattr(find(model), "_held", None)
            if any(entry.home is not held for entry in _entries_of(model)):
                _find_or_create(model)
        return make(force)

    # Not by `setattr`, which tracks what a model is given.
    object.__setattr__(model, "make_train_function", make_train_function)


def _entries_of(model):
    """Yields what is attached to the variables of a model, whichever optimizer it came with."""
    for variable in model.variables:
        if isinstance(variable.constraint, Constraint):
            yield from list(variable.constraint.entries)


def _save_plainly(optimizer, hidden):
    """Makes an optimizer save and load its own variables alone.

    Keras drops all of an optimizer's state when a file has another number of variables.
    """
    view, kind = _PlainView(optimizer, hidden), type(optimizer)
    optimizer.save_own_variables = lambda store: kind.save_own_variables(view, store)
    optimizer.load_own_variables = lambda store: kind.load_own_variables(view, store)


def _show_gradients(held):
    """Lets projections see and change the gradients of the step they belong to."""
    optimizer = held.optimizer
    apply = optimizer.apply

    def apply_shown(grads, trainable_variables=None):
        grads = list(grads)
        variables = trainable_variables
        variables = list(optimizer._trainable_variables if variables is None else variables)
        known = {id(v): (i, grads[i]) for i, v in enumerate(variables) if grads[i] is not None}
        # Gradients come scaled, and each replica has those of its part of the loss.
        scale = held.replicas / (optimizer.loss_scale_factor or 1)
        for entry in held.entries:
            if entry.projection.needs_gradient and id(entry.variable) in known:
                place, original = known[id(entry.variable)]
                before = keras.ops.copy(keras.ops.convert_to_tensor(entry.variable))
                held.steps[id(entry)] = (before, keras.ops.convert_to_tensor(original))
                grads[place] = _transformed(entry, grads[place], before, scale)
        with _once_known(grads):
            for entry in held.entries:
                if id(entry) in held.steps:
                    before, _ = held.steps[id(entry)]
                    trained = entry.projection.trained(before, entry.tensors())
                    if trained is not before:
                        entry.variable.assign(trained)
        try:
            return apply(grads, trainable_variables)
        finally:
            held.steps.clear()

    optimizer.apply = apply_shown
    held.shows_gradients = True


def _once_known(gradients):
    """Context of operations that wait for the gradients.

    In a graph of TensorFlow, assignments run as soon as they can: in a step, too, that finds out
    that there are no more data, and that does not come to the update.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([g for g in gradients if g is not None])


def _transformed(entry, gradient, value, scale):
    if type(entry.projection).transform_gradient is Projection.transform_gradient:
        return gradient
    gradient = keras.ops.convert_to_tensor(gradient)
    whole = gradient if scale == 1 else gradient * scale
    new = entry.projection.transform_gradient(whole, value, entry.tensors())
    return new if scale == 1 else new / scale


def attach(model, target, projection):
    """Puts a projection on a variable of a compiled model, in place of one of the same kind.

    Args:
        model: A built and compiled `keras.Model`.
        target: A `tfcomp.targets.Target` of it.
        projection: A `Projection`.

    Returns:
        The `Entry`.
    """
    held = _find_or_create(model)
    constraint = target.variable.constraint
    if not isinstance(constraint, Constraint):
        constraint = Constraint(constraint)
        target.variable.constraint = constraint
    old = next((e for e in constraint.entries if e.projection.kind == projection.kind), None)
    if old is not None and old.projection is projection:
        return old

    if old is not None:
        held.forget(old)
    arrays = {**projection.init(_numpy(target.variable)), "run": np.zeros(2, np.int32)}
    state = _add_variables(held, target, projection, arrays)
    entry = Entry(target, projection, state, run=state.pop("run"), home=held)
    held.entries.append(entry)
    constraint.entries = [e for e in constraint.entries if e is not old] + [entry]
    constraint.entries.sort(key=lambda e: e.projection.order)
    if projection.needs_gradient and not held.shows_gradients:
        _show_gradients(held)
    # The step may have been traced without this projection.
    model.train_function = None
    return entry


def _add_variables(held, target, projection, arrays):
    return {
        name: _add_variable(held, target, f"{projection.kind}_{name}", array)
        for name, array in arrays.items()
    }


def _add_variable(held, target, name, array):
    same_shape = array.shape == tuple(target.variable.shape)
    with held.scope():
        return held.optimizer.add_variable(
            shape=array.shape,
            initializer=lambda shape, dtype=None: keras.ops.convert_to_tensor(array, dtype=dtype),
            dtype=array.dtype.name,
            aggregation="only_first_replica",
            layout=getattr(target.variable, "_layout", None) if same_shape else None,
            name=f"{target.path.replace('/', '_')}_{name}",
        )


def release(model, targets=None):
    """Sets weights free again: they keep their values, and training may change all of them.

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
    for variable in model.variables:
        constraint = variable.constraint
        if not isinstance(constraint, Constraint) or (chosen and id(variable) not in chosen):
            continue
        for entry in constraint.entries:
            entry.home.forget(entry)
        variable.constraint = constraint.original
        model.train_function = None
