"""Optimizers and learning rates of compressed networks."""

from tfcomp.optimizers.shift_adamax import Halving, ShiftBasedAdaMax

__all__ = ["Halving", "ShiftBasedAdaMax"]
