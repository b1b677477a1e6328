"""A model's inference on copies of its variables: what Keras's own exporters are given.

Nothing that happens to the copies, or is left of a trace, reaches the model: other threads go on
predicting and training with it.
"""

import keras
import numpy as np

from tfcomp.keras_private import assign_directly
from tfcomp.model.final_weights import FinalWeights


def _lookup_tables(model):
    """Tables of TensorFlow in a model's layers, which Keras looks for in what it exports."""
    if keras.backend.backend() != "tensorflow":
        return []
    import tensorflow as tf

    kind = tf.saved_model.experimental.TrackableResource
    return [v for v in tf.train.TrackableView(model).descendants() if isinstance(v, kind)]


class _Copies(keras.StatelessScope):
    """Scope in which copies are read and assigned in place of a model's variables.

    Args:
        copies: Dict from `id(variable)` to its copy.
    """

    def __init__(self, copies):
        super().__init__()
        self._copies = copies

    def get_current_value(self, variable):
        copy, outer = self._copies.get(id(variable)), self.original_scope
        if copy is not None:
            return copy.value
        return None if outer is None else outer.get_current_value(variable)

    def add_update(self, update):
        variable, value = update
        copy, outer = self._copies.get(id(variable)), self.original_scope
        if copy is not None:
            copy.assign(value)
        elif outer is not None:
            outer.add_update(update)
        else:
            assign_directly(variable, value)


class Snapshot(keras.Model):
    """Computes what a model computes in inference, from its final weights as they are now.

    Args:
        model: A built `keras.Model`.
        call: Optional function that computes with the model's layers, in its place.

    Attributes:
        copies: List of the copies, in the order of the model's variables.
        unquantized: Those of them that hold numbers as exact as the machine has.
    """

    def __init__(self, model, call=None):
        super().__init__(name=model.name)
        final = FinalWeights(model)
        # Unseen by Keras and PyTorch, which would take the model's own variables for this one's.
        object.__setattr__(self, "_exported", (model, call or model, final.scope))
        self.copies = [
            keras.Variable(
                final.value(variable)
                if final.is_quantized(variable)
                else np.array(keras.ops.convert_to_numpy(variable.value)),
                dtype=variable.dtype,
                trainable=variable.trainable,
                # PyTorch tells parameters apart by their names alone.
                name=f"{variable.path.replace('/', '_')}_{index}",
            )
            for index, variable in enumerate(model.variables)
        ]
        self.unquantized = [
            copy
            for variable, copy in zip(model.variables, self.copies)
            if not final.is_quantized(variable) and variable.dtype in ("float32", "float64")
        ]
        self.resources = _lookup_tables(model)
        self.build()

    def build(self, input_shape=None):
        """Nothing but what Keras does around it: PyTorch is told of the parameters."""

    def __call__(self, *args, **kwargs):
        # Not in `call`: Keras's `__call__` would give the model's layers paths within this one.
        model, call, final = self._exported
        copies = {id(mine): copy for mine, copy in zip(model.variables, self.copies)}
        with final(), _Copies(copies):
            return call(*args, training=False)

    def eval(self):
        """Nothing: Keras's layers have no modes as PyTorch's have."""
        return self
