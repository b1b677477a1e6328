"""Small and fast neural networks for Keras 3."""

from tfcomp import (
    callbacks,
    hardware,
    layers,
    losses,
    optimizers,
    quantizers,
    retrieval,
    schedules,
    targets,
)
from tfcomp.archive import ArchiveError, load, save
from tfcomp.exporters import export
from tfcomp.posttraining.activations import quantize_activations
from tfcomp.posttraining.deep_compression import deep_compression
from tfcomp.posttraining.factorize import factorize
from tfcomp.posttraining.product_quantize import product_quantize
from tfcomp.posttraining.prune_obs import prune_obs
from tfcomp.posttraining.quantize import quantize
from tfcomp.posttraining.sensitivity import sensitivity
from tfcomp.projections.attachment import release
from tfcomp.report import summary
from tfcomp.surgery import swap_layers

__version__ = "0.1.0"

__all__ = [
    "ArchiveError",
    "callbacks",
    "deep_compression",
    "export",
    "factorize",
    "hardware",
    "layers",
    "load",
    "losses",
    "optimizers",
    "product_quantize",
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
