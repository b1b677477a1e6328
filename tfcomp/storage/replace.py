"""A file or a folder that is replaced as a whole or not at all."""

import contextlib
import os
import shutil
import tempfile

from tfcomp.validation import invalid


@contextlib.contextmanager
def _beside(path):
    """Where to make what will be at `path`, and afterwards moves it there unless the body fails."""
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    # In the same folder, because a file system moves things only within itself; and in a folder of
    # its own, so that a new file gets the rights that files get.
    with tempfile.TemporaryDirectory(prefix=".tfcomp.", dir=parent) as work:
        new, old = os.path.join(work, "new"), os.path.join(work, "old")
        yield new
        if os.path.lexists(path):
            shutil.copymode(path, new)
        if os.path.isdir(path):
            # A folder that is not empty cannot be moved over.
            os.rename(path, old)
        try:
            os.replace(new, path)
        except BaseException:
            if os.path.lexists(old):
                os.rename(old, path)
            raise


@contextlib.contextmanager
def replaced_file(path):
    """Opens a new file, which takes the place of `path` if the body does not fail.

    Args:
        path: Where the file will be. A link is followed, the mode of a file that is there kept.

    Yields:
        The new file, open for writing bytes.

    Raises:
        ValueError: If at `path` there is something that is not a file.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise invalid("path", path, "a path that is free, or a file")
    with _beside(path) as new, open(new, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replaced_folder(path, parts):
    """Makes a new folder, which takes the place of `path` if the body does not fail.

    Args:
        path: Where the folder will be. A link is followed, the mode of a folder that is there kept.
        parts: List of what a folder that may be replaced consists of, which may be empty. The
            first of them is always there, the others may be.

    Yields:
        The path of the new folder.

    Raises:
        ValueError: If at `path` there is something else.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path):
        found = set(os.listdir(path)) if os.path.isdir(path) else {"a file"}
        if found - set(parts) or (found and parts[0] not in found):
            expected = f"a path that is free, or a folder of {parts[0]!r} with nothing else in it"
            raise invalid("path", path, expected)
    with _beside(path) as new:
        os.mkdir(new)
        yield new
