"""Codings: a tensor as few bytes, and back, bit for bit."""

from tfcomp.coding.choose import decode, encode
from tfcomp.coding.coded import Coded
from tfcomp.coding.describe import Description, describe
from tfcomp.coding.registry import CODINGS
from tfcomp.coding.serial import from_bytes, to_bytes

__all__ = [
    "CODINGS",
    "Coded",
    "Description",
    "decode",
    "describe",
    "encode",
    "from_bytes",
    "to_bytes",
]
