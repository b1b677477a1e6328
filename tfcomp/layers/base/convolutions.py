"""The base of blocks whose convolutions are all set up alike."""

import keras

from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.layers.base.composite import Composite


class Convolutions(NamedArguments, Composite):
    """A block of same-padded convolutions, each followed by one activation.

    Args:
        activation: As in `keras.layers.Conv2D`.
        use_bias: As in `keras.layers.Conv2D`.
        kernel_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer: As in `keras.layers.Conv2D`.
        data_format: As in `keras.layers.Conv2D`.
    """

    def __init__(
        self,
        activation="relu",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def convolution(self, filters, size, name, activation=None):
        """One of the block's convolutions; with the block's activation, if none is given."""
        # A clone: one initializer object would give every kernel the same values.
        config = keras.initializers.serialize(self.kernel_initializer)
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            activation=self.activation if activation is None else activation,
            use_bias=self.use_bias,
            kernel_initializer=keras.initializers.deserialize(config),
            kernel_regularizer=self.kernel_regularizer,
            name=name,
            **self.of_images,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
