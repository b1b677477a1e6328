"""Forms: which symbols a tensor becomes. What is stored is first where, then what.

where     every element, or those that are not zero and
          gaps       how many zeros precede each                   gaps.py
          relative   the same in a fixed number of bits            relative.py
          bitmap     a bit for each element                        bitmap.py
what      palette    a table of the distinct ones, and indices     palette.py
          raw        the elements as they are, or their bytes      raw.py
scaled    the same of a tensor that a scale per channel was taken out of, and the scales
                                                                   scales.py
"""

from tfcomp.storage.forms.bitmap import Bitmap
from tfcomp.storage.forms.gaps import Gaps
from tfcomp.storage.forms.palette import Palette
from tfcomp.storage.forms.raw import Raw
from tfcomp.storage.forms.relative import RelativeIndex

__all__ = ["Bitmap", "Gaps", "Palette", "Raw", "RelativeIndex"]
