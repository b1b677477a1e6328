"""Where tables are printed."""

import functools
import os

import rich
from rich.console import Console
from rich.measure import Measurement
from rich.text import Text

# A column of paths that is narrower is of no use.
READABLE = 24


def show(table, console=None):
    """Prints a table, wide where the output has no width of its own.

    Args:
        table: A `rich.table.Table`.
        console: Optional `rich.console.Console` to print to.
    """
    if console is None:
        # A file has no width: do not squeeze the table into 80 columns.
        console = rich.get_console()
        console = console if console.is_terminal else Console(width=120)
    console.print(table)


class _Path:
    """A path as a cell of a table: cut, where there is no room, so that it differs from the others.

    Args:
        index: Place of the path in the column.
        column: Function from a width to all paths of the column, cut to it.
    """

    def __init__(self, index, column):
        self._index, self._column = index, column

    def __rich_measure__(self, console, options):
        return Measurement(1, len(self._column(None)[self._index]))

    def __rich_console__(self, console, options):
        yield Text(self._column(options.max_width)[self._index], overflow="fold")


def paths(found):
    """Returns cells of a table for a list of paths."""

    @functools.cache
    def column(width):
        return found if width is None else shorten(found, width)

    return [_Path(index, column) for index in range(len(found))]


def shorten(found, width):
    """Cuts paths to a width where they can be told apart, and leaves them whole where they cannot.

    Args:
        found: List of paths.
        width: Number of characters.

    Returns:
        List of the paths: as they are, without what all of those that are too long begin with, or
        with an ellipsis in the middle.
    """
    rows = list(found)
    if all(len(path) <= width for path in rows):
        return rows
    long = [path for path in rows if len(path) > width]
    # Of strings, not of parts: what is cut ends with a slash.
    common = os.path.commonprefix(long).rfind("/") + 1 if len(long) > 1 else 0  # noqa: RUF071
    if common:
        rows = ["…" + path[common - 1 :] if len(path) > width else path for path in rows]
    for kept in sorted(range(width), key=lambda kept: abs(kept - width // 3)):
        cut = [_cut(path, width, kept) for path in rows]
        if len(set(cut)) == len(set(found)):
            return cut
    return list(found)


def _cut(path, width, kept):
    """A path of at most `width` characters, of which the first `kept` are its beginning's."""
    if len(path) <= width:
        return path
    if path[:1] == "…" and kept < 3:
        kept = 0
    tail = width - kept - 1
    return path[:kept] + "…" + (path[-tail:] if tail > 0 else "")
