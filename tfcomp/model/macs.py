"""Multiply-accumulate operations of a layer for one sample.

One MAC is one weight times one input, or one product inside an attention. Biases, activations,
normalization and pooling are not counted, and zeros are multiplied like other weights.
"""

import math

from keras import layers

from tfcomp.layers.base.decoded import DecodedKernel


def _named(layer):
    return {variable.name: variable for variable in layer.variables}


def _size(variable):
    return math.prod(variable.shape)


def _dense(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, math.prod(call.inputs[1:-1]) * _size(kernel))]


def _einsum_dense(layer, call):
    kernel = _named(layer)["kernel"]
    inputs, weights = layer.equation.split("->")[0].replace(" ", "").split(",")
    sizes = dict(zip(weights.replace("...", ""), kernel.shape))
    both = math.prod(size for label, size in sizes.items() if label in inputs)
    return [(kernel, math.prod(call.inputs[1:]) * _size(kernel) // both)]


def _positions(shape, channels):
    return math.prod(shape[1:]) // channels


def _conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, _positions(call.output, layer.filters) * _size(kernel))]


def _transposed_conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, _positions(call.inputs, kernel.shape[-1]) * _size(kernel))]


def _depthwise_conv(layer, call):
    kernel = _named(layer)["kernel"]
    return [(kernel, _positions(call.output, kernel.shape[-1] * kernel.shape[-2]) * _size(kernel))]


def _separable_conv(layer, call):
    named = _named(layer)
    kernels = [named["depthwise_kernel"], named["pointwise_kernel"]]
    return [(kernel, _positions(call.output, layer.filters) * _size(kernel)) for kernel in kernels]


def _recurrent(layer, call):
    named = _named(layer)
    kernels = [named["kernel"], named["recurrent_kernel"]]
    return [(kernel, call.inputs[1] * _size(kernel)) for kernel in kernels]


def _attention(layer, call):
    # The projections are layers of their own. Left are queries times keys and scores times values.
    query, value = call.inputs, call.others[0]
    products = math.prod(query[1:-1]) * math.prod(value[1:-1])
    return [(None, layer.num_heads * products * (layer.key_dim + layer.value_dim))]


def _decoded(layer, call):
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    positions = _positions(call.output, call.output[axis])
    if layer.calls_kernel:
        return [(layer.parts[0], positions * math.prod(layer.kernel_shape))]
    # Every input times every codeword of its sub-space, and an addition for each code.
    codebooks, codes = layer.parts
    tables = math.prod(call.inputs[1:]) * layer.codewords
    return [(codebooks, tables), (codes, positions * _size(codes))]


def _factorized(layer, call):
    """Multiplications by the scale, and the additions of the two ternary factors."""
    axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
    positions = _positions(call.output, call.output[axis])
    factors = (layer.input_factor, layer.scale, layer.output_factor)
    return [(variable, positions * _size(variable)) for variable in factors]


def _none(layer, call):
    return []


# The first type that matches counts.
_RULES = [
    (DecodedKernel, _decoded),
    (layers.EinsumDense, _einsum_dense),
    (layers.Dense, _dense),
    ((layers.SeparableConv1D, layers.SeparableConv2D), _separable_conv),
    ((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_conv),
    ((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _transposed_conv),
    ((layers.Conv1D, layers.Conv2D, layers.Conv3D), _conv),
    ((layers.LSTM, layers.GRU, layers.SimpleRNN), _recurrent),
    (layers.MultiHeadAttention, _attention),
    ((layers.Embedding, layers.Normalization), _none),
]

# Those of tfcomp.layers, which a report need not import.
_OWN_RULES = {
    "FactorizedDense": _factorized,
    "FactorizedConv1D": _factorized,
    "FactorizedConv2D": _factorized,
    "FactorizedConv3D": _factorized,
    "YodaConv2D": _conv,
}


def rule(layer):
    """The function that counts the MACs of a layer, or `None` where there is none."""
    if type(layer).__name__ in _OWN_RULES:
        return _OWN_RULES[type(layer).__name__]
    return next((count for types, count in _RULES if isinstance(layer, types)), None)


def count(layer, call):
    """Counts the MACs of one call of a layer.

    Args:
        layer: A built layer for which there is a `rule`.
        call: A `tfcomp.model.calls.Call` of it.

    Returns:
        A list of pairs of the variable that is multiplied, `None` in a product of two activations,
        and the number of MACs; or `None` where the call has a form that the rule does not know.
    """
    try:
        counted = rule(layer)(layer, call)
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    return [(variable, number * call.times) for variable, number in counted]
