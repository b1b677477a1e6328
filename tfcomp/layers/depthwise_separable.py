"""MobileNet's building block.

Andrew Howard et al., "MobileNets", arXiv:1704.04861.
"""

import keras

from tfcomp.layers.base.composite import Composite
from tfcomp.validation import check_integer


@keras.saving.register_keras_serializable("tfcomp")
class DepthwiseSeparableBlock(Composite):
    """A 3×3 filter for each channel, then a convolution 1×1 that mixes channels.

    Each of the two is followed by batch normalization and `activation`.

    Args:
        filters: Channels of the output.
        strides: Strides of the depthwise convolution.
        depth_multiplier: Depthwise filters for each input channel.
        activation: Name of an activation, or a function; `"relu"` in the paper, `"relu6"` in
            Keras's MobileNet.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, height / strides, width / strides, filters)`.

    Raises:
        ValueError: If a number is not a positive integer.

    Reference:
        Andrew Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
        Applications", arXiv:1704.04861.

    Example:

    >>> import keras, tfcomp
    >>> tfcomp.layers.DepthwiseSeparableBlock(128, strides=2)(keras.Input((112, 112, 64))).shape
    (None, 56, 56, 128)
    """

    def __init__(
        self,
        filters,
        strides=1,
        depth_multiplier=1,
        activation="relu",
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.filters = check_integer("filters", filters, 1)
        self.strides = check_integer("strides", strides, 1)
        self.depth_multiplier = check_integer("depth_multiplier", depth_multiplier, 1)
        self.activation = keras.activations.get(activation)

    def _normalized(self, x, name):
        x = self.norm(f"{name}_norm")(x)
        return keras.layers.Activation(
            self.activation, dtype=self.dtype_policy, name=f"{name}_activation"
        )(x)

    def connect(self, inputs):
        depthwise = self.depthwise(3, self.strides, "depthwise", self.depth_multiplier)
        x = self._normalized(depthwise(inputs), "depthwise")
        return self._normalized(self.pointwise(self.filters, "pointwise")(x), "pointwise")

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "depth_multiplier": self.depth_multiplier,
            "activation": keras.activations.serialize(self.activation),
        }
