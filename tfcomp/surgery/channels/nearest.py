"""The whole numbers nearest to some, among those that suit what is split evenly."""

from typing import Any, NamedTuple

import numpy as np

# A single channel would be broadcast where several are not, so the model would be another one.
LEAST = 2
# What the number of a cell counts for beside that of its group, and that more are kept.
_CELL, _MORE = 1e-3, -1e-5


class Coupled(NamedTuple):
    """Cells that have to be counted together.

    Attributes:
        cells: Array of their numbers among all cells.
        sizes: How many channels each has.
        groups: Dict from group to array of the places of its cells in `cells`.
        places: List of arrays of rows that must stay equal, each `(rows, cells + 1)`: how often a
            cell stands in it, and how many stay there anyway.
        floors: List of such rows that must keep some channels.
    """

    cells: Any
    sizes: Any
    groups: dict
    places: list
    floors: list

    def nearest(self, wanted, least, round_to, unfit):
        """Numbers to keep, or `None` if there are none.

        Args:
            wanted: Array of the numbers that are wanted, with fractions.
            least: Array of the smallest numbers that may be kept.
            round_to: What the number that a group keeps is a multiple of, or all it has.
            unfit: List of dicts from group to a number: not all groups of one may have theirs.
        """
        if (wanted >= self.sizes).all():
            return self.sizes
        unfit = [numbers for numbers in unfit if set(numbers) <= set(self.groups)]
        keep = np.maximum(self._rounded(wanted, round_to), least)
        if self._suit(keep, wanted, round_to, unfit):
            return keep
        return self._solved(wanted, least, round_to, unfit)

    def emptied(self, keep):
        """List of the cells of floors that numbers to keep are below."""
        rows = [row for row in self.floors if row @ np.append(keep, 1) < self._floor(row)]
        return [cell for row in rows for cell in self.cells[np.flatnonzero(row[:-1])]]

    def _rounded(self, wanted, round_to):
        keep = np.floor(wanted + 0.5).astype(int)
        for members in self.groups.values():
            if len(members) == 1 and wanted[members[0]] < self.sizes[members[0]]:
                (only,) = members
                number = max(round_to * round(wanted[only] / round_to), round_to, LEAST)
                keep[only] = min(number, self.sizes[only])
        return keep

    def _suit(self, keep, wanted, round_to, unfit):
        counts = np.append(keep, 1)
        return (
            all(len(set((rows @ counts).tolist())) == 1 for rows in self.places)
            and all(row @ counts >= self._floor(row) for row in self.floors)
            and all(self._is_near(keep[m], wanted[m], self.sizes[m], round_to) for m in self._many)
            and not any(
                all(keep[self.groups[group]].sum() == number for group, number in numbers.items())
                for numbers in unfit
            )
        )

    @property
    def _many(self):
        """Groups of several cells."""
        return [members for members in self.groups.values() if len(members) > 1]

    def _is_near(self, keep, wanted, sizes, round_to):
        total = keep.sum()
        near = abs(total - wanted.sum()) <= round_to / 2 + 1e-6
        return near and (total % round_to == 0 or total == sizes.sum())

    def _floor(self, row):
        return min(LEAST, int(row @ np.append(self.sizes, 1)))

    def _solved(self, wanted, least, round_to, unfit):
        program = _Program()
        for low, high in zip(least, self.sizes):
            program.add(low, high, _MORE)
        for cell, number in enumerate(wanted):
            program.near([(cell, 1)], number, _CELL)
        for place in self.places:
            for row in place[1:] - place[0]:
                program.limit(_terms(row), -row[-1], -row[-1])
        for row in self.floors:
            program.limit(_terms(row), self._floor(row) - row[-1], np.inf)
        for members in self.groups.values():
            total = [(cell, 1) for cell in members]
            program.near(total, wanted[members].sum(), 1)
            if round_to > 1 and (wanted[members] < self.sizes[members]).any():
                program.multiple(total, round_to, self.sizes[members].sum())
        for numbers in unfit:
            totals = [[(cell, 1) for cell in self.groups[group]] for group in numbers]
            program.differ(totals, list(numbers.values()), self.sizes.sum() + 1)
        found = program.solved()
        return None if found is None else found[: len(self.sizes)]


def _terms(row):
    return [(cell, row[cell]) for cell in np.flatnonzero(row[:-1])]


class _Program:
    """An integer program; sums are lists of pairs of a variable and a factor."""

    def __init__(self):
        self._variables, self._limits = [], []

    def add(self, low, high, cost=0, whole=True):
        """Returns a new variable."""
        self._variables.append((low, high, cost, whole))
        return len(self._variables) - 1

    def limit(self, total, low, high):
        """A sum lies between two numbers."""
        self._limits.append((total, low, high))

    def near(self, total, number, cost):
        """A sum costs what it is away from a number."""
        off = self.add(0, np.inf, cost, whole=False)
        self.limit([*total, (off, -1)], -np.inf, number)
        self.limit([*total, (off, 1)], number, np.inf)

    def multiple(self, total, factor, size):
        """A sum is a multiple of a number, or all there is."""
        most, rest = divmod(int(size), factor)
        times, whole = self.add(min(1, most), most), self.add(0, 1)
        self.limit([*total, (times, -factor), (whole, -rest)], 0, 0)
        self.limit([(times, 1), (whole, -most)], 0, np.inf)

    def differ(self, totals, numbers, most):
        """Not all of some sums are what they may not be together."""
        any_of = []
        for total, number in zip(totals, numbers):
            less, more = self.add(0, 1), self.add(0, 1)
            self.limit([*total, (less, most)], -np.inf, number - 1 + most)
            self.limit([*total, (more, -most)], number + 1 - most, np.inf)
            any_of += [(less, 1), (more, 1)]
        self.limit(any_of, 1, np.inf)

    def solved(self):
        """Array of the values of all variables, whole numbers, or `None`."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import lil_array

        low, high, cost, whole = np.array(self._variables, float).T
        lines = lil_array((len(self._limits), len(low)))
        for number, (total, *_) in enumerate(self._limits):
            for variable, factor in total:
                lines[number, variable] += factor
        least, most = (np.array([limit[k] for limit in self._limits], float) for k in (1, 2))
        result = milp(
            cost,
            integrality=whole,
            bounds=Bounds(low, high),
            constraints=LinearConstraint(lines.tocsr(), least, most),
            options={"time_limit": 20},
        )
        return None if result.x is None else np.round(result.x).astype(int)
