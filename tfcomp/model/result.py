"""What a call on a trained model answers with: one kind of result for all of them."""

import io
from typing import NamedTuple

from rich.console import Console
from rich.table import Table


class LeftOut(NamedTuple):
    """A weight or layer that a call left as it was.

    Attributes:
        path: Its path.
        reason: Why.
    """

    path: str
    reason: str


class Result:
    """What a call did, row by row; it prints itself as a table.

    `result[0]` is the first row, `result["dense/kernel"]` the row of that path, and a result can be
    gone through and has a length as a list of its rows has.

    Attributes:
        model: The `keras.Model` that has been changed, or the new one that has been made.
        rows: List of named tuples, one for each weight or layer that was worked on; each has a
            `path`.
        left_out: List of `LeftOut`, one for each that was not.
        title: Title of the table.
        columns: Dict from the heading of a column to a format of the row, `"{0.sparsity:.1%}"`.
    """

    def __init__(self, model, rows, left_out=(), title="", columns=None):
        self.model, self.rows, self.left_out = model, list(rows), list(left_out)
        self.title, self.columns = title, columns or {}

    def __getitem__(self, key):
        if not isinstance(key, str):
            return self.rows[key]
        for row in self.rows:
            if row.path == key:
                return row
        reasons = [left.reason for left in self.left_out if left.path == key]
        known = f"it was left out: {reasons[0]}" if reasons else [row.path for row in self.rows]
        raise KeyError(f"{key!r}; {known}")

    def __iter__(self):
        return iter(self.rows)

    def __len__(self):
        return len(self.rows)

    def __contains__(self, key):
        return key in self.rows or any(row.path == key for row in self.rows)

    def table(self):
        """Returns a `rich.table.Table`, one row for each weight or layer."""
        table = Table(title=self.title, title_justify="left")
        for number, heading in enumerate(self.columns):
            table.add_column(heading, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(cell.format(row) for cell in self.columns.values()))
        return self.with_left_out(table)

    def with_left_out(self, table):
        """The table with what was left out below its rows."""
        if self.rows and self.left_out:
            table.add_section()
        for left in self.left_out:
            table.add_row(left.path, f"left out: {left.reason}")
        return table

    def __rich__(self):
        return self.table()

    def __repr__(self):
        text = io.StringIO()
        Console(file=text, width=120).print(self.table())
        return text.getvalue().rstrip("\n")
