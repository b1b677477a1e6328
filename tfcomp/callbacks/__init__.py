"""Callbacks for `model.fit`: they compress chosen weights while the model trains, or watch them."""

from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.once_compressed import OnceCompressed
from tfcomp.methods.binary.flip_ratio import FlipRatio
from tfcomp.methods.binary_relax import BinaryRelax
from tfcomp.methods.channel_pruning.channel_pruning import ChannelPruning
from tfcomp.methods.deep_compression.weight_sharing import WeightSharing
from tfcomp.methods.dynamic_network_surgery import DynamicNetworkSurgery
from tfcomp.methods.gradual_pruning import GradualPruning
from tfcomp.methods.hashnet.continuation import HashContinuation
from tfcomp.methods.incremental_quantization import IncrementalQuantization
from tfcomp.methods.magnitude_pruning.magnitude_pruning import MagnitudePruning
from tfcomp.methods.preserve_sparsity import PreserveSparsity
from tfcomp.methods.quantized_training import QuantizedTraining
from tfcomp.methods.sensitivity_pruning import SensitivityPruning
from tfcomp.methods.soft_weight_sharing.soft_weight_sharing import SoftWeightSharing

__all__ = [
    "BinaryRelax",
    "ChannelPruning",
    "DynamicNetworkSurgery",
    "FlipRatio",
    "GradualPruning",
    "HashContinuation",
    "IncrementalQuantization",
    "MagnitudePruning",
    "OnceCompressed",
    "PreserveSparsity",
    "ProjectionCallback",
    "QuantizedTraining",
    "SensitivityPruning",
    "SoftWeightSharing",
    "WeightSharing",
]
