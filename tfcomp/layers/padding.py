"""Padding of a convolution with a value other than zero."""


def pad_widths(layer, input_shape):
    """How much the layer's `padding`, `"same"` or `"causal"`, pads inputs of a shape.

    Args:
        layer: A convolution.
        input_shape: Shape of a batch in the layer's data format.

    Returns:
        List of `[before, after]`, one for each axis.

    Raises:
        ValueError: For `"same"` with strides where an axis has no static length: how much is
            padded depends on it.
    """
    first = 1 if layer.data_format == "channels_last" else 2
    widths = [[0, 0] for _ in range(layer.rank + 2)]
    for i, (size, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.strides, layer.dilation_rate)
    ):
        length = input_shape[first + i]
        reach = (size - 1) * dilation
        if layer.padding == "causal":
            widths[first + i] = [reach, 0]
            continue
        if stride == 1:
            total = reach
        elif length is None:
            raise ValueError(
                f"Layer {layer.name!r}: with strides, `pad_value={layer.pad_value}` and "
                f"`padding='same'` need inputs of known size. Received: shape {tuple(input_shape)}"
            )
        else:
            total = max((-(-length // stride) - 1) * stride + reach + 1 - length, 0)
        widths[first + i] = [total // 2, total - total // 2]
    return widths
