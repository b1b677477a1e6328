"""Files and folders that are replaced as a whole or not at all: the one way that tfcomp writes.

What is written is made in a hidden folder beside its place, and moved there when it is complete and
on the disk. Until then what was there is there, whole. Whoever opens a file or folder meanwhile
finds the old one or the new one, never half of one, and never nothing.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import tempfile

from tfcomp.validation import invalid

# From Linux's headers: paths are as they are, and the two are exchanged.
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
# What a file system, or a system, says that knows no exchange.
_UNKNOWN = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM)


def _renameat2(one, other):
    """Exchanges two paths in one step; whether the system can."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if os.name != "nt" else 0
    if not call:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if call(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNKNOWN:
        return False
    raise OSError(number, os.strerror(number), one, None, other)


def _exchange(new, path):
    """Puts `new` at `path`, and what was there in its place; raises if there was nothing."""
    if _renameat2(new, path):
        return
    aside = f"{new}.aside"
    if os.path.isfile(path):
        # A copy, so that there is no moment without the file.
        shutil.copy2(path, aside)
    else:
        os.rename(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        if not os.path.lexists(path):
            os.rename(aside, path)
        raise
    os.rename(aside, new)


def _put(new, path):
    """Moves `new` to `path`, and what was there, if anything, to where `new` was."""
    while True:
        try:
            return _exchange(new, path)
        except FileNotFoundError:
            if not os.path.lexists(new):
                raise
        try:
            return os.rename(new, path)
        except OSError as error:
            # Another process has put a folder there in the meantime.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _take_back(new, path):
    """Undoes `_put`."""
    if os.path.lexists(new):
        _exchange(new, path)
    else:
        os.rename(path, new)


def _like(new, path):
    """Gives what is new the rights of what it replaces."""
    if os.path.lexists(path):
        shutil.copymode(path, new)
        before, after = os.stat(path), os.stat(new)
        if (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid):
            # Only the superuser can give files away; others' files become one's own.
            with contextlib.suppress(PermissionError):
                os.chown(new, before.st_uid, before.st_gid)


def _on_disk(path):
    """Waits until all files at a path are written, or raises that they could not be."""
    files = [os.path.join(where, name) for where, _, names in os.walk(path) for name in names]
    for name in files or [path] * os.path.isfile(path):
        with open(name, "rb") as file:
            os.fsync(file.fileno())


@contextlib.contextmanager
def _alone(folder):
    """Context in which no other process that asks for it puts several files into a folder."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _put_all(pairs):
    """Puts all of the new things in their places, or none."""
    done = []
    try:
        for new, path in pairs:
            _like(new, path)
            _put(new, path)
            done.append((new, path))
    except BaseException:
        for new, path in reversed(done):
            _take_back(new, path)
        raise


def _check_file(path):
    if os.path.lexists(path) and not os.path.isfile(path):
        raise invalid("path", path, "a path that is free, or a file")
    effective = os.access in os.supports_effective_ids
    if os.path.lexists(path) and not os.access(path, os.W_OK, effective_ids=effective):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)


def _check_folder(path, parts):
    if os.path.lexists(path):
        found = set(os.listdir(path)) if os.path.isdir(path) else {"a file"}
        if found - set(parts) or (found and parts[0] not in found):
            expected = f"a path that is free, or a folder of {parts[0]!r} with nothing else in it"
            raise invalid("path", path, expected)


def _beside(stack, path):
    """A new folder on the file system that `path` is on, which is gone when the stack closes."""
    parent = os.path.dirname(path)
    os.makedirs(parent, exist_ok=True)
    # In a folder of its own, so that a new file gets the rights that files get.
    return stack.enter_context(tempfile.TemporaryDirectory(prefix=".tfcomp.", dir=parent))


@contextlib.contextmanager
def replaced_files(path):
    """Makes one or several files, which take their places if the body does not fail.

    Args:
        path: Where the first of them will be. A link is followed, the mode of a file that is there
            kept. Others may be made beside it, and take their places before it does.

    Yields:
        The path to write to, of the same name.

    Raises:
        ValueError: If at `path` there is something that is not a file.
        OSError: If it may not be written.
    """
    path = os.path.abspath(path)
    parent, name = os.path.split(path)
    target = os.path.realpath(path)
    _check_file(target)
    with contextlib.ExitStack() as stack:
        work = _beside(stack, target)
        yield os.path.join(work, name)
        pairs = []
        for made in sorted(os.listdir(work), key=lambda made: made == name):
            new, target = os.path.join(work, made), os.path.realpath(os.path.join(parent, made))
            _check_file(target)
            _on_disk(new)
            if os.path.dirname(target) != os.path.dirname(work):
                new = shutil.move(new, os.path.join(_beside(stack, target), made))
                _on_disk(new)
            pairs.append((new, target))
        if len(pairs) > 1:
            # Files of two writers must not be mixed up.
            stack.enter_context(_alone(os.path.dirname(pairs[-1][1])))
        _put_all(pairs)


@contextlib.contextmanager
def replaced_file(path):
    """Opens a new file, which takes the place of `path` if the body does not fail.

    Args:
        path: Where the file will be. A link is followed, the mode of a file that is there kept.

    Yields:
        The new file, open for writing bytes.

    Raises:
        ValueError: If at `path` there is something that is not a file.
        OSError: If it may not be written.
    """
    with replaced_files(path) as new, open(new, "wb") as file:
        yield file


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
        OSError: If it may not be written.
    """
    path = os.path.realpath(path)
    _check_folder(path, parts)
    with contextlib.ExitStack() as stack:
        new = os.path.join(_beside(stack, path), "new")
        os.mkdir(new)
        yield new
        _on_disk(new)
        _check_folder(path, parts)
        _put_all([(new, path)])
