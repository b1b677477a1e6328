"""The base of layers that are made of Keras's layers."""

import keras

from tfcomp.layers.base.data_format import checked_data_format


class Composite(keras.layers.Layer):
    """A block of sublayers, connected as a small functional model when it is built.

    Subclasses define `connect(inputs)`, which applies new sublayers to a symbolic tensor. Output
    shapes, weights and their saving all follow from it.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        self.data_format = checked_data_format(data_format)

    @property
    def channel_axis(self):
        """Axis of the channels in a batch of images."""
        return 3 if self.data_format == "channels_last" else 1

    @property
    def of_images(self):
        """Arguments of a sublayer that works on images."""
        return {"data_format": self.data_format, "dtype": self.dtype_policy}

    def concatenation(self, name="concat"):
        """A sublayer that joins the channels of several tensors."""
        return keras.layers.Concatenate(axis=self.channel_axis, dtype=self.dtype_policy, name=name)

    def norm(self, name):
        """A sublayer that normalizes each channel over a batch."""
        return keras.layers.BatchNormalization(
            axis=self.channel_axis, dtype=self.dtype_policy, name=name
        )

    def pointwise(self, filters, name, groups=1):
        """A convolution 1×1 without bias, which a norm follows."""
        return keras.layers.Conv2D(
            filters, 1, groups=groups, use_bias=False, name=name, **self.of_images
        )

    def depthwise(self, size, strides, name, depth_multiplier=1):
        """A depthwise convolution without bias, which a norm follows."""
        return keras.layers.DepthwiseConv2D(
            size,
            strides,
            padding="same",
            depth_multiplier=depth_multiplier,
            use_bias=False,
            name=name,
            **self.of_images,
        )

    def connect(self, inputs):
        """Returns the symbolic outputs of the block for symbolic inputs."""
        raise NotImplementedError

    def _make_block(self, input_shape):
        inputs = keras.Input(shape=input_shape[1:], dtype=self.compute_dtype)
        return keras.Model(inputs, self.connect(inputs), name="block")

    def build(self, input_shape):
        self.block = self._make_block(input_shape)

    def call(self, inputs, training=None):
        return self.block(inputs, training=training)

    def compute_output_shape(self, input_shape):
        block = self.block if self.built else self._make_block(input_shape)
        return block.compute_output_shape(input_shape)

    def get_config(self):
        return {**super().get_config(), "data_format": self.data_format}
