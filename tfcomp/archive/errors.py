"""The one error that a damaged archive raises."""


class ArchiveError(ValueError):
    """A file is no archive, is damaged, or holds a model that cannot be built."""
