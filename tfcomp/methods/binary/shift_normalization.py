"""Batch normalization by shifts.

Itay Hubara, Matthieu Courbariaux et al., "Binarized Neural Networks", arXiv:1602.02830.
"""

import keras
from keras import ops

from tfcomp.layers.base.arguments import NamedArguments
from tfcomp.methods.binary.ap2 import ap2
from tfcomp.validation import invalid


@keras.saving.register_keras_serializable("tfcomp")
class ShiftBatchNormalization(NamedArguments, keras.layers.BatchNormalization):
    """Batch normalization whose factors are powers of two, so that nothing is multiplied.

    With `AP2(x) = sign(x) 2**round(log2 |x|)`, the mean μ of a batch and `C = x - μ`:

        σ² = mean(C AP2(C))
        y = C AP2(1 / sqrt(σ² + ε)) AP2(γ) + β

    At inference μ and σ² are moving averages. Gradients pass AP2 as they would the identity.

    Args:
        *args, **kwargs: Those of `keras.layers.BatchNormalization`, but for batch renormalization
            and synchronization.

    Input shape:
        Any; channels lie along `axis`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `renorm` or `synchronized` is set.

    Reference:
        Hubara, Courbariaux et al., "Binarized Neural Networks: Training Neural Networks with
        Weights and Activations Constrained to +1 or -1", arXiv:1602.02830, algorithm 3.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> x = np.array([[1.0], [-1.0], [3.0], [-3.0]])
    >>> normalize = tfcomp.layers.ShiftBatchNormalization(epsilon=0.0)
    >>> keras.ops.convert_to_numpy(normalize(x, training=True)).ravel().tolist()
    [0.5, -0.5, 1.5, -1.5]
    """

    refused_arguments = ("renorm", "renorm_clipping", "renorm_momentum", "synchronized")

    def __init__(self, *args, **kwargs):
        for name in ("renorm", "synchronized"):
            if kwargs.get(name):
                raise invalid(name, kwargs[name], "False: there is no such form by shifts")
        super().__init__(*args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        # In half precision, squares overflow and moving averages stand still.
        x = ops.cast(inputs, keras.backend.result_type(inputs.dtype, "float32"))
        shape = [1] * len(inputs.shape)
        shape[self.axis] = inputs.shape[self.axis]

        def spread(weight):
            return ops.reshape(ops.cast(weight, x.dtype), shape)

        if training and self.trainable:
            average = self._average(x, mask)
            mean = average(x)
            centred = x - mean
            variance = average(centred * ap2(centred))
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, variance)
        else:
            centred = x - spread(self.moving_mean)
            variance = spread(self.moving_variance)
        outputs = centred * ap2(ops.rsqrt(variance + self.epsilon))
        if self.scale:
            outputs = outputs * ap2(spread(self.gamma))
        if self.center:
            outputs = outputs + spread(self.beta)
        return ops.cast(outputs, self.compute_dtype)

    def _average(self, x, mask):
        """The function that takes means over all axes but that of the channels."""
        axes = [axis for axis in range(len(x.shape)) if axis != self.axis % len(x.shape)]
        if mask is None:
            return lambda values: ops.mean(values, axis=axes, keepdims=True)
        if len(mask.shape) != len(x.shape) - 1:
            raise invalid("mask", mask.shape, f"one axis less than the inputs, {x.shape}")
        weights = ops.broadcast_to(ops.expand_dims(ops.cast(mask, x.dtype), -1), ops.shape(x))
        total = ops.sum(weights, axis=axes, keepdims=True) + keras.config.epsilon()
        return lambda values: ops.sum(values * weights, axis=axes, keepdims=True) / total

    def _move(self, moving, batch):
        batch = ops.cast(ops.reshape(batch, [-1]), moving.dtype)
        moving.assign(moving * self.momentum + batch * (1 - self.momentum))
