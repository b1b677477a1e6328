"""The base of layers that are made of Keras's layers."""

import keras

from tfcomp.validation import invalid


class Composite(keras.layers.Layer):
    """A block of sublayers, connected as a small functional model when it is built.

    Subclasses define `connect(inputs)`, which applies new sublayers to a symbolic tensor. Output
    shapes, weights and their saving all follow from it.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        data_format = keras.config.image_data_format() if data_format is None else data_format
        if data_format not in ("channels_first", "channels_last"):
            raise invalid("data_format", data_format, "'channels_first' or 'channels_last'")
        self.data_format = data_format

    @property
    def channel_axis(self):
        """Axis of the channels in a batch of images."""
        return 3 if self.data_format == "channels_last" else 1

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
