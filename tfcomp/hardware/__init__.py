"""Accelerators: what they compute, number for number, and what it costs on them."""

from tfcomp.methods.yodann import datapath as yodann
from tfcomp.methods.yodann import integers as formats
from tfcomp.methods.yodann.cost import ConvShape, LayerCost, YodannCost, yodann_cost

__all__ = ["ConvShape", "LayerCost", "YodannCost", "formats", "yodann", "yodann_cost"]
