"""Callbacks for `model.fit`: each keeps chosen weights compressed while the model trains."""

from tfcomp.callbacks.binary_relax import BinaryRelax
from tfcomp.callbacks.dynamic_network_surgery import DynamicNetworkSurgery
from tfcomp.callbacks.gradual_pruning import GradualPruning
from tfcomp.callbacks.hash_continuation import HashContinuation
from tfcomp.callbacks.incremental_quantization import IncrementalQuantization
from tfcomp.callbacks.magnitude_pruning import MagnitudePruning
from tfcomp.callbacks.preserve_sparsity import PreserveSparsity
from tfcomp.callbacks.quantized_training import QuantizedTraining
from tfcomp.callbacks.sensitivity_pruning import SensitivityPruning
from tfcomp.callbacks.soft_weight_sharing import SoftWeightSharing
from tfcomp.callbacks.weight_sharing import WeightSharing

__all__ = [
    "BinaryRelax",
    "DynamicNetworkSurgery",
    "GradualPruning",
    "HashContinuation",
    "IncrementalQuantization",
    "MagnitudePruning",
    "PreserveSparsity",
    "QuantizedTraining",
    "SensitivityPruning",
    "SoftWeightSharing",
    "WeightSharing",
]
