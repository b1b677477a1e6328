"""Accelerators: what they compute, number for number, and what it costs on them."""

from tfcomp.hardware import formats, yodann
from tfcomp.hardware.yodann_cost import ConvShape, LayerCost, YodannCost, yodann_cost

__all__ = ["ConvShape", "LayerCost", "YodannCost", "formats", "yodann", "yodann_cost"]
