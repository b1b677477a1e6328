"""Layers with kernels: which axes of which variables read channels, and which make them."""

import keras
import numpy as np
from keras import layers

from tfcomp import keras_private
from tfcomp.surgery.channels.contractions import einsum, without_ellipsis
from tfcomp.surgery.channels.operations import elementwise
from tfcomp.surgery.channels.tensors import (
    along,
    dye,
    dyes_of,
    flat,
    freeze_along,
    give_up,
    spread,
    varies,
    without,
)

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
RECURRENT = (layers.LSTM, layers.GRU, layers.SimpleRNN)
CONV_LSTM = (layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)
WRAPPERS = (layers.Bidirectional, layers.TimeDistributed, layers.SpectralNormalization)
NORMS = (layers.BatchNormalization, layers.LayerNormalization, layers.RMSNormalization)


def kernel_of(layer):
    """The variable that is a layer's kernel."""
    kernel = keras_private.stored_kernel(layer)
    return layer.kernel if kernel is None else kernel


def channel_axis(layer, rank):
    """Axis of the channels of a layer's input and output."""
    return rank - 1 if layer.data_format == "channels_last" else 1


def _arriving(dyes, x, axis):
    """Labels along the axis of the channels; `None` where there are none."""
    axis %= len(x.shape)
    labels = along(x, axis)
    for array in dyes_of(x):
        rest = [other for other in varies(array) if other != axis]
        if labels is None and axis in varies(array) and len(dyes_of(x)) == 1:
            # One channel is made of several, by position, as in depth to space: they go together.
            rows = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis])
            dyes.tie(rows, rows[:1])
            labels = rows[0]
        elif rest:
            dyes.freeze(array, f"{dyes.where} mixes it with others")
    return labels


def _makes(dyes, layer, made, axis, output):
    """Gives the output of a layer the channels that it makes, and its bias."""
    if made is not None:
        if getattr(layer, "use_bias", False):
            dyes.reads(layer.bias, 0, made)
        dye(output, [spread(made, axis, len(output.shape))])


def _conv(dyes, layer, x, output):
    axis, kernel = channel_axis(layer, len(x.shape)), kernel_of(layer)
    labels = _arriving(dyes, x, axis)
    if layer.groups == 1:
        dyes.reads(kernel, -2, labels, sums=True)
        made = dyes.makes(kernel, -1)
    elif layer.groups == x.shape[axis]:
        # Depthwise in all but name.
        made = None if labels is None else np.repeat(labels, layer.filters // layer.groups)
        dyes.reads(kernel, -1, made)
    else:
        made = _grouped(dyes, layer, kernel, labels)
    _makes(dyes, layer, made, axis, output)


def _grouped(dyes, layer, kernel, labels):
    """The two last axes of the kernel have labels for each group: `(groups, n)`."""
    dyes.grouped.add(dyes.ordinal(kernel))
    if labels is None:
        labels = np.zeros(kernel.shape[-2] * layer.groups, np.int32)
    read, makes = dyes.key(kernel, -2), dyes.key(kernel, -1)
    dyes.sums.add(read)
    labels = labels.reshape(layer.groups, -1)
    if read in dyes.axes:
        dyes.tie(dyes.axes[read], labels)
    else:
        dyes.axes[read] = labels
    made = dyes.makes(kernel, -1)
    dyes.axes[makes] = made.reshape(layer.groups, -1)
    if layer.filters == layer.groups:
        dyes.freeze(made, f"it is the only one that a group of {dyes.where} makes")
    return made


def _conv_transpose(dyes, layer, x, output):
    axis = channel_axis(layer, len(x.shape))
    dyes.reads(layer.kernel, -1, _arriving(dyes, x, axis), sums=True)
    _makes(dyes, layer, dyes.makes(layer.kernel, -2), axis, output)


def _depthwise(dyes, layer, x, output):
    axis = channel_axis(layer, len(x.shape))
    labels = _arriving(dyes, x, axis)
    dyes.reads(layer.kernel, -2, labels)
    made = None if labels is None else np.repeat(labels, layer.depth_multiplier)
    _makes(dyes, layer, made, axis, output)


def _separable(dyes, layer, x, output):
    axis = channel_axis(layer, len(x.shape))
    labels = _arriving(dyes, x, axis)
    dyes.reads(layer.depthwise_kernel, -2, labels)
    labels = None if labels is None else np.repeat(labels, layer.depth_multiplier)
    dyes.reads(layer.pointwise_kernel, -2, labels, sums=True)
    _makes(dyes, layer, dyes.makes(layer.pointwise_kernel, -1), axis, output)


def _last(dyes, x):
    """Labels along the last axis, over which everything that varies there is summed."""
    axis = len(x.shape) - 1
    labels = along(x, axis)
    if labels is None:
        freeze_along(dyes, x, [axis], f"{dyes.where} mixes it with others")
    return labels


def _dense(dyes, layer, x, output):
    kernel = kernel_of(layer)
    dyes.reads(kernel, 0, _last(dyes, x), sums=True)
    made, others = dyes.makes(kernel, 1), without(x, [len(x.shape) - 1])
    _makes(dyes, layer, made, -1, output)
    dye(output, others + dyes_of(output))


def equation_of(layer, rank):
    """The equation of an `EinsumDense` with letters in place of `...`."""
    kernel = layer.equation.split(",")[1].split("->")[0].strip()
    return without_ellipsis(layer.equation.replace(" ", ""), [(1,) * rank, (1,) * len(kernel)])


def _einsum_dense(dyes, layer, x, output):
    equation, kernel = equation_of(layer, len(x.shape)), kernel_of(layer)
    term, right = equation.split("->")[0].split(",")[1], equation.split("->")[1]
    einsum(dyes, equation, [x, dyes.show(kernel)], output)
    dyes.made += [dyes.key(kernel, axis) for axis, c in enumerate(term) if c in right]
    if layer.bias is not None:
        elementwise(dyes, [output, dyes.show(layer.bias)], output)


def einsum_dense_shape(layer, x):
    """The output's shape; Keras forgets the sizes that it was given."""
    left, right = equation_of(layer, len(x.shape)).split("->")
    terms = left.split(",")
    sizes = {**dict(zip(terms[1], kernel_of(layer).shape)), **dict(zip(terms[0], x.shape))}
    return tuple(sizes[letter] for letter in right)


def _norm(dyes, layer, x, output):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [axis % len(x.shape) for axis in axes]
    mixes = not isinstance(layer, layers.BatchNormalization)
    for array in dyes_of(x):
        if set(varies(array)) & set(axes):
            if mixes:
                dyes.inexact.update(np.unique(array).tolist())
            if len(varies(array)) > 1 or (mixes and len(axes) > 1):
                dyes.freeze(array, f"{dyes.where} mixes it with others")
    if len(axes) == 1:
        for name in ("gamma", "beta", "moving_mean", "moving_variance", "scale"):
            variable = getattr(layer, name, None)
            if isinstance(variable, keras.Variable):
                dyes.reads(variable, 0, along(x, axes[0]))
    dye(output, dyes_of(x))


def _group_norm(dyes, layer, x, output):
    labels = along(x, layer.axis)
    if labels is None:
        give_up(dyes, dyes.where, [x], [output])
        return
    dyes.inexact.update(np.unique(labels).tolist())
    groups = len(labels) if layer.groups == -1 else layer.groups
    place = dyes.new_place("GroupNormalization", labels)
    for row, members in enumerate(labels.reshape(groups, -1)):
        dyes.mark(place, row, members)
    if len(labels) == groups:
        dyes.freeze(labels, f"{dyes.where} has as many groups")
    for variable in (layer.gamma, layer.beta):
        if variable is not None:
            dyes.reads(variable, 0, labels)
    dye(output, dyes_of(x))


def _softmax(dyes, layer, x, output):
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    axes = [axis % len(x.shape) for axis in axes]
    freeze_along(dyes, x, axes, f"{dyes.where} mixes it with others")
    dye(output, without(x, axes))


def _embedding(dyes, layer, x, output):
    made = dyes.makes(keras_private.stored_embeddings(layer), 1)
    dye(output, [spread(made, -1, len(output.shape))])


def reverse_embedding(dyes, layer, x, output):
    """An embedding as the last layer, which reads what it made as the first."""
    labels = _last(dyes, x)
    if layer.tie_weights:
        dyes.reads(keras_private.stored_embeddings(layer), 1, labels, sums=True)
    else:
        dyes.reads(layer.reverse_embeddings, 0, labels, sums=True)
    dye(output, without(x, [len(x.shape) - 1]))


def _prelu(dyes, layer, x, output):
    elementwise(dyes, [x, dyes.show(layer.alpha)], output)


def _recurrent(dyes, layer, x, outputs, state=()):
    """Units of a cell: the state that comes back in is what went out."""
    cell = layer.cell
    kernel, recurrent = cell.kernel, cell.recurrent_kernel
    dyes.reads(kernel, 0, _last(dyes, x), sums=True)
    made = dyes.makes(recurrent, 0)
    dyes.sums.add(dyes.key(recurrent, 0))
    gates = np.tile(made, recurrent.shape[1] // cell.units)
    for variable, axis in ((kernel, 1), (recurrent, 1), (cell.bias, -1)):
        if variable is not None:
            dyes.reads(variable, axis, gates)
    _states(dyes, made, -1, flat(outputs), flat(state))


def _conv_lstm(dyes, layer, x, outputs, state=()):
    cell = layer.cell
    # Behind the batch and the steps.
    axis = len(x.shape) - 1 if layer.data_format == "channels_last" else 2
    dyes.reads(cell.kernel, -2, _arriving(dyes, x, axis), sums=True)
    made = dyes.makes(cell.recurrent_kernel, -2)
    dyes.sums.add(dyes.key(cell.recurrent_kernel, -2))
    gates = np.tile(made, 4)
    for variable in (cell.kernel, cell.recurrent_kernel, cell.bias):
        if variable is not None:
            dyes.reads(variable, -1, gates)
    axis = -1 if layer.data_format == "channels_last" else -1 - len(layer.kernel_size)
    _states(dyes, made, axis, flat(outputs), flat(state))


def _states(dyes, made, axis, outputs, state):
    for given in state:
        labels = along(given, axis)
        dyes.tie(made, np.zeros(len(made), np.int32) if labels is None else labels)
    for output in outputs:
        dye(output, [spread(made, axis, len(output.shape))])


RULES = [
    (CONVOLUTIONS, _conv),
    (TRANSPOSED, _conv_transpose),
    (DEPTHWISE, _depthwise),
    (SEPARABLE, _separable),
    (layers.EinsumDense, _einsum_dense),
    (layers.Dense, _dense),
    (layers.GroupNormalization, _group_norm),
    (NORMS, _norm),
    (layers.Embedding, _embedding),
    (layers.PReLU, _prelu),
    (layers.Softmax, _softmax),
    (RECURRENT, _recurrent),
    (CONV_LSTM, _conv_lstm),
]

# They do nothing to channels.
PASSING = (
    layers.Dropout,
    layers.SpatialDropout1D,
    layers.SpatialDropout2D,
    layers.SpatialDropout3D,
    layers.GaussianNoise,
    layers.GaussianDropout,
    layers.AlphaDropout,
    layers.ActivityRegularization,
    layers.Masking,
)


def rule_for(layer):
    """The rule of a layer, or `None` where it has none or computes something by code of its own."""
    known = keras_private.home(layer) or type(layer).call.__module__.startswith("tfcomp.")
    if not known:
        return None
    return next((rule for types, rule in RULES if isinstance(layer, types)), None)
