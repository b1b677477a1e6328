"""What `keras.Model.export` says of a model's inputs."""

import keras
import tensorflow as tf

from tfcomp import keras_private


def input_specs(model, input_signature=None):
    """Returns a list of structures of `tf.TensorSpec`, one for each positional argument.

    Args:
        model: A built `keras.Model`.
        input_signature: What the user gave, or `None` for the model's own inputs with any batch
            size.
    """
    if input_signature is None:
        input_signature = keras_private.input_signature(model)
    elif not isinstance(input_signature, (list, tuple)):
        input_signature = [input_signature]
    is_leaf = (tf.TensorSpec, keras.InputSpec, keras.KerasTensor)

    def spec(leaf):
        return keras_private.tensor_spec(leaf) if isinstance(leaf, is_leaf) else leaf

    return [keras.tree.map_structure(spec, argument) for argument in input_signature]
