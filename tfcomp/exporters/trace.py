"""The forward pass of a model as a function of tensors that stand in for its variables."""

import keras
import tensorflow as tf

from tfcomp.keras_private import assign_directly
from tfcomp.layers.base.decoded import decoded_kernels


class Substitution(keras.StatelessScope):
    """Shows a model other tensors in place of its variables, and notes which it asks for.

    What the model changes is changed, unless a scope around this one has it otherwise.

    Args:
        values: Dict from `id(variable)` to a tensor; the others are what they are around it.
    """

    def __init__(self, values):
        super().__init__()
        self.values = values
        self.read, self.updated = set(), set()

    def get_current_value(self, variable):
        value, outer = self.values.get(id(variable)), self.original_scope
        if value is None and isinstance(outer, Substitution):
            return outer.get_current_value(variable)
        self.read.add(id(variable))
        return value

    def add_update(self, update):
        # A stateless scope would only take note of the new value. Seeds of generators and states
        # of recurrent layers have to change whenever the exported function is called.
        variable, value = update
        self.updated.add(id(variable))
        if self.original_scope is None:
            assign_directly(variable, value)
        else:
            self.original_scope.add_update(update)


def called(function):
    """A `tf.function` that is called as one op, and not copied to where it is called."""
    attributes = {"_noinline": True}
    return tf.function(function, autograph=False, experimental_attributes=attributes)


class Inference(keras.layers.Layer):
    """Calls a function for inference.

    Layers without an argument of their own, or with a default, take `training` from the layer
    around them. In a model whose `call` does not pass it on, only a layer around the model tells
    them that they are not trained.

    Args:
        function: Callable of tensors.
    """

    def __init__(self, function):
        # Inputs keep their dtypes.
        super().__init__(name="inference", autocast=False)
        self.function = function
        self.built = True

    def call(self, *args):
        return self.function(*args)

    @classmethod
    def of(cls, function):
        """The function for inference: with `training=False` for all layers that do not say else."""
        layer = cls(function)
        return lambda *args: layer(*args, training=False)


def seen(endpoint, scope, kernels):
    """Finds which variables an endpoint reads and which it changes.

    Args:
        endpoint: A `tfcomp.exporters.signature.Endpoint`.
        scope: Callable that opens the scope to call the model in.
        kernels: Dict from `id(layer)` to a kernel that the layer is not to compute.

    Returns:
        A `Substitution`, whose `read` and `updated` are sets of ids.
    """
    substitution = Substitution({})

    def forward(*args):
        with scope(), decoded_kernels(kernels), substitution:
            return endpoint.traced(*args)

    tf.function(forward, input_signature=endpoint.specs, autograph=False).get_concrete_function()
    return substitution


def substituted(endpoint, scope, values, plan=None):
    """Makes the function to export.

    Args:
        endpoint: A `tfcomp.exporters.signature.Endpoint`.
        scope: Callable that opens the scope to call the model in.
        values: Callable that returns a dict from `id(variable)`, or the id of a layer that computes
            its kernel, to a tensor; called within the function.
        plan: Optional `tfcomp.exporters.latency.plan.Plan` of the kernels to compute with.

    Returns:
        A `tf.function`.
    """

    def serve(*args):
        # Read before anything else: a value read inside a loop could not be used outside it.
        read = values()
        if plan is not None:
            return plan.function(read)(*args)
        with scope(), decoded_kernels(read), Substitution(read):
            return endpoint.traced(*args)

    if endpoint.python is not None:
        serve.__signature__ = endpoint.python
    return tf.function(serve, input_signature=endpoint.specs, autograph=False)
