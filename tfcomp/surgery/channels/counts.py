"""How many channels of each kind are kept, so that whatever is split still splits evenly."""

from collections import defaultdict

import numpy as np

from tfcomp.surgery.channels.nearest import LEAST, Coupled


class Counts:
    """The numbers of channels to keep of each cell: channels that can stand for one another.

    Args:
        dyes: The `Dyes` of a model.
        cells: Dict from signature to channels, as `cells` returns them.
    """

    def __init__(self, dyes, cells):
        self._dyes = dyes
        self.signatures = list(cells)
        self.sizes = np.array([len(members) for members in cells.values()], int)
        # Cells with the same axes of the same variables: there the number of all of them counts.
        self._groups = defaultdict(list)
        for number, signature in enumerate(self.signatures):
            self._groups[_axes(signature)].append(number)
        self._parts = self._coupled(*self._collected())
        self._asked, self._step, self._unfit = self.sizes, 1, []

    def _collected(self):
        """Rows that must stay equal, and axes that must keep some channels.

        Each is a vector of how often a cell stands in it, and how many stay there anyway.
        """
        dyes = self._dyes
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
        every = [np.array(list(place.values())) for place in rows.values()]
        return every, [*axes.values(), *(row for place in every for row in place)]

    def _coupled(self, places, floors):
        """What has to be counted together, since it has rows or axes in common."""
        together = [sum(place) for place in places] + floors
        for members in self._groups.values():
            together.append(np.isin(np.arange(len(self.sizes) + 1), members))
        parts = []
        for cells in _components([np.flatnonzero(row[:-1]) for row in together], len(self.sizes)):
            own = np.append(cells, len(self.sizes))
            groups = {
                axes: np.searchsorted(cells, members)
                for axes, members in self._groups.items()
                if members[0] in cells
            }
            place = [rows[:, own] for rows in places if rows[:, cells].any()]
            floor = [row[own] for row in floors if row[cells].any()]
            parts.append(Coupled(cells, self.sizes[cells], groups, place, floor))
        return parts

    def kept(self, parts, whole=(), round_to=1, at_least=False):
        """Numbers of channels to keep, those nearest to what is wanted.

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
        least = np.where(wanted < self.sizes, 0, self.sizes)
        if at_least:
            least = np.maximum(least, np.ceil(wanted - 1e-6).astype(int))
        self._asked, self._step = wanted, round_to
        keep = self.sizes.copy()
        for part in self._parts:
            cells = part.cells
            found = part.nearest(wanted[cells], least[cells], round_to, self._unfit)
            if found is None:
                names = " and ".join(sorted(map(self._name, part.groups))[:3])
                raise ValueError(f"No numbers of channels suit what splits those of {names}.")
            keep[cells] = found
        return dict(zip(self.signatures, keep.tolist()))

    def _name(self, axes):
        """Path of the first variable of a group."""
        return self._dyes.variables[min(axes)[0]].path

    # ---- what a model turned out not to be able to have

    def emptied(self, counts):
        """Signatures that stand where numbers of channels leave less than there has to be."""
        counts = np.array([counts.get(signature, 0) for signature in self.signatures])
        cells = {cell for part in self._parts for cell in part.emptied(counts[part.cells])}
        return [self.signatures[cell] for cell in sorted(cells)]

    def around(self, signatures):
        """Signatures of all that is in the groups of some; none where one is of no known group."""
        groups = {_axes(signature) for signature in signatures}
        if not groups <= set(self._groups):
            return []
        return [self.signatures[number] for axes in groups for number in self._groups[axes]]

    def exclude(self, signatures, counts):
        """Notes that channels of some signatures do not come out in the numbers that were tried.

        Args:
            signatures: What a model with these numbers has and should not have, or too many of.
            counts: The dict from signature to number.
        """
        for axes in {_axes(signature) for signature in signatures}:
            # What is joined with it moves it from one group into another.
            joined = [other for other in self._groups if not axes.isdisjoint(other)]
            self._unfit.append({other: self._total(other, counts) for other in joined})

    def _total(self, axes, counts):
        return sum(counts[self.signatures[number]] for number in self._groups[axes])

    def stuck(self, counts):
        """Dict from signature to the reason, of what `kept` could not make smaller as it was asked.

        Args:
            counts: What `kept` returned last.
        """
        found = {}
        for axes in (axes for part in self._parts if part.places for axes in part.groups):
            members = self._groups[axes]
            size = self.sizes[members].sum()
            if (
                size > LEAST
                and self._total(axes, counts) == size
                and self._asked[members].sum() <= size - self._step
            ):
                reason = (
                    f"{self._name(axes)!r} keeps all its channels: no smaller number as near to "
                    "what was asked suits the groups, halves and shuffles around it"
                )
                found.update((self.signatures[number], reason) for number in members)
        return found


def _axes(signature):
    return frozenset(use[:2] for use in signature[0])


def _components(sets, number):
    """List of sorted arrays of numbers that sets, directly or through others, hold together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    firsts = np.repeat([own[0] for own in sets if len(own)], [len(o) for o in sets if len(o)])
    others = np.concatenate([np.zeros(0, int), *sets])
    graph = coo_array((np.ones(len(others)), (firsts.astype(int), others)), (number, number))
    _, found = connected_components(graph, directed=False)
    return [np.flatnonzero(found == each) for each in range(found.max(initial=-1) + 1)]
