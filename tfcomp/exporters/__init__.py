"""Exporters: a trained model as a small artifact for inference."""

from tfcomp.exporters.formats import export

__all__ = ["export"]
