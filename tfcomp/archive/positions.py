"""Where the non-zero elements are: the zeros before each, as symbols of a small alphabet."""

import numpy as np


def _bridged(gaps, span, bridge, others):
    """Symbols of gaps: as many `bridge` as `span` goes into a gap, then what is left of it."""
    bridges = gaps // span
    ends = np.cumsum(bridges + 1) - 1
    symbols = np.full(int(ends[-1]) + 1 if len(ends) else 0, bridge, np.uint16)
    symbols[ends] = gaps % span + others
    return symbols, ends


def _ends(steps, size):
    """Positions of the last element of every step, in the memory of the steps."""
    # Summed up in 64 bits first: beyond the end of a tensor, 32 bits may wrap around.
    if steps.sum(dtype=np.int64) > size:
        raise ValueError("Damaged record: the gaps lead beyond the end of the tensor.")
    np.cumsum(steps, out=steps)
    steps -= 1
    return steps


class Gaps:
    """Symbol 0 stands for `SPAN` zeros, symbol `gap + 1` for so many and the next element.

    Frequencies are told for each gap up to 7, and above for four ranges in every octave. Gaps of
    independent zeros are geometrically distributed, and the entropy of that, per element, is the
    entropy of the zeros themselves: nothing is lost by leaving them out.
    """

    SPAN = 1 << 12
    widths = np.array([1] * 9 + [1 << (octave - 2) for octave in range(3, 12) for _ in range(4)])

    def symbols(self, gaps, values):
        """Returns the symbols, and `values`."""
        return _bridged(gaps, self.SPAN, 0, 1)[0], values

    def positions(self, symbols, size):
        """Returns the positions of the elements for which there is a value; changes `symbols`."""
        bridges = symbols == 0
        symbols[bridges] = self.SPAN
        ends = _ends(symbols, size)
        return ends[~bridges] if bridges.any() else ends


class RelativeIndex:
    """Deep Compression's relative index: gaps of a fixed number of bits.

    Song Han et al., https://arxiv.org/abs/1510.00149, section 2: a gap that is too long is bridged
    by a padding zero, which is stored among the values.

    Args:
        bits: Bits of a gap; the paper has 8 for convolutions and 5 for dense layers.
    """

    def __init__(self, bits):
        self.span = 1 << bits
        self.widths = np.ones(self.span, int)

    def symbols(self, gaps, values):
        """Returns the symbols, and `values` with the padding zeros among them."""
        symbols, ends = _bridged(gaps, self.span, self.span - 1, 0)
        padded = np.zeros(len(symbols), values.dtype)
        padded[ends] = values
        return symbols, padded

    def positions(self, symbols, size):
        """Returns the positions of the elements for which there is a value; changes `symbols`."""
        symbols += 1
        return _ends(symbols, size)
