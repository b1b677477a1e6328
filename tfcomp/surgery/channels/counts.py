"""How many channels of each kind are kept, so that whatever is split still splits evenly."""

from collections import defaultdict

import numpy as np

from tfcomp.validation import invalid

# A single channel would be broadcast where several are not, so the model would be another one.
_LEAST = 2


class Counts:
    """The numbers of channels to keep of each cell: channels that can stand for one another.

    Args:
        dyes: The `Dyes` of a model.
        cells: Dict from signature to channels, as `cells` returns them.
    """

    def __init__(self, dyes, cells):
        self.signatures = list(cells)
        self.sizes = np.array([len(members) for members in cells.values()], int)
        self._groups = defaultdict(list)
        for number, (uses, _) in enumerate(self.signatures):
            self._groups[frozenset(use[:2] for use in uses)].append(number)
        self._rows, self._floors = self._collected(dyes)

    def _collected(self, dyes):
        """Rows that must stay equal, and axes that must keep some channels.

        Each is a vector of how often a cell stands in it, and how many stay there anyway.
        """
        rows = defaultdict(lambda: defaultdict(lambda: np.zeros(len(self.sizes) + 1, int)))
        axes = defaultdict(lambda: np.zeros(len(self.sizes) + 1, int))
        for number, (uses, marks) in enumerate(self.signatures):
            for variable, axis, group, times in uses:
                axes[variable, axis][number] += times
                if group >= 0:
                    rows[variable, axis][group][number] += times
            for place, row, times in marks:
                rows[place][row][number] += times
        for key in axes:
            axes[key][-1] = (dyes.labels(key) == 0).sum()
            for group, row in rows.get(key, {}).items():
                row[-1] = (dyes.labels(key)[group] == 0).sum()
        for place, row, times in dyes.staying_rows():
            if place in rows:
                rows[place][row][-1] += times
        every = [list(place.values()) for place in rows.values()]
        return every, [*axes.values(), *(row for place in every for row in place)]

    def kept(self, parts, whole=(), round_to=1, at_least=False):
        """Numbers of channels to keep.

        Args:
            parts: Dict from signature to the part to keep, in [0, 1]; others are kept whole.
            whole: Signatures that are kept whole.
            round_to: What the number that a group keeps is a multiple of, or all it has.
            at_least: Whether no fewer may be kept than the parts say.

        Returns:
            Dict from signature to number.

        Raises:
            ValueError: If there are no such numbers.
        """
        share = [0 if s in whole else 1 - parts.get(s, 1) for s in self.signatures]
        wanted = self.sizes * (1 - np.array(share, float))
        least = np.where(wanted < self.sizes, np.minimum(self.sizes, 1), self.sizes)
        if at_least:
            least = np.maximum(least, np.ceil(wanted - 1e-6).astype(int))
        keep = np.floor(wanted + 0.5).astype(int)
        for members in self._groups.values():
            if len(members) == 1 and wanted[members[0]] < self.sizes[members[0]]:
                (only,) = members
                number = max(round_to * round(wanted[only] / round_to), round_to, _LEAST)
                keep[only] = min(number, self.sizes[only])
        keep = np.maximum(keep, least)
        if not self._suit(keep, wanted, round_to):
            keep = self._solved(wanted, least, round_to)
        return dict(zip(self.signatures, keep.tolist()))

    def _shrinking(self, wanted):
        """Groups of several cells that become smaller."""
        return [
            members
            for members in self._groups.values()
            if len(members) > 1 and (wanted[members] < self.sizes[members]).any()
        ]

    def _suit(self, keep, wanted, round_to):
        counts = np.append(keep, 1)
        return (
            all(len({int(row @ counts) for row in place}) == 1 for place in self._rows)
            and all(row @ counts >= self._floor(row) for row in self._floors)
            and all(keep[m].sum() % round_to == 0 for m in self._shrinking(wanted))
        )

    def _floor(self, row):
        return min(_LEAST, int(row @ np.append(self.sizes, 1)))

    def _solved(self, wanted, least, round_to):
        """The numbers nearest to what is wanted, by an integer program."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        cells, groups = len(self.sizes), self._shrinking(wanted) if round_to > 1 else []
        # The numbers, how far each is from what is wanted, and the multiples of `round_to`.
        width = 2 * cells + len(groups)
        eye, none = np.eye(cells), np.zeros((cells, len(groups)))
        constraints = [
            LinearConstraint(np.hstack([eye, -eye, none]), -np.inf, wanted),
            LinearConstraint(np.hstack([eye, eye, none]), wanted, np.inf),
        ]
        for place in self._rows:
            for row in place[1:]:
                line, rest = _line(row - place[0], width)
                constraints.append(LinearConstraint(line, -rest, -rest))
        for row in self._floors:
            line, rest = _line(row, width)
            constraints.append(LinearConstraint(line, self._floor(row) - rest, np.inf))
        for number, members in enumerate(groups):
            line = np.zeros(width)
            line[members], line[2 * cells + number] = 1, -round_to
            constraints.append(LinearConstraint(line, 0, 0))
        result = milp(
            np.concatenate([np.zeros(cells), np.ones(cells), np.zeros(len(groups))]),
            integrality=np.concatenate([np.ones(cells), np.zeros(cells), np.ones(len(groups))]),
            bounds=Bounds(
                np.concatenate([least, np.zeros(cells), np.ones(len(groups))]),
                np.concatenate([self.sizes, self.sizes, np.full(len(groups), np.inf)]),
            ),
            constraints=constraints,
            options={"time_limit": 20, "mip_rel_gap": 0.01},
        )
        if result.x is None:
            expected = "a number for which channels can be split evenly over groups and halves"
            raise invalid("round_to", round_to, f"{expected} ({result.message})")
        return np.round(result.x[:cells]).astype(int)


def _line(row, width):
    line = np.zeros(width)
    line[: len(row) - 1] = row[:-1]
    return line, row[-1]
