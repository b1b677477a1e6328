"""Changes the layers of a model."""

from tfcomp.surgery.swap import swap_layers

__all__ = ["swap_layers"]
