"""Where tables are printed."""

import rich
from rich.console import Console


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
