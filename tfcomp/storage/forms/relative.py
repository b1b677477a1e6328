"""Relative index: gaps of a fixed number of bits, padding zeros among the values.

Song Han et al., "Deep Compression", https://arxiv.org/abs/1510.00149, section 2.
"""

import numpy as np

from tfcomp.storage.forms.positions import Positions, bridged, checked, ends

# More would not be told from negative numbers where they are decoded.
_MOST_BITS = 31


class RelativeIndex(Positions):
    """A gap that is too long for its bits is bridged by a zero that is stored among the values.

    Args:
        bits: Bits of a gap; the paper has 8 for convolutions and 5 for dense layers. More than 8
            are for DEFLATE alone.
    """

    NAME = "relative"

    def __init__(self, bits):
        self.bits, self._span = bits, 1 << bits
        # Entropy coders have frequencies of at most so many.
        self.widths = np.ones(1 << min(bits, 8), int)

    def split(self, flat):
        symbols, at, values = bridged(flat, self._span, self._span - 1, 0)
        padded = np.zeros(len(symbols), flat.dtype)
        padded[at] = values
        return symbols, padded

    def places(self, symbols, size):
        steps = checked(symbols, self._span - 1, size)
        steps += 1
        return ends(steps, size)

    def to_bytes(self):
        return bytes([self.bits])

    @classmethod
    def read(cls, reader):
        bits = reader.byte()
        if not 1 <= bits <= _MOST_BITS:
            raise ValueError(f"Damaged record: gaps of {bits} bits.")
        return cls(bits)
