"""Gaps: the zeros before each non-zero element, as symbols of a small alphabet."""

import numpy as np

from tfcomp.storage.forms.positions import Positions, bridged, checked, ends


class Gaps(Positions):
    """Symbol 0 stands for `SPAN` zeros, symbol `gap + 1` for so many and the next element.

    Frequencies are told for each gap up to 7, and above for four ranges in every octave. Gaps of
    independent zeros are geometrically distributed, and the entropy of that, per element, is the
    entropy of the zeros themselves: nothing is lost by leaving them out.
    """

    NAME = "gaps"
    SPAN = 1 << 12
    widths = np.array([1] * 9 + [1 << (octave - 2) for octave in range(3, 12) for _ in range(4)])

    def split(self, flat):
        symbols, _, values = bridged(flat, self.SPAN, 0, 1)
        return symbols, values

    def places(self, symbols, size):
        steps = checked(symbols, self.SPAN, size)
        bridges = steps == 0
        steps[bridges] = self.SPAN
        last = ends(steps, size)
        return last[~bridges] if bridges.any() else last
