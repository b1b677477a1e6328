"""XNOR-Net's scales of binary inputs.

Mohammad Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional Neural
Networks", arXiv:1603.05279.
"""

import math

from keras import ops

from tfcomp.layers.base.finish import finish
from tfcomp.layers.base.in_call import ReadInCall
from tfcomp.layers.base.padding import pad_widths


def patch_means(layer, inputs, groups=1):
    """The map K of a convolution: the mean magnitude of the inputs under its kernel.

    `K = A * k`, where A is the mean magnitude over the channels and k the kernel's window filled
    with `1 / (w h)`, moved with the strides, padding and dilation of the layer. Padding counts as
    zeros.

    Args:
        layer: A convolution.
        inputs: Batch in the layer's data format.
        groups: Into how many groups the channels are split, with a map for each.

    Returns:
        Tensor of the spatial shape of the layer's outputs, with `groups` channels, those last.
    """
    first = 1 if layer.data_format == "channels_last" else 2
    widths = [[0, 0]] * layer.rank
    if layer.padding != "valid":
        widths = pad_widths(layer, ops.shape(inputs))[first : first + layer.rank]

    magnitude = ops.abs(inputs)
    if layer.data_format == "channels_first":
        magnitude = ops.moveaxis(magnitude, 1, len(magnitude.shape) - 1)
    *outer, channels = ops.shape(magnitude)
    magnitude = ops.mean(ops.reshape(magnitude, [*outer, groups, channels // groups]), axis=-1)
    # Each group is an image of its own; a convolution of many groups would be slow or missing.
    magnitude = ops.pad(magnitude, [[0, 0], *widths, [0, 0]])
    # Axes from the front: some exporters of PyTorch write the others as they are.
    magnitude = ops.moveaxis(magnitude, len(magnitude.shape) - 1, 1)
    images = ops.reshape(magnitude, [-1, *ops.shape(magnitude)[2:], 1])

    window = ops.full((*layer.kernel_size, 1, 1), 1 / math.prod(layer.kernel_size), images.dtype)
    means = ops.conv(
        images,
        window,
        strides=list(layer.strides),
        padding="valid",
        dilation_rate=list(layer.dilation_rate),
        data_format="channels_last",
    )
    means = ops.reshape(means, [-1, groups, *ops.shape(means)[1:-1]])
    return ops.moveaxis(means, 1, len(means.shape) - 1)


def _unless_scaled(value):
    return ReadInCall(lambda layer, name, stored: value if layer.input_scale else stored())


class DenseInputScale:
    """Multiplies the binary inputs of a dense layer by their mean magnitude over the features."""

    def _prepare(self, inputs, training):
        outputs = super()._prepare(inputs, training)
        # The same as multiplying the product afterwards.
        return outputs * self.input_scales(inputs) if self.input_scale else outputs

    def input_scales(self, inputs):
        """What the product is multiplied by."""
        return ops.mean(ops.abs(inputs), axis=-1, keepdims=True)


class ConvInputScale:
    """Multiplies a binary convolution, before bias and activation, by the map K of its inputs."""

    use_bias = _unless_scaled(False)
    activation = _unless_scaled(None)

    def _scale_groups(self, inputs):
        return self.groups

    def call(self, inputs, training=None):
        outputs = super().call(inputs, training=training)
        if not self.input_scale:
            return outputs
        axis = -1 if self.data_format == "channels_last" else 1
        scales = self.input_scales(inputs, outputs.shape[axis])
        return finish(self, outputs * ops.moveaxis(scales, -1, axis))

    def input_scales(self, inputs, channels):
        """What the product is multiplied by, for so many outputs, channels last."""
        groups = self._scale_groups(inputs)
        scales = patch_means(self, inputs, groups)
        return scales if groups == 1 else ops.repeat(scales, channels // groups, axis=-1)


class DepthwiseInputScale(ConvInputScale):
    """The same with a map for each channel, which is all that a depthwise filter sees."""

    def _scale_groups(self, inputs):
        return inputs.shape[-1 if self.data_format == "channels_last" else 1]
