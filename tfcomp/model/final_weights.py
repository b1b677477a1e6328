"""The weights as inference uses them.

A layer that quantizes in its forward pass keeps latent weights for training. Inference needs only
what the quantizer makes of them, so that is what is exported, and the layer is told to take its
weights as they are.
"""

import collections
import contextlib
import contextvars
import warnings

import keras
import numpy as np

from tfcomp import targets
from tfcomp.quantizers.base import weights_as_stored, without_gradients

# What a layer without latent weights has in a file besides its weights.
MARK = "quantized"
_PIECE = 1 << 16
_AS_LATENT = contextvars.ContextVar("tfcomp_quantized_as_latent", default=False)


@contextlib.contextmanager
def quantized_as_latent():
    """Context in which layers take quantized weights out of a file for latent ones."""
    token = _AS_LATENT.set(True)
    try:
        yield
    finally:
        _AS_LATENT.reset(token)


def takes_as_latent():
    """Whether the caller is inside `quantized_as_latent`."""
    return _AS_LATENT.get()


def _has_signed_zeros(value):
    # Piece by piece: memory for all of a large tensor takes longer to get than to fill.
    patterns = value.reshape(-1).view(f"u{value.dtype.itemsize}")
    sign = patterns.dtype.type(1 << 8 * value.dtype.itemsize - 1)
    pieces = (patterns[start : start + _PIECE] for start in range(0, len(patterns), _PIECE))
    return any(np.any(piece == sign) for piece in pieces)


class FinalWeights:
    """The values of a model's weights at inference.

    Args:
        model: A built `keras.Model`.
    """

    def __init__(self, model):
        self.model = model
        self._quantizers = self._find_quantizers()

    def _find_quantizers(self):
        layers = [site.layer for site in targets.layer_sites(self.model)] + [self.model]
        found = {}
        for layer in layers:
            for variable, quantizer in targets.weight_quantizers(layer):
                if quantizer is not None:
                    found.setdefault(id(variable), []).append((variable, quantizer))
        if not found:
            return {}
        owners = collections.Counter(
            id(v) for layer in layers for v in targets.own_variables(layer)
        )
        for pairs in found.values():
            variable = pairs[0][0]
            same = all(quantizer is pairs[0][1] for _, quantizer in pairs)
            if not same or owners[id(variable)] > len(pairs):
                warnings.warn(
                    f"Weight {variable.path!r} is shared by layers that do not quantize it in the "
                    "same way. The export keeps the latent weights of all quantized layers and "
                    "quantizes them at every call.",
                    stacklevel=4,
                )
                return {}
        return {key: pairs[0] for key, pairs in found.items()}

    @property
    def quantized(self):
        """The ids of the variables that layers quantize."""
        return set(self._quantizers)

    def is_quantized(self, variable):
        """Whether a layer quantizes a variable, so that its final value is another than its own."""
        return id(variable) in self._quantizers

    def value(self, variable):
        """The final value of a variable, as a numpy array in which no zero has a sign.

        To be read only: it may be the memory of the variable itself.
        """
        value = variable.value
        if self.is_quantized(variable):
            _, quantizer = self._quantizers[id(variable)]
            value = keras.ops.cast(quantizer(keras.ops.convert_to_tensor(value)), variable.dtype)
        value = np.asarray(keras.ops.convert_to_numpy(value))
        if value.dtype.kind == "f" and _has_signed_zeros(value):
            # A weight pruned by multiplication may be -0.0, which would be stored as a value.
            value = np.where(value == 0, np.zeros((), value.dtype), value)
        return value

    @contextlib.contextmanager
    def scope(self):
        """The scope in which the model computes with final values in its variables."""
        as_stored = weights_as_stored() if self._quantizers else contextlib.nullcontext()
        with without_gradients(), as_stored:
            yield
