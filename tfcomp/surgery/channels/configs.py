"""What the configuration of a layer has to say for it to have other sizes."""

import keras
from keras import layers as keras_layers

from tfcomp import keras_private
from tfcomp.surgery.channels import layers
from tfcomp.surgery.channels.tensors import dyes_of, is_symbolic, varies


class Sizes:
    """The sizes that are left of a model's variables and tensors.

    Args:
        dyes: The `Dyes` of the model.
        removed: Boolean array, whether a dye goes.
    """

    def __init__(self, dyes, removed):
        self.dyes, self.removed = dyes, removed

    def of(self, variable, axis):
        """Size of an axis of a variable."""
        labels = self.dyes.found(variable, axis)
        if labels is None:
            return variable.shape[axis]
        left = int((~self.removed[labels]).sum())
        grouped = labels.ndim == 2 and axis % len(variable.shape) == len(variable.shape) - 2
        return left // len(labels) if grouped else left

    def shape(self, variable):
        """Shape of a variable."""
        return tuple(self.of(variable, axis) for axis in range(len(variable.shape)))

    def change(self, layer):
        """Whether any variable of a layer, or of layers in it, is to have another shape."""
        return any(self.shape(v) != tuple(v.shape) for v in layer.variables)

    def kept(self, array):
        """Which numbers of an array of dyes are kept."""
        return ~self.removed[self.dyes.roots(array)]

    def tensor(self, x):
        """Shape of a symbolic tensor, where of rows the last axis is what becomes smaller."""
        shape = list(x.shape)
        for array in dyes_of(x):
            *lead, axis = varies(array)
            rows = 1
            for other in lead:
                rows *= array.shape[other]
            # Of rows that differ there is no such shape, which is seen where it is made.
            shape[axis] = int(self.kept(array).sum()) // rows
        return tuple(shape)


def _conv(sizes, layer):
    kernel, groups = layers.kernel_of(layer), layer.groups
    filters = sizes.of(kernel, -1)
    if groups > 1 and kernel.shape[-2] == 1:
        groups = filters * groups // layer.filters
    return {"filters": filters, "groups": groups}


def _conv_transpose(sizes, layer):
    return {"filters": sizes.of(layer.kernel, -2)}


def _separable(sizes, layer):
    return {"filters": sizes.of(layer.pointwise_kernel, -1)}


def _dense(sizes, layer):
    return {"units": sizes.of(layers.kernel_of(layer), 1)}


def _embedding(sizes, layer):
    return {"output_dim": sizes.of(keras_private.stored_embeddings(layer), 1)}


def _recurrent(sizes, layer):
    return {"units": sizes.of(layer.cell.recurrent_kernel, 0)}


def _conv_lstm(sizes, layer):
    return {"filters": sizes.of(layer.cell.recurrent_kernel, -2)}


def _einsum_dense(sizes, layer):
    kernel, right = layer.equation.split(",")[1].split("->")
    shape = layer.get_config()["output_shape"]
    shape = list(shape) if isinstance(shape, (tuple, list)) else [shape]
    letters = right.strip().replace("...", "")[-len(shape) :]
    for place, letter in enumerate(letters):
        if letter in kernel:
            axis = kernel.strip().index(letter)
            shape[place - len(letters)] = sizes.of(layers.kernel_of(layer), axis)
    return {"output_shape": shape}


def _multi_head_attention(sizes, layer):
    kernels = {
        name: layers.kernel_of(projection)
        for name, projection in keras_private.attention_projections(layer).items()
    }
    config = {
        "num_heads": sizes.of(kernels["query"], 1),
        "key_dim": sizes.of(kernels["query"], 2),
        "value_dim": sizes.of(kernels["value"], 2),
    }
    output = kernels["output"]
    if sizes.of(output, 2) != output.shape[2]:
        config["output_shape"] = [sizes.of(output, 2)]
    return config


def _grouped_query_attention(sizes, layer):
    kernels = {
        name: layers.kernel_of(projection)
        for name, projection in keras_private.attention_projections(layer).items()
    }
    return {
        "num_query_heads": sizes.of(kernels["query"], 1),
        "num_key_value_heads": sizes.of(kernels["key"], 1),
        "head_dim": sizes.of(kernels["query"], 2),
    }


def attention_part(sizes, layer):
    """What part is left of the products of activations in a layer; all in an unknown one."""
    if isinstance(layer, keras_layers.MultiHeadAttention):
        new = _multi_head_attention(sizes, layer)
        width = new["num_heads"] * (new["key_dim"] + new["value_dim"])
        return width / (layer.num_heads * (layer.key_dim + layer.value_dim))
    if isinstance(layer, keras_layers.GroupQueryAttention):
        new = _grouped_query_attention(sizes, layer)
        width = new["num_query_heads"] * new["head_dim"]
        return width / (layer.num_query_heads * layer.head_dim)
    return 1.0


def _reshape(sizes, layer):
    _, _, output = sizes.dyes.seen.get(id(layer), (None, None, None))
    if not is_symbolic(output):
        return {}
    shape = zip(layer.target_shape, output.shape[1:], sizes.tensor(output)[1:])
    return {"target_shape": [old if old == -1 or was == new else new for old, was, new in shape]}


def _nothing(sizes, layer):
    return {}


_RULES = [
    (layers.CONVOLUTIONS, _conv),
    (layers.TRANSPOSED, _conv_transpose),
    (layers.SEPARABLE, _separable),
    (layers.DEPTHWISE, _nothing),
    (keras_layers.EinsumDense, _einsum_dense),
    (keras_layers.Dense, _dense),
    (
        (*layers.NORMS, keras_layers.GroupNormalization, keras_layers.PReLU, keras_layers.Softmax),
        _nothing,
    ),
    (keras_layers.Embedding, _embedding),
    (layers.RECURRENT, _recurrent),
    (layers.CONV_LSTM, _conv_lstm),
    (keras_layers.MultiHeadAttention, _multi_head_attention),
    (keras_layers.GroupQueryAttention, _grouped_query_attention),
    (keras_layers.Reshape, _reshape),
]


def changed_config(sizes, layer):
    """Dict of what a layer's configuration has to say instead; `None` where no rule knows."""
    for types, rule in _RULES:
        if isinstance(layer, types):
            return rule(sizes, layer)
    return None


def is_wrapper(layer):
    """Whether a layer's configuration holds that of the layer that it wraps."""
    return isinstance(layer, layers.WRAPPERS)


def wrapper_config(layer, make):
    """Dict of what the configuration of a wrapper has to say, given how to make a layer."""

    def made(inner):
        return keras.saving.serialize_keras_object(make(inner))

    if isinstance(layer, keras_layers.Bidirectional):
        return {
            "layer": made(layer.forward_layer),
            "backward_layer": made(layer.backward_layer),
        }
    return {"layer": made(layer.layer)}
