"""Padding of a convolution with a value other than zero."""

from keras import ops


def pad_widths(layer, input_shape):
    """How much the layer's `padding`, `"same"` or `"causal"`, pads inputs of a shape.

    Args:
        layer: A convolution.
        input_shape: Shape of a batch in the layer's data format; with strides, lengths may be
            scalar tensors.

    Returns:
        List of `[before, after]`, one for each axis.
    """
    first = 1 if layer.data_format == "channels_last" else 2
    widths = [[0, 0] for _ in range(layer.rank + 2)]
    for i, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.strides, layer.dilation_rate)
    ):
        reach = (size - 1) * dilation
        if layer.padding == "causal":
            widths[first + i] = [reach, 0]
            continue
        total = reach if stride == 1 else _total(input_shape[first + i], stride, reach)
        widths[first + i] = [total // 2, total - total // 2]
    return widths


def _total(length, stride, reach):
    # From the first to the last of ceil(length / stride) positions of the kernel, less the inputs.
    total = (-(-length // stride) - 1) * stride + reach + 1 - length
    return max(total, 0) if isinstance(length, int) else ops.maximum(total, 0)
