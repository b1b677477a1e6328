"""Along which axes of a weight its output channels lie."""

import keras

_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)


def output_axes(layer, name):
    """Returns a tuple of negative axes.

    Args:
        layer: The layer that owns the weight.
        name: Name of the weight in it, `"kernel"` for example.
    """
    if isinstance(layer, keras.layers.EinsumDense):
        return einsum_output_axes(layer.equation)
    if name == "depthwise_kernel" or isinstance(layer, _DEPTHWISE):
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
