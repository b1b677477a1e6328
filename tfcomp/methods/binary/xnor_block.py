"""XNOR-Net's building block.

Mohammad Rastegari et al., "XNOR-Net", arXiv:1603.05279.
"""

import keras

from tfcomp.layers.base.composite import Composite
from tfcomp.methods.binary.layers import BinaryConv2D
from tfcomp.validation import check_integer, invalid


@keras.saving.register_keras_serializable("tfcomp")
class XNORBlock(Composite):
    """Batch normalization, binary activation, binary convolution, and max pooling.

    In this order the inputs of the signs are centred, and pooling sees real numbers. A nonlinearity
    between convolution and pooling is left to the user, as the signs of the next block are one.

    Args:
        filters: As in `keras.layers.Conv2D`.
        kernel_size: As in `keras.layers.Conv2D`.
        strides: As in `keras.layers.Conv2D`.
        padding: As in `keras.layers.Conv2D`.
        groups: As in `keras.layers.Conv2D`.
        pool_size: Window of the max pooling; `None` for no pooling.
        pool_strides: Its strides; those of its window if `None`.
        scale: Whether weights have scales: α, one for each filter.
        input_scale: Whether inputs have scales: the map K.
        activation: What follows the convolution, before pooling; `None` in the paper.
        use_bias: As in `keras.layers.Conv2D`.
        kernel_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer: As in `keras.layers.Conv2D`.
        momentum: As in `keras.layers.BatchNormalization`.
        epsilon: As in `keras.layers.BatchNormalization`.
        data_format: As in `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, height, width, filters)`, reduced by strides and pooling.

    Raises:
        ValueError: If an argument is none that these layers take.

    Reference:
        Mohammad Rastegari et al., "XNOR-Net: ImageNet Classification Using Binary Convolutional
        Neural Networks", arXiv:1603.05279.

    Example:

    >>> import keras, tfcomp
    >>> tfcomp.layers.XNORBlock(16, 3, pool_size=2)(keras.Input((8, 8, 4))).shape
    (None, 4, 4, 16)
    """

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        padding="same",
        groups=1,
        pool_size=None,
        pool_strides=None,
        scale=True,
        input_scale=True,
        activation=None,
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        momentum=0.99,
        epsilon=1e-3,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        if pool_strides is not None and pool_size is None:
            raise invalid("pool_strides", pool_strides, "None where there is no `pool_size`")
        self.filters = check_integer("filters", filters, 1)
        self.kernel_size = kernel_size
        self.strides = strides
        self.padding = padding
        self.groups = check_integer("groups", groups, 1)
        self.pool_size = pool_size
        self.pool_strides = pool_strides
        self.scale = bool(scale)
        self.input_scale = bool(input_scale)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.momentum = momentum
        self.epsilon = epsilon
        # What these layers refuse is refused here, too.
        self._conv(), self._pool()

    def _conv(self):
        return BinaryConv2D(
            self.filters,
            self.kernel_size,
            strides=self.strides,
            padding=self.padding,
            groups=self.groups,
            scale=self.scale,
            input_scale=self.input_scale,
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_initializer=self.kernel_initializer,
            kernel_regularizer=self.kernel_regularizer,
            name="conv",
            **self.of_images,
        )

    def _pool(self):
        if self.pool_size is None:
            return lambda x: x
        return keras.layers.MaxPooling2D(
            self.pool_size, self.pool_strides, name="pool", **self.of_images
        )

    def connect(self, inputs):
        norm = keras.layers.BatchNormalization(
            axis=self.channel_axis,
            momentum=self.momentum,
            epsilon=self.epsilon,
            dtype=self.dtype_policy,
            name="norm",
        )
        return self._pool()(self._conv()(norm(inputs)))

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "groups": self.groups,
            "pool_size": self.pool_size,
            "pool_strides": self.pool_strides,
            "scale": self.scale,
            "input_scale": self.input_scale,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "momentum": self.momentum,
            "epsilon": self.epsilon,
        }
