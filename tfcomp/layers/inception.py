"""GoogLeNet's building block.

Christian Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.
"""

import keras

from tfcomp.layers.base.convolutions import Convolutions
from tfcomp.validation import check_integer, invalid


def _pair(name, value):
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise invalid(name, value, "a pair of integers, filters of the reduction and those behind")
    return tuple(check_integer(name, number, 1) for number in value)


@keras.saving.register_keras_serializable("tfcomp")
class InceptionModule(Convolutions):
    """Convolutions 1×1, 3×3, 5×5 and pooling side by side, their channels joined.

    Before the 3×3 and the 5×5 convolution, and behind the pooling 3×3, a convolution 1×1 keeps
    channels few. Every convolution is followed by `activation`.

    Args:
        conv1x1: Filters of the 1×1 branch.
        conv3x3: Pair of filters `(1×1 reduction, 3×3)`.
        conv5x5: Pair of filters `(1×1 reduction, 5×5)`.
        pool: Filters of the convolution 1×1 behind the pooling.
        activation: As in `keras.layers.Conv2D`.
        use_bias: As in `keras.layers.Conv2D`.
        kernel_initializer: As in `keras.layers.Conv2D`.
        kernel_regularizer: As in `keras.layers.Conv2D`.
        data_format: As in `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)` with `"channels_last"`.

    Output shape:
        `(batch, height, width, conv1x1 + conv3x3[1] + conv5x5[1] + pool)`.

    Raises:
        ValueError: If a number of filters is not a positive integer.

    Reference:
        Christian Szegedy et al., "Going Deeper with Convolutions", arXiv:1409.4842.

    Example:

    >>> import keras, tfcomp
    >>> module = tfcomp.layers.InceptionModule(64, (96, 128), (16, 32), 32)
    >>> module(keras.Input((28, 28, 192))).shape
    (None, 28, 28, 256)
    """

    def __init__(self, conv1x1, conv3x3, conv5x5, pool, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.conv1x1 = check_integer("conv1x1", conv1x1, 1)
        self.conv3x3 = _pair("conv3x3", conv3x3)
        self.conv5x5 = _pair("conv5x5", conv5x5)
        self.pool = check_integer("pool", pool, 1)

    def connect(self, inputs):
        pooled = keras.layers.MaxPooling2D(3, 1, padding="same", name="pool", **self.of_images)
        branches = [self.convolution(self.conv1x1, 1, "conv1x1")(inputs)]
        for size, (reduced, filters) in ((3, self.conv3x3), (5, self.conv5x5)):
            x = self.convolution(reduced, 1, f"reduce{size}x{size}")(inputs)
            branches.append(self.convolution(filters, size, f"conv{size}x{size}")(x))
        branches.append(self.convolution(self.pool, 1, "pool1x1")(pooled(inputs)))
        return self.concatenation()(branches)

    def get_config(self):
        return {
            **super().get_config(),
            "conv1x1": self.conv1x1,
            "conv3x3": list(self.conv3x3),
            "conv5x5": list(self.conv5x5),
            "pool": self.pool,
        }
