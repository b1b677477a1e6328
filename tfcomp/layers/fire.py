"""SqueezeNet's building block.

Forrest Iandola et al., "SqueezeNet", arXiv:1602.07360.
"""

import keras

from tfcomp.layers.base.composite import Composite
from tfcomp.validation import check_integer, invalid


@keras.saving.register_keras_serializable("tfcomp")
class FireModule(Composite):
    """A squeeze convolution 1×1, then expand convolutions 1×1 and 3×3 side by side.

    Few channels reach the costly 3×3 filters. Every convolution is followed by `activation`.

    Args:
        squeeze: Filters of the squeeze convolution.
        expand: Filters of the expand convolutions: one number for each of the two, or the pair
            `(1×1, 3×3)`.
        bypass: Whether to add the input to the output, as SqueezeNet with simple bypass does.
        activation: As in `keras.layers.Conv2D`.
        use_bias: As in `keras.layers.Conv2D`.
        kernel_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer: As in `keras.layers.Conv2D`.
        data_format: As in `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, height, width, sum of the expand filters)`.

    Raises:
        ValueError: If a number of filters is not a positive integer, or if with `bypass` the input
            has another number of channels than the output.

    Reference:
        Forrest Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
        <0.5MB model size", arXiv:1602.07360.

    Example:

    >>> import keras, tfcomp
    >>> tfcomp.layers.FireModule(16, 64)(keras.Input((55, 55, 96))).shape
    (None, 55, 55, 128)
    """

    def __init__(
        self,
        squeeze,
        expand,
        bypass=False,
        activation="relu",
        use_bias=True,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        data_format=None,
        **kwargs,
    ):
        super().__init__(data_format=data_format, **kwargs)
        pair = tuple(expand) if isinstance(expand, (tuple, list)) else (expand, expand)
        if len(pair) != 2:
            raise invalid("expand", expand, "a positive integer or a pair of them")
        self.squeeze = check_integer("squeeze", squeeze, 1)
        self.expand = tuple(check_integer("expand", number, 1) for number in pair)
        self.bypass = bool(bypass)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def _conv(self, filters, size, name):
        # A clone: one initializer object would give every kernel the same values.
        config = keras.initializers.serialize(self.kernel_initializer)
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            activation=self.activation,
            use_bias=self.use_bias,
            kernel_initializer=keras.initializers.deserialize(config),
            kernel_regularizer=self.kernel_regularizer,
            data_format=self.data_format,
            dtype=self.dtype_policy,
            name=name,
        )

    def connect(self, inputs):
        squeezed = self._conv(self.squeeze, 1, "squeeze1x1")(inputs)
        outputs = keras.layers.Concatenate(
            axis=self.channel_axis, dtype=self.dtype_policy, name="concat"
        )(
            [
                self._conv(self.expand[0], 1, "expand1x1")(squeezed),
                self._conv(self.expand[1], 3, "expand3x3")(squeezed),
            ]
        )
        if not self.bypass:
            return outputs
        if inputs.shape[self.channel_axis] != sum(self.expand):
            raise invalid(
                "bypass",
                True,
                f"as many input channels ({inputs.shape[self.channel_axis]}) as expand filters "
                f"({sum(self.expand)})",
            )
        return keras.layers.Add(dtype=self.dtype_policy, name="bypass")([inputs, outputs])

    def get_config(self):
        return {
            **super().get_config(),
            "squeeze": self.squeeze,
            "expand": list(self.expand),
            "bypass": self.bypass,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }
