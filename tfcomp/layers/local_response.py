"""Local response normalization, which Keras does not have.

Alex Krizhevsky, Ilya Sutskever, Geoffrey Hinton, "ImageNet Classification with Deep Convolutional
Neural Networks", 2012.
"""

import keras
from keras import ops

from tfcomp.layers.base.data_format import checked_data_format
from tfcomp.validation import check_integer, check_number, invalid


@keras.saving.register_keras_serializable("tfcomp")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides each channel by a measure of how large it and its neighbours are.

    `x / (k + alpha * m) ** beta`, with `m` the mean of the squares of `size` channels around each,
    those beyond the edge taken for zeros. That is Caffe's form; in the paper `m` is the sum.

    Args:
        size: Channels in a window, an odd number.
        alpha: Weight of the mean of squares.
        beta: The exponent.
        k: What is added.
        data_format: `"channels_last"` or `"channels_first"`; Keras's default if `None`.

    Input shape:
        Any, with channels in the last axis, or in axis 1 with `"channels_first"`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `size` is not an odd positive integer, `alpha` or `beta` is negative, or `k`
            is not positive.

    Reference:
        Alex Krizhevsky, Ilya Sutskever, Geoffrey Hinton, "ImageNet Classification with Deep
        Convolutional Neural Networks", 2012.

    Example:

    >>> import numpy as np, tfcomp
    >>> lrn = tfcomp.layers.LocalResponseNormalization(size=3, alpha=3.0, beta=1.0)
    >>> np.array(lrn(np.array([[1.0, 2.0, 0.0]])))
    array([[0.16666667, 0.33333334, 0.        ]], dtype=float32)
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0, data_format=None, **kwargs):
        super().__init__(**kwargs)
        check_number("alpha", alpha, least=0)
        check_number("beta", beta, least=0)
        check_number("k", k, above=0)
        self.size = check_integer("size", size, 1)
        if self.size % 2 == 0:
            raise invalid("size", size, "an odd integer")
        self.alpha, self.beta, self.k = float(alpha), float(beta), float(k)
        self.data_format = checked_data_format(data_format)

    def call(self, inputs):
        rank = len(inputs.shape)
        axis = rank - 1 if self.data_format == "channels_last" else 1
        reach, channels = self.size // 2, inputs.shape[axis]
        pads = [(reach, reach) if i == axis else (0, 0) for i in range(rank)]
        squares = ops.moveaxis(ops.pad(ops.square(inputs), pads), axis, -1)
        sums = sum(squares[..., i : i + channels] for i in range(self.size))
        mean = ops.moveaxis(sums, -1, axis) / self.size
        return inputs / ops.power(self.k + self.alpha * mean, self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
            "k": self.k,
            "data_format": self.data_format,
        }
