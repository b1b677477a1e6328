"""Fixed-point formats as integers: `Qi.f` is a sign, `i` integer bits and `f` fraction bits."""

import re
from typing import NamedTuple

from tfcomp.validation import invalid


class Format(NamedTuple):
    """Two's complement numbers `n * 2**-fraction_bits`.

    Attributes:
        integer_bits: Bits above the point, without the sign.
        fraction_bits: Bits below the point.
    """

    integer_bits: int
    fraction_bits: int

    @property
    def bits(self):
        """All bits, the sign included."""
        return 1 + self.integer_bits + self.fraction_bits

    @property
    def least(self):
        """The smallest `n`."""
        return -(2 ** (self.bits - 1))

    @property
    def most(self):
        """The largest `n`."""
        return 2 ** (self.bits - 1) - 1

    @property
    def step(self):
        """Distance between two numbers."""
        return 2.0**-self.fraction_bits

    def __str__(self):
        return f"Q{self.integer_bits}.{self.fraction_bits}"


def get(identifier, argument="format"):
    """Returns a `Format` from its name, such as `"Q2.9"`, or from a pair.

    Raises:
        ValueError: If it is neither, or has more than 32 bits.

    Example:

    >>> from tfcomp.hardware import formats
    >>> formats.get("Q2.9").bits, formats.get("Q2.9").most
    (12, 2047)
    """
    found = identifier
    if isinstance(identifier, str):
        match = re.fullmatch(r"Q(\d+)\.(\d+)", identifier)
        found = match and match.groups()
    try:
        found = Format(*map(int, found))
    except (TypeError, ValueError):
        found = None
    if found is None or min(found) < 0 or not 2 <= found.bits <= 32:
        raise invalid(argument, identifier, "a fixed-point format of 2 to 32 bits, such as 'Q2.9'")
    return found
