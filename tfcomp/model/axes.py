"""Along which axes of a weight its output channels lie."""

import math

import keras

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def is_depthwise(layer, name):
    """Whether a weight has one input channel for each of its outputs."""
    return name == "depthwise_kernel" or isinstance(layer, _DEPTHWISE)


def output_axes(layer, name):
    """Returns a tuple of negative axes.

    Args:
        layer: The layer that owns the weight.
        name: Name of the weight in it, `"kernel"` for example.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        return einsum_output_axes(layer.equation)
    if is_depthwise(layer, name):
        return (-2, -1)
    # Each row of an embedding is the output for one input.
    if isinstance(layer, (*_TRANSPOSED, keras.layers.Embedding)):
        return (-2,)
    return (-1,)


def einsum_output_axes(equation):
    """The axes of the kernel of an `EinsumDense` that are axes of its output."""
    _, kernel = equation.split("->")[0].split(",")
    output = equation.split("->")[1]
    kernel = kernel.replace("...", "").strip()
    return tuple(i - len(kernel) for i, label in enumerate(kernel) if label in output)


def as_matrix(array, axes):
    """A weight as a matrix of its inputs by its outputs.

    Args:
        array: Numpy array.
        axes: Tuple of negative axes, as `output_axes` returns them.

    Returns:
        Array `(inputs, outputs)`, each in the order of the weight's axes.
    """
    outputs = sorted(axis + array.ndim for axis in axes)
    inputs = [axis for axis in range(array.ndim) if axis not in outputs]
    columns = math.prod(array.shape[axis] for axis in outputs)
    return array.transpose(inputs + outputs).reshape(-1, columns)


def from_matrix(matrix, shape, axes):
    """The array of a given shape that `as_matrix` makes this matrix of."""
    outputs = sorted(axis + len(shape) for axis in axes)
    order = [axis for axis in range(len(shape)) if axis not in outputs] + outputs
    moved = matrix.reshape([shape[axis] for axis in order])
    return moved.transpose([order.index(axis) for axis in range(len(shape))])
