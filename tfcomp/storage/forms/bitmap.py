"""Bitmap: a symbol for each element, which says whether it is zero, then the others in order."""

import numpy as np

from tfcomp.storage.forms.positions import Positions


class Bitmap(Positions):
    """Where the non-zero elements are, in one bit for each element."""

    NAME = "bitmap"
    widths = np.ones(2, int)

    def split(self, flat):
        mask = flat != 0
        # Found by their places: a mask is the slower way.
        return mask.view(np.uint8), flat[np.flatnonzero(mask)]

    def places(self, symbols, size):
        if len(symbols) != size:
            raise ValueError(f"Damaged record: no bitmap of {size} elements.")
        return np.flatnonzero(symbols)
