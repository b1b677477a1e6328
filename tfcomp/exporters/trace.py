"""The forward pass of a model as a function of tensors that stand in for its variables."""

import keras
import tensorflow as tf

from tfcomp.keras_private import assign_directly
from tfcomp.layers.base.decoded import decoded_kernels


class Substitution(keras.StatelessScope):
    """Shows a model other tensors in place of its variables, and notes which it asks for.

    Args:
        values: Dict from `id(variable)` to a tensor; the others are themselves.
    """

    def __init__(self, values):
        super().__init__()
        self.values = values
        self.read, self.updated = set(), set()

    def get_current_value(self, variable):
        self.read.add(id(variable))
        return self.values.get(id(variable))

    def add_update(self, update):
        # A stateless scope would only take note of the new value. Seeds of generators and states
        # of recurrent layers have to change whenever the exported function is called.
        variable, value = update
        self.updated.add(id(variable))
        assign_directly(variable, value)


def variables_used(model, specs, scope, kernels):
    """Finds which variables the forward pass reads, and which of them it changes.

    Args:
        model: A built `keras.Model`.
        specs: List of structures of `tf.TensorSpec`, one for each argument.
        scope: Callable that opens the scope to call the model in.
        kernels: Dict from `id(layer)` to a kernel that the layer is not to compute.

    Returns:
        Two lists of variables: those only read, those changed.
    """
    seen = Substitution({})

    def forward(*args):
        with scope(), decoded_kernels(kernels), seen:
            return model(*args)

    tf.function(forward, input_signature=specs, autograph=False).get_concrete_function()
    variables = {id(variable): variable for variable in model.variables}
    constant = [v for key, v in variables.items() if key in seen.read - seen.updated]
    return constant, [v for key, v in variables.items() if key in seen.updated]


def substituted(model, specs, scope, values):
    """Makes the function to export.

    Args:
        model: A built `keras.Model`.
        specs: List of structures of `tf.TensorSpec`, one for each argument.
        scope: Callable that opens the scope to call the model in.
        values: Callable that returns a dict from `id(variable)`, or the id of a layer that computes
            its kernel, to a tensor; called within the function.

    Returns:
        A `tf.function`.
    """

    def serve(*args):
        # Read before anything else: a value read inside a loop could not be used outside it.
        read = values()
        with scope(), decoded_kernels(read), Substitution(read):
            return model(*args)

    return tf.function(serve, input_signature=specs, autograph=False)
