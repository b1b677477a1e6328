"""What happens to compressed variables in a train step: before and after the optimizer.

Every Keras optimizer applies `variable.constraint` right after its update, inside the compiled step
and on every backend: that is where `after` runs. `before` runs when the optimizer is given the
gradients, see `tfcomp.core.hooks`.
"""

import contextlib
import threading

import keras

from tfcomp.core.entry import as_tensor
from tfcomp.core.optimizers import goes_by_weights
from tfcomp.core.projection import is_rows, whole


class Projected(keras.constraints.Constraint):
    """The constraint of a variable: the one it had, then its projections in their order.

    Attributes:
        original: The constraint that the variable had, or `None`.
        entries: List of `Entry`.
    """

    def __init__(self, path, original):
        self.path = path
        self.original = original
        self.entries = []
        # What `before` has left, by thread: replicas of a TensorFlow strategy each have one.
        self._begun = {}

    def before(self, gradient, variable, home):
        """Shows the optimizer what it is to see; returns the gradient."""
        # A copy: TensorFlow takes a variable for a tensor, and PyTorch changes tensors in place.
        was = value = keras.ops.copy(keras.ops.convert_to_tensor(variable))
        states, by_weights = {}, goes_by_weights(home.optimizer)
        for entry in reversed(self.entries):
            tensors = entry.tensors()
            if not (entry.projection.takes_rows and by_weights):
                gradient = whole(gradient)
            gradient, value, left = entry.projection.before(gradient, value, tensors)
            states[id(entry)] = tensors, left
        self._begun[threading.get_ident()] = was, states, home.is_update
        if value is not was:
            variable.assign(value)
        return gradient

    def __call__(self, value):
        if self.original is not None:
            value = self.original(value)
        value = as_tensor(value)
        was, states, is_update = self._begun.pop(threading.get_ident(), (None, None, None))
        if states is None:
            lost = _LOST if keras.backend.backend() == "jax" else ""
            raise RuntimeError(_TRAINED_ELSEWHERE.format(path=self.path) + lost)
        for entry in self.entries:
            tensors, left = states[id(entry)]
            value, new = entry.projection.after(value, left)
            entry.keep({n: _choose(is_update, new[n], left[n]) for n in tensors}, tensors)
        return _choose(is_update, value, was)

    def forget(self):
        """Forgets a step that came to no update."""
        self._begun.pop(threading.get_ident(), None)

    def shown(self, value):
        """What the projections make of a value without a step."""
        for entry in self.entries:
            value = entry.compressed(value)
        return value


_TRAINED_ELSEWHERE = (
    "The weight {path!r} is kept compressed by tfcomp, and is now trained by an optimizer that "
    "does not know of it, so it would not be trained as it should. Give the callback the optimizer "
    "that trains the weight, `optimizer=` where it is not `model.optimizer`; or pass a callback, "
    "such as tfcomp.callbacks.PreserveSparsity(), to this `fit`, too; or call "
    "`tfcomp.release(model)` to train the weight freely."
)


_LOST = (
    " On JAX, Keras loses the weights of a model whose step fails: load or set them again, or make "
    "the model anew."
)


def _choose(is_update, new, old):
    """Batches whose gradients are only accumulated leave everything as `before` left it."""
    return new if is_update is None or new is old else keras.ops.where(is_update, new, old)


def apply(home, update, gradients, variables):
    """An optimizer's update between `before` and `after`.

    Args:
        home: The `Home` of the optimizer.
        update: Function from gradients to what the optimizer's own `apply` returns.
        gradients: List of gradients, some of them `None`.
        variables: List of variables.
    """
    gradients = list(gradients)
    pairs = enumerate(zip(variables, gradients))
    ours = {i: v.constraint for i, (v, g) in pairs if g is not None and home.keeps(v)}
    averages = home.averages()
    with _once_known(gradients):
        for place, constraint in ours.items():
            whole = _times(gradients[place], home.scale)
            seen = constraint.before(whole, variables[place], home)
            gradients[place] = _times(seen, 1 / home.scale)
        for average, _, latent in averages:
            if latent is not None:
                average.assign(latent)
    try:
        result = update(gradients)
    finally:
        for constraint in ours.values():
            constraint.forget()
    for average, constraint, latent in averages:
        value = keras.ops.convert_to_tensor(average)
        if latent is not None:
            latent.assign(value)
        average.assign(constraint.shown(value))
    return result


def _times(gradient, factor):
    if factor == 1:
        return gradient
    if is_rows(gradient):
        values = gradient.values * factor
        return type(gradient)(values, gradient.indices, gradient.dense_shape)
    return keras.ops.convert_to_tensor(gradient) * factor


def _once_known(gradients):
    """Context of operations that wait for the gradients.

    In a graph of TensorFlow, assignments run as soon as they can: in a step, too, that finds out
    that there are no more data, and that does not come to the update.
    """
    if keras.backend.backend() != "tensorflow":
        return contextlib.nullcontext()
    import tensorflow as tf

    return tf.control_dependencies([g for g in gradients if g is not None])
