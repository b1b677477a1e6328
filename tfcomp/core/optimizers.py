"""Which optimizer trains a variable, and how far it is."""

import contextlib

import keras

from tfcomp import keras_private
from tfcomp.core.entry import as_numpy


def leaves(optimizer):
    """List of the optimizers inside wrappers: `LossScaleOptimizer`, `MultiOptimizer`."""
    # Constraints run in the wrapped ones, so on JAX their variables are the ones that change.
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    inside = getattr(optimizer, "optimizers", None)
    return [optimizer] if inside is None else [leaf for each in inside for leaf in leaves(each)]


def trainer(optimizer, variable):
    """The one of an optimizer's leaves that trains a variable."""
    every = leaves(optimizer)
    for leaf in every[1:]:
        if any(known is variable for known in keras_private.trainable_variables(leaf)):
            return leaf
    return every[0]


_BY_WEIGHTS = (
    keras.optimizers.SGD,
    keras.optimizers.RMSprop,
    keras.optimizers.Adam,
    keras.optimizers.AdamW,
    keras.optimizers.Adamax,
    keras.optimizers.Nadam,
    keras.optimizers.Adagrad,
    keras.optimizers.Adadelta,
    keras.optimizers.Ftrl,
    keras.optimizers.Lion,
)


def goes_by_weights(optimizer):
    """Whether an optimizer is known to update each weight whatever the values of the others."""
    return type(optimizer) in _BY_WEIGHTS


def current_step(optimizer):
    """Optimizer updates so far."""
    iterations = optimizer.iterations
    if isinstance(iterations, keras.Variable):
        return int(as_numpy(iterations))
    return int(keras.ops.convert_to_numpy(iterations))


def accumulation_steps(optimizer):
    """Batches for one optimizer update."""
    return leaves(optimizer)[0].gradient_accumulation_steps or 1


def variable_scope(model):
    """Context in which variables beside a model's are made: that of its TensorFlow strategy."""
    strategy = getattr(model, "distribute_strategy", None)
    return contextlib.nullcontext() if strategy is None else strategy.scope()
