"""The two trained scales of one ternary weight."""

import keras
from keras import ops


class TernaryScales(keras.layers.Layer):
    """Holds `W_p` and `W_n` of a weight that `tfcomp.quantizers.TrainedTernary` quantizes.

    A sublayer, because Keras's Dense and convolutions save a fixed list of variables of their own.

    Args:
        quantizer: The `TrainedTernary`.
        weight: Function that returns the latent weight.
        **kwargs: Those of `keras.layers.Layer`.
    """

    is_part = True

    def __init__(self, quantizer, weight, **kwargs):
        super().__init__(**kwargs)
        self._quantizer, self._weight = quantizer, weight

    def build(self, input_shape=None):
        for index, name in enumerate(("positive", "negative")):
            scale = self.add_weight(name=name, shape=(), initializer=self._initializer(index))
            setattr(self, name, scale)

    def _initializer(self, index):
        return lambda shape, dtype=None: ops.cast(self._best()[index], dtype)

    def _best(self):
        weight = self._weight()
        weight = weight.value if isinstance(weight, keras.Variable) else weight
        return self._quantizer.best_scales(ops.cast(weight, "float32"))

    def fit_to_weight(self):
        """Sets the scales to the best ones for the weight as it is."""
        for scale, value in zip((self.positive, self.negative), self._best()):
            scale.assign(ops.cast(value, scale.dtype))

    def bind(self):
        """Returns the quantizer with these scales."""
        return self._quantizer.with_scales(self.positive, self.negative)
