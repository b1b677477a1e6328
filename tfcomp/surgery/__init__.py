"""Changes the layers of a model."""

from tfcomp.surgery.swap import swap_layers, swapped_copy

__all__ = ["swap_layers", "swapped_copy"]
