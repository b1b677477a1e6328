"""A folder that is replaced as a whole or not at all."""

import contextlib
import os
import shutil
import tempfile

from tfcomp.validation import invalid

# What a SavedModel may consist of.
_PARTS = {"assets", "assets.extra", "debug", "fingerprint.pb", "saved_model.pb", "variables"}


def _check(path):
    if not os.path.lexists(path):
        return
    found = set(os.listdir(path)) if os.path.isdir(path) else {"a file"}
    if found - _PARTS or (found and "saved_model.pb" not in found):
        raise invalid(
            "path", path, "a path that is free, or a folder with nothing but a SavedModel in it"
        )


@contextlib.contextmanager
def replaced(path):
    """Opens a new folder beside `path`, which takes its place if the body does not fail.

    Args:
        path: Where the folder will be.

    Yields:
        The path of the new folder.

    Raises:
        ValueError: If at `path` there is something that is not a SavedModel.
    """
    path = os.path.abspath(path)
    _check(path)
    parent, name = os.path.split(path)
    os.makedirs(parent, exist_ok=True)
    # In the same folder, because a file system moves folders only within itself.
    work = tempfile.mkdtemp(prefix=f".{name}.", dir=parent)
    new, old = os.path.join(work, "new"), os.path.join(work, "old")
    try:
        os.mkdir(new)
        yield new
        if os.path.lexists(path):
            os.rename(path, old)
        try:
            os.rename(new, path)
        except OSError:
            if os.path.lexists(old):
                os.rename(old, path)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def size(path):
    """Bytes of all files in a folder."""
    files = (os.path.join(where, name) for where, _, names in os.walk(path) for name in names)
    return sum(os.path.getsize(file) for file in files)
