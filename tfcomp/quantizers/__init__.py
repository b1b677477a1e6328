"""Quantizers: from tensor to tensor of few values, each with the gradient it is trained by."""

from tfcomp.methods.binary.quantizer import Binary
from tfcomp.methods.dorefa.quantizer import DoReFa
from tfcomp.methods.fine_grained import FineGrainedTernary
from tfcomp.methods.fixed_point_factorization.quantizer import RoundedTernary
from tfcomp.methods.horq.quantizer import ResidualBinary
from tfcomp.methods.ternary.quantizer import Ternary
from tfcomp.methods.trained_ternary.quantizer import TrainedTernary
from tfcomp.quantizers.base import (
    Quantizer,
    deserialize,
    get,
    register,
    serialize,
    weights_as_stored,
    with_gradient,
)
from tfcomp.quantizers.fixed_point import DynamicFixedPoint, FixedPoint, Int8
from tfcomp.quantizers.least_squares_integer import LeastSquaresInteger

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
    "with_gradient",
]
