"""What a layer does behind its product: bias and activation."""

from keras import ops


def finish(layer, outputs):
    """Adds the bias of a dense layer or convolution, and applies its activation."""
    if layer.use_bias:
        shape = [1] * len(outputs.shape)
        first = getattr(layer, "data_format", None) == "channels_first"
        shape[1 if first else -1] = -1
        outputs = ops.add(outputs, ops.reshape(layer.bias, shape))
    return outputs if layer.activation is None else layer.activation(outputs)
