"""Gradients of few bits.

Shuchang Zhou et al., "DoReFa-Net: Training Low Bitwidth Convolutional Neural Networks with Low
Bitwidth Gradients", arXiv:1606.06160.
"""

import keras
from keras import ops

from tfcomp.layers.base.random_source import RandomSource
from tfcomp.methods.dorefa.quantizer import to_grid
from tfcomp.quantizers.base import check_bits, widened, with_gradient
from tfcomp.validation import check_integer


@keras.saving.register_keras_serializable("tfcomp")
class GradientQuantization(keras.layers.Layer):
    """The identity, through which gradients of `k` bits go back.

    What arrives from above is quantized before it reaches the layer below, so that layer computes
    the gradients of its weights and inputs from `k`-bit numbers:
    `2 m (quantize_k(g / (2 m) + 1/2 + noise) - 1/2)`, where `m` is the largest magnitude in a
    sample, and the noise is uniform in `±1/2` steps. Put it after a quantized layer, before
    normalization.

    Args:
        bits: `k`, 1 to 8, or 32 for gradients as they are.
        seed: Seed of the noise.
        **kwargs: Those of `keras.layers.Layer`.

    Raises:
        ValueError: For other numbers of bits.

    Reference:
        Shuchang Zhou et al., "DoReFa-Net", arXiv:1606.06160.
    """

    def __init__(self, bits=6, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.bits = check_bits(bits)
        self.seed = None if seed is None else check_integer("seed", seed, 0)
        self.noise = RandomSource(self.seed, name="noise")

    def build(self, input_shape):
        self.built = True

    def call(self, inputs, training=None):
        if not training or self.bits == 32:
            return inputs
        noise = keras.random.uniform(
            ops.shape(inputs), -0.5, 0.5, dtype=widened(inputs).dtype, seed=self.noise.generator
        )
        return with_gradient(inputs, lambda x: x + 0, lambda x, g: self._rounded(g, noise))

    def _rounded(self, gradient, noise):
        axes = tuple(range(1, len(gradient.shape)))
        span = 2 * ops.max(ops.abs(gradient), axis=axes, keepdims=True)
        safe = ops.where(span > 0, span, ops.ones_like(span))
        noisy = gradient / safe + 0.5 + noise / (2**self.bits - 1)
        return span * (to_grid(ops.clip(noisy, 0, 1), self.bits) - 0.5)

    def get_config(self):
        return {**super().get_config(), "bits": self.bits, "seed": self.seed}
