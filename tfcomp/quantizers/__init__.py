"""Quantizers: from tensor to tensor of few values, each with the gradient it is trained by."""

from tfcomp.quantizers.base import (
    Quantizer,
    deserialize,
    get,
    register,
    serialize,
    weights_as_stored,
)
from tfcomp.quantizers.binary import Binary
from tfcomp.quantizers.ternary import Ternary

__all__ = [
    "Binary",
    "Quantizer",
    "Ternary",
    "deserialize",
    "get",
    "register",
    "serialize",
    "weights_as_stored",
]
