"""Constraints on latent weights."""

import keras

from tfcomp.config import Configured
from tfcomp.validation import check_number


@keras.saving.register_keras_serializable("tfcomp")
class WeightClip(Configured, keras.constraints.Constraint):
    """Clips latent weights to `[-clip_value, clip_value]`, where the binary gradient reaches them.

    Args:
        clip_value: The bound; 1 in "Binarized Neural Networks", arXiv:1602.02830.
    """

    def __init__(self, clip_value=1.0):
        check_number("clip_value", clip_value, above=0)
        self.clip_value = clip_value

    def __call__(self, value):
        return keras.ops.clip(value, -self.clip_value, self.clip_value)

    def get_config(self):
        return {"clip_value": self.clip_value}
