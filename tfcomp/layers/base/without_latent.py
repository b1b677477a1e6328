"""Layers whose latent weights were left out of a file: what they hold is quantized already."""

import keras

from tfcomp.model.final_weights import MARK, takes_as_latent
from tfcomp.quantizers.base import AsStored


class WithoutLatent:
    """Mixin of layers with `weight_quantizers`, that reads their weights from such a file.

    The weights are used as they are, and frozen: a step of training would leave numbers that no
    quantizer gave. Files that are written of the layer again say so, too.

    Attributes:
        is_quantized: Whether it is so.
    """

    is_quantized = False

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.is_quantized:
            store[MARK] = keras.ops.ones((1,), "uint8")

    def load_own_variables(self, store):
        names = list(store.keys())
        weights = {name: store[name] for name in names if name != MARK}
        super().load_own_variables(weights if MARK in names else store)
        quantized = [variable for variable, _ in self.weight_quantizers]
        self.is_quantized = MARK in names and not takes_as_latent()
        for variable in quantized if self.is_quantized else ():
            variable.trainable = False

    def quantizer_or_as_stored(self, quantizer):
        """The quantizer of a weight, or one that leaves it as it is."""
        return AsStored(quantizer) if self.is_quantized else quantizer

    def check_frozen(self, variable):
        """Raises if a weight that is quantized already was made trainable."""
        if getattr(variable, "trainable", False):
            raise ValueError(
                f"Layer {self.name!r} has no latent weights: the file it was loaded from has "
                f"{variable.path!r} quantized, and it cannot be trained so. To train on from the "
                "quantized values as latent weights, load the archive with `train_on=True`."
            )
