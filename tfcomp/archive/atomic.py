"""A file that is replaced as a whole or not at all."""

import contextlib
import os
import tempfile

from tfcomp.validation import invalid


@contextlib.contextmanager
def replaced(path):
    """Opens a new file beside `path`, which takes its place if the body does not fail.

    Args:
        path: Where the file will be. A link is followed.

    Yields:
        The new file, open for writing bytes.

    Raises:
        ValueError: If at `path` there is something that is not a file.
    """
    path = os.path.realpath(path)
    if os.path.lexists(path) and not os.path.isfile(path):
        raise invalid("path", path, "a path that is free, or a file")
    folder, name = os.path.split(path)
    os.makedirs(folder, exist_ok=True)
    # In the same folder, because a file system moves files only within itself; and in a folder of
    # its own, so that the file gets the rights that files get.
    with tempfile.TemporaryDirectory(prefix=f".{name}.", dir=folder) as work:
        new = os.path.join(work, name)
        with open(new, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
