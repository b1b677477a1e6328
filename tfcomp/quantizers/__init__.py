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
from tfcomp.quantizers.dorefa import DoReFa
from tfcomp.quantizers.fine_grained import FineGrainedTernary
from tfcomp.quantizers.fixed_point import DynamicFixedPoint, FixedPoint, Int8
from tfcomp.quantizers.least_squares_integer import LeastSquaresInteger
from tfcomp.quantizers.residual import ResidualBinary
from tfcomp.quantizers.rounded_ternary import RoundedTernary
from tfcomp.quantizers.ternary import Ternary
from tfcomp.quantizers.trained_ternary import TrainedTernary

__all__ = [
    "Binary",
    "DoReFa",
    "DynamicFixedPoint",
    "FineGrainedTernary",
    "FixedPoint",
    "Int8",
    "LeastSquaresInteger",
    "Quantizer",
    "ResidualBinary",
    "RoundedTernary",
    "Ternary",
    "TrainedTernary",
    "deserialize",
    "get",
    "register",
    "serialize",
    "weights_as_stored",
]
