"""Multiply-accumulate operations of layers.

One MAC is one weight times one input, or one product in a sum over products of activations, as in
an attention. Biases, activations, normalization, pooling and other work element by element are not
counted, and zeros are multiplied like other weights.

Keras's layers have rules here. Any other layer may say its own MACs, and must where nothing else
tells them, in a method

    def count_macs(self, call):
        return [(self.kernel, math.prod(call.inputs) * self.units)]

It is given a `tfcomp.model.calls.Call`, the shapes of one call of the layer, and returns a list of
pairs of the variable that is multiplied, `None` in a product of two activations, and the number of
MACs; an empty list where the layer multiplies nothing, and `None` where the number is not known.
MACs of sublayers are not among them.

A layer without rule and method that has no kernel of its own is called on symbolic tensors, and the
products of `keras.ops` that it makes are counted. Where it cannot be called so, and wherever else
nothing tells the number, the MACs are unknown.
"""

import math

from keras import layers

from tfcomp import keras_private, targets
from tfcomp.model import products


def _named(layer):
    return {variable.name: variable for variable in layer.variables}


def _size(variable):
    return math.prod(variable.shape)


def _dense(layer, call):
    # A kernel of four bits is stored as half as many bytes.
    return [(_named(layer)["kernel"], math.prod(call.inputs) * layer.units)]


def _einsum_dense(layer, call):
    number, _ = products.einsum(layer.equation, [call.inputs, None], call.output)
    return [(_named(layer)["kernel"], number)]


def positions(shape, channels):
    """Number of positions in an image or sequence of so many channels."""
    return math.prod(shape) // channels


def _conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, positions(call.output, layer.filters) * _size(kernel))]


def _transposed_conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, positions(call.inputs, kernel.shape[-1]) * _size(kernel))]


def _depthwise_conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, positions(call.output, kernel.shape[-1] * kernel.shape[-2]) * _size(kernel))]


def _separable_conv(layer, call):
    named = _named(layer)
    kernels = [named["depthwise_kernel"], named["pointwise_kernel"]]
    return [(kernel, positions(call.output, layer.filters) * _size(kernel)) for kernel in kernels]


def _recurrent(layer, call):
    cells = getattr(layer.cell, "cells", [layer.cell])
    if not all(isinstance(cell, _CELLS) for cell in cells):
        return None
    steps = math.prod(call.inputs[:2])
    kernels = [_named(cell)[name] for cell in cells for name in ("kernel", "recurrent_kernel")]
    return [(kernel, steps * _size(kernel)) for kernel in kernels]


def _conv_lstm(layer, call):
    named = _named(layer)
    output = call.output[0] if layer.return_state else call.output
    places = positions(output, layer.filters)
    # Of all steps, or of the last one.
    places *= 1 if layer.return_sequences else call.inputs[1]
    return [(named[name], places * _size(named[name])) for name in ("kernel", "recurrent_kernel")]


def _multi_head_attention(layer, call):
    # The projections are layers of their own. Left are queries times keys and scores times values.
    query, value = call.arguments["query"], call.arguments["value"]
    axes = layer.get_config()["attention_axes"] or range(1, len(query) - 1)
    attended = {axis % len(query) for axis in axes}
    others = [size for axis, size in enumerate(query[:-1]) if axis not in attended]
    pairs = math.prod(others) * math.prod(query[axis] * value[axis] for axis in attended)
    return [(None, layer.num_heads * pairs * (layer.key_dim + layer.value_dim))]


def _grouped_query_attention(layer, call):
    query, value = call.arguments["query"], call.arguments["value"]
    pairs = math.prod(query[:-1]) * value[1]
    return [(None, layer.num_query_heads * pairs * 2 * layer.head_dim)]


def _queries_and_values(call):
    query, value = call.inputs[:2]
    pairs = math.prod(query[:-1]) * value[-2]
    return query, value, pairs


def _attention(layer, call):
    query, value, pairs = _queries_and_values(call)
    # Sums of `tanh` are no products.
    scores = query[-1] if layer.score_mode == "dot" else 0
    return [(None, pairs * (scores + value[-1]))]


def _additive_attention(layer, call):
    query, value, pairs = _queries_and_values(call)
    scales = [(layer.scale, pairs * query[-1])] if layer.use_scale else []
    return [*scales, (None, pairs * value[-1])]


def _dot(layer, call):
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    return [(None, math.prod(call.output) * call.inputs[0][axes])]


def _reversible_embedding(layer, call):
    if not call.arguments.get("reverse"):
        return []
    name = "embeddings" if layer.tie_weights else "reverse_embeddings"
    kernel = _named(layer)[name]
    return [(kernel, math.prod(call.inputs[:-1]) * _size(kernel))]


def _none(layer, call):
    return []


_CELLS = (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell)

# The first type that matches counts.
_RULES = [
    (layers.EinsumDense, _einsum_dense),
    (layers.Dense, _dense),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable_conv),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_conv),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_conv),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _conv),
    ((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _conv_lstm),
    (layers.RNN, _recurrent),
    (layers.MultiHeadAttention, _multi_head_attention),
    (layers.GroupQueryAttention, _grouped_query_attention),
    (layers.AdditiveAttention, _additive_attention),
    (layers.Attention, _attention),
    (layers.Dot, _dot),
]
# Not in the oldest Keras there is.
if hasattr(layers, "ReversibleEmbedding"):
    _RULES.append((layers.ReversibleEmbedding, _reversible_embedding))

# Parts of Keras whose layers multiply nothing, or element by element, at inference.
_MULTIPLY_NOTHING = (
    "layers.activations.",
    "layers.core.embedding",
    "layers.core.identity",
    "layers.core.input_layer",
    "layers.core.masking",
    "layers.merging.",
    "layers.normalization.",
    "layers.pooling.",
    "layers.preprocessing.",
    "layers.regularization.",
    "layers.reshaping.",
    # They call what they hold.
    "layers.rnn.bidirectional",
    "layers.rnn.time_distributed",
    "models.functional",
    "models.sequential",
)
# Fourier transforms.
_SPECTROGRAMS = ("layers.preprocessing.mel_", "layers.preprocessing.stft_")


def _rule(layer):
    """The function of a layer and its call that returns pairs, or `None` where there is none."""
    if hasattr(layer, "count_macs"):
        return lambda layer, call: layer.count_macs(call)
    found = next((count for types, count in _RULES if isinstance(layer, types)), None)
    if found is None:
        home = keras_private.home(layer)
        if home.startswith(_MULTIPLY_NOTHING) and not home.startswith(_SPECTROGRAMS):
            return _none
        if home.startswith("ops."):
            return products.rule(layer)
    return found


def only_operations_tell(layer):
    """Whether the MACs of a layer are known only where the operations it makes are."""
    return (
        isinstance(layer, layers.Layer)
        and _rule(layer) is None
        and not any(map(targets.is_kernel, targets.own_variables(layer)))
    )


def _of_operations(call):
    if call.operations is None:
        return None
    counted = [count(operation) for operation in call.operations]
    return None if None in counted else [pair for pairs in counted for pair in pairs]


def count(call):
    """Counts the MACs of one call of a layer or operation for one sample.

    Args:
        call: A `tfcomp.model.calls.Call`.

    Returns:
        A list of pairs of the variable that is multiplied, `None` in a product of two activations,
        and the number of MACs; or `None` where it is not known.
    """
    rule = _rule(call.layer)
    if rule is None:
        return _of_operations(call)
    try:
        counted = rule(call.layer, call)
    except (AttributeError, IndexError, KeyError, TypeError):
        if hasattr(call.layer, "count_macs"):
            raise
        # The call has a form that the rule does not know.
        return None
    if counted is None:
        return None
    return [(variable, _per_sample(number, call)) for variable, number in counted]


def _per_sample(number, call):
    whole, rest = divmod(number * call.times, call.batch)
    return whole + rest / call.batch if rest else whole
