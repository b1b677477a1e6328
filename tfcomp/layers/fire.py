"""SqueezeNet's building block.

Forrest Iandola et al., "SqueezeNet", arXiv:1602.07360.
"""

import keras

from tfcomp.layers.base.convolutions import Convolutions
from tfcomp.validation import check_integer, invalid


@keras.saving.register_keras_serializable("tfcomp")
class FireModule(Convolutions):
    """A squeeze convolution 1×1, then expand convolutions 1×1 and 3×3 side by side.

    Few channels reach the costly 3×3 filters. Every convolution is followed by `activation`.

    Args:
        squeeze: Filters of the squeeze convolution.
        expand: Filters of the expand convolutions: one number for each of the two, or the pair
            `(1×1, 3×3)`.
        bypass: Whether to add the input to the output, as SqueezeNet with simple bypass does;
            `"convolution"` to add what a convolution 1×1 without activation makes of the input, as
            with complex bypass.
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
        ValueError: If a number of filters is not a positive integer, or if with `bypass=True` the
            input has another number of channels than the output.

    Reference:
        Forrest Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
        <0.5MB model size", arXiv:1602.07360.

    Example:

    >>> import keras, tfcomp
    >>> tfcomp.layers.FireModule(16, 64)(keras.Input((55, 55, 96))).shape
    (None, 55, 55, 128)
    """

    def __init__(self, squeeze, expand, bypass=False, *args, **kwargs):
        super().__init__(*args, **kwargs)
        pair = tuple(expand) if isinstance(expand, (tuple, list)) else (expand, expand)
        if len(pair) != 2:
            raise invalid("expand", expand, "a positive integer or a pair of them")
        if isinstance(bypass, str) and bypass != "convolution":
            raise invalid("bypass", bypass, "False, True or 'convolution'")
        self.squeeze = check_integer("squeeze", squeeze, 1)
        self.expand = tuple(check_integer("expand", number, 1) for number in pair)
        self.bypass = bypass if isinstance(bypass, str) else bool(bypass)

    def connect(self, inputs):
        squeezed = self.convolution(self.squeeze, 1, "squeeze1x1")(inputs)
        outputs = self.concatenation()(
            [
                self.convolution(self.expand[0], 1, "expand1x1")(squeezed),
                self.convolution(self.expand[1], 3, "expand3x3")(squeezed),
            ]
        )
        if not self.bypass:
            return outputs
        added = keras.layers.Add(dtype=self.dtype_policy, name="bypass")
        return added([self._bypass(inputs), outputs])

    def _bypass(self, inputs):
        if self.bypass == "convolution":
            return self.convolution(sum(self.expand), 1, "bypass1x1", "linear")(inputs)
        if inputs.shape[self.channel_axis] != sum(self.expand):
            raise invalid(
                "bypass",
                True,
                f"as many input channels ({inputs.shape[self.channel_axis]}) as expand filters "
                f"({sum(self.expand)})",
            )
        return inputs

    def get_config(self):
        return {
            **super().get_config(),
            "squeeze": self.squeeze,
            "expand": list(self.expand),
            "bypass": self.bypass,
        }
