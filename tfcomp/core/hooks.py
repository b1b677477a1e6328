"""Every patch of a Keras object, put on and taken off.

Three facts of Keras carry tfcomp. Every optimizer applies `variable.constraint` right after its
update (see `tfcomp.core.step`). Variables of the optimizer are threaded through the step on JAX,
too: that is where state lives. And a file of weights is a tree of the objects found on the model's
attributes: that is how state is saved. What Keras has no place for is put on the objects here:

* `apply` of an optimizer, so that `before` runs; on TensorFlow the update is compiled, too;
* `save_own_variables` and `load_own_variables` of an optimizer, so that its own files stay plain;
* the attribute `tfcomp_state` of an optimizer, which Keras finds when it saves;
* `make_train_function` of a model, so that a model compiled anew is followed;
* `on_train_end` of the `History` of a run that ends, since it is the last callback in the list.

They are put on an object, not on its class, and not by `setattr`, which tracks what it is given.
"""

from tfcomp import keras_private
from tfcomp.core import compiled, step
from tfcomp.core.home import Home, ProjectionState
from tfcomp.core.optimizers import leaves

_STATE = "tfcomp_state"


def put(thing, name, value):
    """Puts an attribute on an object."""
    object.__setattr__(thing, name, value)


def take_off(thing, *names):
    """Takes attributes off an object again; those of its class show."""
    for name in names:
        if name in vars(thing):
            object.__delattr__(thing, name)


def state_of(optimizer):
    """The `ProjectionState` of an optimizer, or `None`."""
    return vars(optimizer).get(_STATE)


def home_of(model, outer, optimizer, given):
    """Returns the `Home` of an optimizer, which is made and put on it if it has none.

    Args:
        model: The model it trains.
        outer: What the model was compiled with: the optimizer itself, or what is wrapped around it.
        optimizer: The optimizer.
        given: Whether a user named it.
    """
    state = state_of(optimizer)
    if state is not None:
        return state.home
    home = Home(model, outer, optimizer, given)
    put(optimizer, _STATE, ProjectionState(home))
    put(optimizer, "apply", _applying(home, optimizer.apply))
    for each in home.patched:
        _save_plainly(each)
    return home


def leave(home):
    """Makes an optimizer that nothing is attached to any more a plain one again."""
    if not home.entries:
        take_off(home.optimizer, _STATE, "apply")
        for each in home.patched:
            # What wraps several optimizers may still be needed by another.
            if not any(map(state_of, leaves(each))):
                take_off(each, "save_own_variables", "load_own_variables")


def follow(model, is_attached, bring_along, renew):
    """Lets a later `fit` find what is attached, although the model was changed in between.

    Args:
        model: A `keras.Model`.
        is_attached: Function that says whether anything is attached to the model still.
        bring_along: Function to call before a step is made for the optimizer the model has then:
            it may have been recompiled.
        renew: Function to call when a `fit` begins: its weights may have been set.
    """
    if "make_train_function" in vars(model):
        return
    make = model.make_train_function
    # A `fit` has a `History` of its own.
    known = getattr(model, "history", None)

    def make_train_function(force=False):
        nonlocal known
        if not is_attached(model):
            unfollow(model)
            return make(force)
        # Not in every `train_on_batch`: compiling takes the function away.
        if model.optimizer is not None and (force or model.train_function is None):
            bring_along(model)
        if getattr(model, "history", None) is not known:
            known = model.history
            renew(model)
        return make(force)

    put(model, "make_train_function", make_train_function)


def unfollow(model):
    """Undoes `follow`."""
    take_off(model, "make_train_function")


def retrace(model):
    """Has a model's train step made anew: it was traced for what was attached before."""
    if model is not None and getattr(model, "train_function", None) is not None:
        model.make_train_function(force=True)


def when_all_are_done(callback, then):
    """Calls a function once every callback of a run has heard of its end.

    Keras puts its `History` behind all others, unless a user has put one somewhere.

    Args:
        callback: A callback that is hearing of it.
        then: The function.
    """
    history = getattr(callback.model, "history", None)
    # Those of one list have the same parameters; in a loop of one's own it may be an earlier one.
    if history is None or history.params is None or history.params is not callback.params:
        return
    heard = history.on_train_end

    def on_train_end(logs=None):
        take_off(history, "on_train_end")
        heard(logs)
        then()

    put(history, "on_train_end", on_train_end)


def _applying(home, apply):
    def applied(grads, trainable_variables=None):
        given = None if trainable_variables is None else list(trainable_variables)
        known = keras_private.trainable_variables(home.optimizer) if given is None else given
        update = compiled.update if compiled.pays(home) else step.apply
        return update(home, lambda g: apply(g, given), grads, known)

    return applied


def _save_plainly(optimizer):
    """Makes an optimizer save and load its own variables alone.

    Keras drops all of an optimizer's state when a file has another number of variables.
    """
    view, kind = _PlainView(optimizer), type(optimizer)
    put(optimizer, "save_own_variables", lambda store: kind.save_own_variables(view, store))
    put(optimizer, "load_own_variables", lambda store: kind.load_own_variables(view, store))


class _PlainView:
    """An optimizer as it would be without tfcomp, for Keras's own saving code to look at."""

    def __init__(self, optimizer):
        self._optimizer = optimizer

    @property
    def variables(self):
        states = filter(None, map(state_of, leaves(self._optimizer)))
        hidden = {id(v) for state in states for v in state.home.state_variables()}
        return [v for v in self._optimizer.variables if id(v) not in hidden]

    def __getattr__(self, name):
        return getattr(self._optimizer, name)
