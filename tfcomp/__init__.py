"""Small neural networks for Keras 3."""

# First: these two hold what methods are built on, and name what methods make of it.
from tfcomp import quantizers  # isort: split

from tfcomp import layers  # isort: split

from tfcomp import (
    applications,
    callbacks,
    distillation,
    hardware,
    losses,
    optimizers,
    projections,
    retrieval,
    schedules,
    targets,
)
from tfcomp.core.attachment import release
from tfcomp.exporters import export
from tfcomp.methods.channel_pruning.prune_channels import prune_channels
from tfcomp.methods.deep_compression.pipeline import deep_compression
from tfcomp.methods.distillation.distill import distill
from tfcomp.methods.fixed_point_factorization.factorize import factorize
from tfcomp.methods.low_rank.decompose import decompose
from tfcomp.methods.magnitude_pruning.sensitivity import sensitivity
from tfcomp.methods.optimal_brain_surgeon.prune_obs import prune_obs
from tfcomp.methods.product_quantization.product_quantize import product_quantize
from tfcomp.model.result import Result
from tfcomp.post_training.quantize import quantize
from tfcomp.post_training.quantize_activations import quantize_activations
from tfcomp.report import benchmark, summary
from tfcomp.storage.archive import ArchiveError, load, save
from tfcomp.surgery import swap_layers
from tfcomp.surgery.channels import channels

__version__ = "0.1.0"

__all__ = [
    "ArchiveError",
    "Result",
    "applications",
    "benchmark",
    "callbacks",
    "channels",
    "decompose",
    "deep_compression",
    "distill",
    "distillation",
    "export",
    "factorize",
    "hardware",
    "layers",
    "load",
    "losses",
    "optimizers",
    "product_quantize",
    "projections",
    "prune_channels",
    "prune_obs",
    "quantize",
    "quantize_activations",
    "quantizers",
    "release",
    "retrieval",
    "save",
    "schedules",
    "sensitivity",
    "summary",
    "swap_layers",
    "targets",
]
