"""The archive: a whole Keras model in one file, its weights at their entropy.

save.py          `tfcomp.save` and `tfcomp.load`
container.py     the bytes of an archive
keras_state.py   a Keras model as config, arrays and files, and back
keras_file.py    a `.keras` file as the same
inspection.py    what lies in an archive, weight by weight
"""

from tfcomp.storage.archive.container import ArchiveError
from tfcomp.storage.archive.save import load, save

__all__ = ["ArchiveError", "load", "save"]
