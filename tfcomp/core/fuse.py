"""One compiled pass for an optimizer's update and for what keeps weights compressed, on TensorFlow.

Without XLA, which Keras leaves off on CPUs, TensorFlow walks over every weight and slot a dozen
times in a step of Adam, and once more for a mask. Compiled by themselves, the update and the
projections after it become one pass over memory. On JAX the whole step is compiled as it is.
"""

import keras

# Weights under projections from which on the compilation, a second or two, is worth it.
LEAST_WEIGHTS = 2**20


def install(held):
    """Makes the optimizer of `held` compile its update where that pays and is safe.

    Left as they are: eager steps, distribution strategies, optimizers and constraints that are
    not Keras's or tfcomp's own (XLA may not know their operations), and small models.
    """
    if keras.backend.backend() != "tensorflow":
        return
    optimizer = held.optimizer
    apply = optimizer.apply

    def apply_compiled(grads, trainable_variables=None):
        if not _pays(held):
            return apply(grads, trainable_variables)
        import tensorflow as tf

        @tf.function(jit_compile=True, autograph=False)
        def update(gradients):
            apply(gradients, trainable_variables)

        return update(list(grads))

    optimizer.apply = apply_compiled


def _pays(held):
    import tensorflow as tf
    from tensorflow.python.framework.config import is_op_determinism_enabled

    weights = {id(entry.variable): entry.variable for entry in held.entries}
    return (
        not tf.executing_eagerly()
        and not tf.distribute.has_strategy()
        and not is_op_determinism_enabled()
        and sum(variable.value.shape.num_elements() for variable in weights.values())
        >= LEAST_WEIGHTS
        and is_known(held.optimizer)
        and all(entry.projection.compilable for entry in held.entries)
        and all(is_known(_original(v)) for v in held.optimizer._trainable_variables)
    )


def _original(variable):
    """The constraint that a variable had before anything was attached to it."""
    return getattr(variable.constraint, "original", variable.constraint)


def is_known(thing):
    """Whether XLA compiles an object's operations: one of Keras's or tfcomp's own, or `None`."""
    return thing is None or type(thing).__module__.split(".")[0] in ("keras", "tfcomp")
