"""Losses of the methods that have one of their own."""

from tfcomp.methods.hashnet.loss import WeightedPairwise

__all__ = ["WeightedPairwise"]
