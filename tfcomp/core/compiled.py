"""One compiled pass for an optimizer's update and for what keeps weights compressed, on TensorFlow.

Without XLA, which Keras leaves off on CPUs, TensorFlow walks over every weight and slot a dozen
times in a step of Adam, and twice more for a mask. Compiled by themselves, the update and the
projections around it become one pass over memory. On JAX the whole step is compiled as it is.
"""

import keras

from tfcomp import keras_private
from tfcomp.core import step

# Weights under projections, and weights that the optimizer trains for each of its variables, from
# which on the compilation is worth it. It takes a tenth of a second or more for each variable: a
# minute for a deep network of small kernels, in which there is little to win.
LEAST_WEIGHTS, LEAST_EACH = 2**20, 2**17


def update(home, apply, gradients, variables):
    """`tfcomp.core.step.apply`, compiled."""
    import tensorflow as tf

    @tf.function(jit_compile=True, autograph=False)
    def compiled(gradients):
        step.apply(home, apply, gradients, variables)

    return compiled(list(gradients))


def pays(home):
    """Whether compilation is worth it, and safe.

    Left as they are: eager steps, distribution strategies, optimizers, constraints and projections
    that are not Keras's or tfcomp's own (XLA may not know their operations), and models that are
    small or of small variables.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    weights = {id(entry.variable): entry.variable for entry in home.entries}
    trained = keras_private.trainable_variables(home.optimizer)
    return (
        not tf.executing_eagerly()
        and not tf.distribute.has_strategy()
        and not keras_private.is_op_determinism_enabled()
        and _size(weights.values()) >= LEAST_WEIGHTS
        and _size(trained) >= LEAST_EACH * len(trained)
        and _is_known(home.optimizer)
        and all(_is_known_projection(entry.projection) for entry in home.entries)
        and all(_is_known(_original(variable)) for variable in trained)
    )


def _size(variables):
    return sum(variable.value.shape.num_elements() for variable in variables)


def _original(variable):
    """The constraint that a variable had before anything was attached to it."""
    return getattr(variable.constraint, "original", variable.constraint)


def _is_known(thing):
    """Whether XLA compiles an object's operations: one of Keras's or tfcomp's own, or `None`."""
    return thing is None or type(thing).__module__.split(".")[0] in ("keras", "tfcomp")


def _is_known_projection(projection):
    """The same of a projection and of the functions it was given."""
    parts = [part for part in vars(projection).values() if callable(part)]
    return all(map(_is_known, (projection, *parts)))
