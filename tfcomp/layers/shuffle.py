"""ShuffleNet's building blocks.

Xiangyu Zhang et al., "ShuffleNet", arXiv:1707.01083.
"""

import keras
from keras import ops

from tfcomp.layers.base.composite import Composite
from tfcomp.layers.base.data_format import checked_data_format
from tfcomp.validation import check_integer, check_number, invalid


def _check_groups(groups, channels, what):
    if channels % groups:
        raise invalid("groups", groups, f"a divisor of the {channels} {what}")


@keras.saving.register_keras_serializable("tfcomp")
class ChannelShuffle(keras.layers.Layer):
    """Deals the channels of every group out to all groups, so that groups exchange information.

    Channels, seen as a matrix of `groups` rows, are transposed.

    Args:
        groups: Number of groups.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        Any, with channels in the last axis, or in axis 1 with `"channels_first"`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `groups` is not a positive integer or does not divide the channels.

    Reference:
        Xiangyu Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
        Mobile Devices", arXiv:1707.01083.

    Example:

    >>> import numpy as np, tfcomp
    >>> np.array(tfcomp.layers.ChannelShuffle(2)(np.array([[0.0, 1.0, 2.0, 3.0]])))
    array([[0., 2., 1., 3.]], dtype=float32)
    """

    def __init__(self, groups, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.groups = check_integer("groups", groups, 1)
        self.data_format = checked_data_format(data_format)

    def build(self, input_shape):
        axis = -1 if self.data_format == "channels_last" else 1
        _check_groups(self.groups, input_shape[axis], "input channels")

    def call(self, inputs):
        axis = len(inputs.shape) - 1 if self.data_format == "channels_last" else 1
        shape = list(ops.shape(inputs))
        split = [*shape[:axis], self.groups, shape[axis] // self.groups, *shape[axis + 1 :]]
        return ops.reshape(ops.swapaxes(ops.reshape(inputs, split), axis, axis + 1), shape)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "groups": self.groups,
            "data_format": self.data_format,
        }


@keras.saving.register_keras_serializable("tfcomp")
class ShuffleUnit(Composite):
    """A residual unit of grouped 1×1 convolutions, with a channel shuffle between them.

    1×1 grouped convolution, batch normalization, ReLU, channel shuffle, 3×3 depthwise convolution,
    batch normalization, 1×1 grouped convolution, batch normalization; then the input is added.
    With strides the input is average-pooled 3×3 and concatenated instead, and the branch makes the
    channels that are missing. ReLU comes last.

    Args:
        filters: Channels of the output. Without strides it is the number of input channels.
        groups: Groups of the 1×1 convolutions.
        strides: 1 or 2.
        bottleneck_ratio: Channels inside the unit as a fraction of `filters`, rounded to a multiple
            of `groups`; 1/4 in the paper.
        first_grouped: Whether the first convolution is grouped; not so in the first unit of the
            paper's stage 2, whose input has few channels.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, height / strides, width / strides, filters)`.

    Raises:
        ValueError: If `groups` does not divide the channels it has to, or if the input has a number
            of channels that does not suit `filters`.

    Reference:
        Xiangyu Zhang et al., "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
        Mobile Devices", arXiv:1707.01083.

    Example:

    >>> import keras, tfcomp
    >>> x = keras.Input((56, 56, 24))
    >>> tfcomp.layers.ShuffleUnit(240, groups=3, strides=2, first_grouped=False)(x).shape
    (None, 28, 28, 240)
    """

    def __init__(
        self,
        filters,
        groups=3,
        strides=1,
        bottleneck_ratio=0.25,
        first_grouped=True,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        check_number("bottleneck_ratio", bottleneck_ratio, above=0)
        if bottleneck_ratio > 1:
            raise invalid("bottleneck_ratio", bottleneck_ratio, "a number in (0, 1]")
        self.filters = check_integer("filters", filters, 1)
        self.groups = check_integer("groups", groups, 1)
        self.strides = check_integer("strides", strides, 1, 2)
        self.bottleneck_ratio = bottleneck_ratio
        self.first_grouped = bool(first_grouped)
        if self.strides == 1:
            _check_groups(self.groups, self.filters, "channels of the output")

    @property
    def _inside(self):
        # The paper has channels that their groups do not divide: at half its width for example.
        whole = round(self.filters * self.bottleneck_ratio) / self.groups
        return self.groups * max(1, int(whole + 0.5))

    def connect(self, inputs):
        channels = inputs.shape[self.channel_axis]
        branch = self.filters - channels if self.strides == 2 else self.filters
        if (self.strides == 1 and channels != self.filters) or branch < 1:
            expected = "fewer than" if self.strides == 2 else "as many as"
            raise invalid(
                "filters",
                self.filters,
                f"{expected} it in the input, which has {channels} channels",
            )
        first = self.groups if self.first_grouped else 1
        _check_groups(first, channels, "input channels")
        _check_groups(self.groups, branch, "channels that the branch makes")

        x = self.pointwise(self._inside, "compress", first)(inputs)
        x = self.norm("compress_norm")(x)
        x = keras.layers.ReLU(dtype=self.dtype_policy, name="compress_relu")(x)
        x = ChannelShuffle(self.groups, name="shuffle", **self.of_images)(x)
        x = self.depthwise(3, self.strides, "depthwise")(x)
        x = self.norm("depthwise_norm")(x)
        x = self.pointwise(branch, "expand", self.groups)(x)
        x = self.norm("expand_norm")(x)
        if self.strides == 2:
            shortcut = keras.layers.AveragePooling2D(
                3, 2, padding="same", name="shortcut", **self.of_images
            )(inputs)
            x = self.concatenation()([shortcut, x])
        else:
            x = keras.layers.Add(dtype=self.dtype_policy, name="add")([inputs, x])
        return keras.layers.ReLU(dtype=self.dtype_policy, name="relu")(x)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "groups": self.groups,
            "strides": self.strides,
            "bottleneck_ratio": self.bottleneck_ratio,
            "first_grouped": self.first_grouped,
        }
