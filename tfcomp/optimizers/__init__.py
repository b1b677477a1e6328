"""Optimizers and learning rates of compressed networks."""

from tfcomp.methods.binary.shift_adamax import Halving, ShiftBasedAdaMax

__all__ = ["Halving", "ShiftBasedAdaMax"]
