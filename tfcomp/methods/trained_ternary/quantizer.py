"""Ternary weights with two trained scales.

Chenzhuo Zhu, Song Han, Huizi Mao, William J. Dally, "Trained Ternary Quantization",
arXiv:1612.01064.
"""

import keras
from keras import ops

from tfcomp.methods.trained_ternary.scales import TernaryScales
from tfcomp.quantizers.base import Quantizer, register, widened
from tfcomp.validation import check_number


@register("trained_ternary")
class TrainedTernary(Quantizer):
    """`W_p` where `x > Δ`, `-W_n` where `x < -Δ`, zero elsewhere; `W_p` and `W_n` are trained.

    `Δ = threshold * max |x|` over the whole tensor. With upstream gradient `g`, the gradient of
    `W_p` is the sum of `g` over the weights at `W_p`, that of `W_n` minus the sum of `g` over those
    at `-W_n`, and that of `x` is `W_p g`, `g` and `W_n g` in the three regions. (The paper prints
    the sum for `W_n` without the minus that the chain rule gives it.)

    The scales belong to a layer: any layer of tfcomp that quantizes a weight trains and saves them.
    They begin at the mean of `|x|` over each region, the best two scales for the weight as it is;
    called by itself, the quantizer takes these.

    Args:
        threshold: The factor, in [0, 1); 0.05 in the paper.

    Reference:
        Chenzhuo Zhu et al., "Trained Ternary Quantization", arXiv:1612.01064.

    Example:

    >>> import numpy as np, tfcomp
    >>> q = tfcomp.quantizers.TrainedTernary(0.25)
    >>> np.array(q(np.array([3.0, 1.0, 0.5, -2.0], "float32"))).tolist()
    [2.0, 2.0, 0.0, -2.0]
    """

    bits = 2

    def __init__(self, threshold=0.05):
        check_number("threshold", threshold, 0, below=1)
        self.threshold = threshold
        self._scales = None

    def with_scales(self, positive, negative):
        """Returns the quantizer with the scales `W_p` and `W_n`, two scalar variables."""
        copy = TrainedTernary(self.threshold)
        copy._scales = (positive, negative)
        return copy

    def make_scales(self, weight, **kwargs):
        return TernaryScales(self, weight, **kwargs)

    def quantize(self, inputs):
        scales = self._scales or self.best_scales(inputs)
        return trained_ternary(inputs, self._delta(inputs), *map(_tensor, scales))

    def best_scales(self, inputs):
        """Mean magnitudes above Δ and below -Δ; 1 where there is no such weight."""
        inputs = widened(ops.stop_gradient(inputs))
        delta = self._delta(inputs)
        return _mean(inputs, inputs > delta), _mean(-inputs, inputs < -delta)

    def _delta(self, inputs):
        return self.threshold * ops.max(ops.abs(widened(inputs)))

    def get_config(self):
        return {"threshold": self.threshold}


def trained_ternary(inputs, delta, positive, negative):
    """The three levels, exact to the last bit, differentiated as the paper says.

    Args:
        inputs: Tensor.
        delta: Threshold, a scalar tensor.
        positive: `W_p`, a scalar tensor.
        negative: `W_n`, a scalar tensor.
    """
    wide = widened(inputs)
    above, below = wide > delta, wide < -delta
    positive, negative = ops.cast(positive, inputs.dtype), ops.cast(negative, inputs.dtype)
    levels = positive * ops.cast(above, inputs.dtype) - negative * ops.cast(below, inputs.dtype)
    share = ops.where(above, positive, ops.where(below, negative, ops.ones_like(inputs)))
    # Adds an exact zero that has the gradient of the latent weights.
    return levels + ops.stop_gradient(share) * (inputs - ops.stop_gradient(inputs))


def _mean(inputs, chosen):
    count = ops.sum(ops.cast(chosen, inputs.dtype))
    total = ops.sum(ops.where(chosen, inputs, ops.zeros_like(inputs)))
    return ops.where(count > 0, total / ops.maximum(count, ops.ones_like(count)), 1.0)


def _tensor(scale):
    # TensorFlow cannot differentiate with respect to a Keras variable, only to its value.
    return ops.convert_to_tensor(scale.value if isinstance(scale, keras.Variable) else scale)
