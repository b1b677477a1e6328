"""Layers that compress, and the blocks of small networks."""

from tfcomp.layers.constraints import WeightClip
from tfcomp.layers.depthwise_separable import DepthwiseSeparableBlock
from tfcomp.layers.fire import FireModule
from tfcomp.layers.inception import InceptionModule
from tfcomp.layers.local_response import LocalResponseNormalization
from tfcomp.layers.quantized import (
    QuantizedConv1D,
    QuantizedConv1DTranspose,
    QuantizedConv2D,
    QuantizedConv2DTranspose,
    QuantizedConv3D,
    QuantizedConv3DTranspose,
    QuantizedDense,
    QuantizedDepthwiseConv1D,
    QuantizedDepthwiseConv2D,
    QuantizedEinsumDense,
    QuantizedSeparableConv1D,
    QuantizedSeparableConv2D,
)
from tfcomp.layers.shuffle import ChannelShuffle, ShuffleUnit
from tfcomp.methods.binary.layers import (
    BinaryConv1D,
    BinaryConv2D,
    BinaryConv3D,
    BinaryDense,
    BinaryDepthwiseConv2D,
    BinarySeparableConv2D,
)
from tfcomp.methods.binary.shift_normalization import ShiftBatchNormalization
from tfcomp.methods.binary.xnor_block import XNORBlock
from tfcomp.methods.dorefa.gradient import GradientQuantization
from tfcomp.methods.dorefa.layers import DoReFaConv1D, DoReFaConv2D, DoReFaConv3D, DoReFaDense
from tfcomp.methods.fixed_point_factorization.layers import (
    FactorizedConv1D,
    FactorizedConv2D,
    FactorizedConv3D,
    FactorizedDense,
)
from tfcomp.methods.hashed import HashedConv1D, HashedConv2D, HashedConv3D, HashedDense
from tfcomp.methods.hashnet.layer import HashCode
from tfcomp.methods.horq.layers import HORQConv1D, HORQConv2D, HORQConv3D, HORQDense
from tfcomp.methods.product_quantization.layers import (
    ProductQuantizedConv1D,
    ProductQuantizedConv2D,
    ProductQuantizedConv3D,
    ProductQuantizedDense,
)
from tfcomp.methods.ternary.layers import (
    TernaryConv2D,
    TernaryDense,
    TrainedTernaryConv1D,
    TrainedTernaryConv2D,
    TrainedTernaryConv3D,
    TrainedTernaryDense,
)
from tfcomp.methods.yodann.layer import YodaConv2D

__all__ = [
    "BinaryConv1D",
    "BinaryConv2D",
    "BinaryConv3D",
    "BinaryDense",
    "BinaryDepthwiseConv2D",
    "BinarySeparableConv2D",
    "ChannelShuffle",
    "DepthwiseSeparableBlock",
    "DoReFaConv1D",
    "DoReFaConv2D",
    "DoReFaConv3D",
    "DoReFaDense",
    "FactorizedConv1D",
    "FactorizedConv2D",
    "FactorizedConv3D",
    "FactorizedDense",
    "FireModule",
    "GradientQuantization",
    "HORQConv1D",
    "HORQConv2D",
    "HORQConv3D",
    "HORQDense",
    "HashCode",
    "HashedConv1D",
    "HashedConv2D",
    "HashedConv3D",
    "HashedDense",
    "InceptionModule",
    "LocalResponseNormalization",
    "ProductQuantizedConv1D",
    "ProductQuantizedConv2D",
    "ProductQuantizedConv3D",
    "ProductQuantizedDense",
    "QuantizedConv1D",
    "QuantizedConv1DTranspose",
    "QuantizedConv2D",
    "QuantizedConv2DTranspose",
    "QuantizedConv3D",
    "QuantizedConv3DTranspose",
    "QuantizedDense",
    "QuantizedDepthwiseConv1D",
    "QuantizedDepthwiseConv2D",
    "QuantizedEinsumDense",
    "QuantizedSeparableConv1D",
    "QuantizedSeparableConv2D",
    "ShiftBatchNormalization",
    "ShuffleUnit",
    "TernaryConv2D",
    "TernaryDense",
    "TrainedTernaryConv1D",
    "TrainedTernaryConv2D",
    "TrainedTernaryConv3D",
    "TrainedTernaryDense",
    "WeightClip",
    "XNORBlock",
    "YodaConv2D",
]
