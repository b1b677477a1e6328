"""What `keras.Model.export` says of a model's inputs; the one place that asks Keras's internals."""

import keras
import tensorflow as tf

# The public `keras.export.ExportArchive` takes a signature and does not make one.
from keras.src.export.export_utils import get_input_signature, make_tf_tensor_spec


def input_specs(model, input_signature=None):
    """Returns a list of structures of `tf.TensorSpec`, one for each positional argument.

    Args:
        model: A built `keras.Model`.
        input_signature: What the user gave, or `None` for the model's own inputs with any batch
            size.
    """
    if input_signature is None:
        input_signature = get_input_signature(model)
    elif not isinstance(input_signature, (list, tuple)):
        input_signature = [input_signature]
    is_leaf = (tf.TensorSpec, keras.InputSpec, keras.KerasTensor)
    return [
        keras.tree.map_structure(
            lambda leaf: make_tf_tensor_spec(leaf) if isinstance(leaf, is_leaf) else leaf, argument
        )
        for argument in input_signature
    ]
