"""A teacher stays as it is."""

import contextlib

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.core.entry import as_numpy
from tfcomp.targets import layer_sites


@contextlib.contextmanager
def unchanged(teacher):
    """Context after which a model has every value and every `trainable` flag that it had before.

    Statistics and the states of random numbers are among the values. Keras freezes a teacher.

    Args:
        teacher: A model; what is no `keras.Model` is left alone.
    """
    if not isinstance(teacher, keras.Model):
        yield
        return
    layers = [teacher, *(site.layer for site in layer_sites(teacher))]
    flags = [(layer, layer.trainable) for layer in layers]
    values = [(variable, variable.trainable, as_numpy(variable)) for variable in teacher.variables]
    values = [(variable, flag, np.array(value)) for variable, flag, value in values]
    try:
        yield
    finally:
        for layer, flag in flags:
            keras_private.set_own_trainable(layer, flag)
        for variable, flag, value in values:
            variable.trainable = flag
            # On JAX, a step that raises before it is done leaves none.
            if (
                not keras_private.has_value(variable)
                or as_numpy(variable).tobytes() != value.tobytes()
            ):
                variable.assign(value)
