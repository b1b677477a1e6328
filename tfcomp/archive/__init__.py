"""The archive: a whole Keras model in one file, its weights at their entropy."""

from tfcomp.archive.errors import ArchiveError
from tfcomp.archive.save import load, save

__all__ = ["ArchiveError", "load", "save"]
