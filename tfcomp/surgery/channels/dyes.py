"""Dyes: integers that stand for channels, which of them are tied, and where they stand.

Every axis of every variable has a label for each of its indices, a dye. Removing channel `c`
removes index `i` of every axis whose label `i` is `c`. Dye 0 stands for what is no channel at all.
"""

from collections import Counter, defaultdict

import keras
import numpy as np

from tfcomp.surgery.channels import tensors


class Dyes:
    """The dyes of one model: a union-find, and the labels of the axes of its variables.

    Args:
        variables: List of variables that are numbered first, as those of another model are.

    Attributes:
        variables: List of variables, in the order in which they were met; elsewhere a variable is
            its place in this list.
        axes: Dict from `(variable, axis)` to labels: `(n,)`, or `(groups, n)` for the two last axes
            of the kernel of a grouped convolution.
        made: List of the `(variable, axis)` that make channels.
        shown: List of the `(variable, axis)` that code computes with; what it does with them is
            seen in what they are tied to.
        sums: Set of the `(variable, axis)` that are summed over: there a channel is used.
        grouped: Set of the kernels of grouped convolutions.
        inexact: Dyes whose removal changes the others, through a mean over channels.
        seen: Dict from the id of a layer or operation to its arguments and what it returned.
        asked: List of what was found out by experiment.
        opaque: List of what was not understood.
        where: What is being looked at, for reasons.
    """

    def __init__(self, variables=()):
        self.parent, self._makers = [0], [(None, 0)]
        self.variables = list(variables)
        self._ordinals = {id(variable): number for number, variable in enumerate(self.variables)}
        self.axes, self.made, self.shown = {}, [], []
        self.sums, self.grouped = set(), set()
        self.inexact, self.seen = set(), {}
        self.asked, self.opaque = [], []
        self.where = ""
        self._reasons = {}
        self._marks, self._places = defaultdict(list), Counter()

    # ---- union-find

    def new(self, number, maker=None):
        """New dyes of a `(variable, axis)`.

        An only channel cannot go, and would tie with all that it is broadcast to.
        """
        if number < 2:
            return np.zeros(number, np.int32)
        start = len(self.parent)
        self.parent.extend(range(start, start + number))
        self._makers.extend((maker, index) for index in range(number))
        return np.arange(start, start + number, dtype=np.int32)

    def find(self, dye):
        """The dye that stands for all that are tied to one."""
        parent = self.parent
        while parent[dye] != dye:
            parent[dye] = parent[parent[dye]]
            dye = parent[dye]
        return dye

    def tie(self, a, b):
        """Ties dyes place by place; those that meet what is no channel stay."""
        a, b = np.broadcast_arrays(a, b)
        pairs = np.stack([a.ravel(), b.ravel()], 1)
        pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
        for one, other in pairs.tolist():
            if one == 0 or other == 0:
                self._freeze(one or other, f"it meets what is no channel in {self.where}")
            else:
                self._union(self.find(one), self.find(other))

    def _union(self, one, other):
        if one != other:
            low, high = sorted((one, other))
            self.parent[high] = low
            if high in self._reasons:
                self._reasons.setdefault(low, self._reasons.pop(high))

    def _freeze(self, dye, why):
        self._reasons.setdefault(self.find(dye), why)

    def freeze(self, dyes, why):
        """Makes dyes stay."""
        for dye in np.unique(dyes).tolist():
            if dye:
                self._freeze(dye, why)

    def why(self, dye):
        """Why a channel stays, or `None` where it can go."""
        return self._reasons.get(self.find(dye))

    def roots(self, dyes):
        """The dyes that stand for others, place by place."""
        unique, inverse = np.unique(dyes, return_inverse=True)
        found = np.array([self.find(dye) for dye in unique.tolist()], np.int32)
        return found[inverse].reshape(np.shape(dyes)) if unique.size else dyes

    def free(self, roots):
        """Roots, with 0 in place of those that stay."""
        stay = np.zeros(len(self.parent), bool)
        stay[list(self._reasons)] = True
        return np.where(stay[roots], 0, roots)

    # ---- what is split evenly

    def new_place(self, kind, dyes):
        """A name for something that is split in rows, which must stay as long as each other.

        Args:
            kind: String, what splits.
            dyes: Array of the dyes that it splits.
        """
        makers = {self._makers[dye][0] for dye in np.unique(dyes).tolist()} - {None}
        name = kind, tuple(sorted(makers))
        self._places[name] += 1
        return *name, self._places[name]

    def mark(self, place, row, dyes):
        """Notes that dyes stand in one row of what is split."""
        for dye, count in zip(*np.unique(dyes, return_counts=True)):
            self._marks[int(dye)].append((place, row, int(count)))

    def _rename_places(self):
        """Numbers places of one kind by what stands in them.

        So names are the same in a model of another size, in whatever order its code is run.
        """
        content = defaultdict(list)
        for dye, marks in self._marks.items():
            maker, index = self._makers[dye]
            if maker is not None:
                for place, row, _ in marks:
                    content[place].append((row, maker, index))
        alike, names = defaultdict(list), {}
        for place, found in content.items():
            alike[place[:2]].append((sorted(found), place))
        for name, found in alike.items():
            for number, (_, place) in enumerate(sorted(found)):
                names[place] = *name, number
        for dye, marks in self._marks.items():
            self._marks[dye] = [(names.get(place, place), *rest) for place, *rest in marks]

    # ---- variables

    def ordinal(self, variable):
        """The place of a variable in `variables`."""
        if id(variable) not in self._ordinals:
            self._ordinals[id(variable)] = len(self.variables)
            self.variables.append(variable)
        return self._ordinals[id(variable)]

    def found(self, variable, axis):
        """Labels of an axis of a variable, or `None` where it has none."""
        if id(variable) not in self._ordinals:
            return None
        return self.axes.get(self.key(variable, axis))

    def key(self, variable, axis):
        """How `axes` names an axis of a variable."""
        return self.ordinal(variable), axis % len(variable.shape)

    def makes(self, variable, axis):
        """Dyes that an axis of a variable makes; the same at every call of a shared layer."""
        key = self.key(variable, axis)
        if key not in self.axes:
            self.axes[key] = self.new(variable.shape[axis], key)
            self.made.append(key)
        return self.axes[key].ravel()

    def show(self, variable):
        """A variable as a symbolic tensor that is dyed along each of its axes."""
        rank, arrays = len(variable.shape), []
        for axis in range(rank):
            key = self.key(variable, axis)
            if key not in self.axes:
                self.axes[key] = self.new(variable.shape[axis], key)
                self.shown.append(key)
            arrays.append(tensors.spread(self.axes[key].ravel(), axis, rank))
        return tensors.dye(DyedVariable(variable), arrays)

    def reads(self, variable, axis, labels, sums=False):
        """An axis of a variable goes with the channels that arrive, and perhaps sums over them."""
        key = self.key(variable, axis)
        if sums:
            self.sums.add(key)
        if labels is None:
            labels = np.zeros(variable.shape[axis], np.int32)
        if key in self.axes:
            self.tie(self.axes[key], labels.reshape(self.axes[key].shape))
        else:
            self.axes[key] = labels

    # ---- once all has been seen

    def finish(self):
        """Brings all labels to the dyes that stand for them; returns itself."""
        self._rename_places()
        self.axes = {key: self.roots(labels) for key, labels in self.axes.items()}
        self.inexact = {self.find(dye) for dye in self.inexact}
        self._reasons.pop(0, None)
        return self

    def labels(self, key):
        """Labels of an axis, 0 where a channel stays."""
        return self.free(self.axes[key])

    def uses(self):
        """Dict from each dye that can go to its signature.

        That is where it stands, and how often: pairs of `(variable, axis, conv group, times)` and
        of `(place, row, times)`. Channels of one signature can stand for one another.
        """
        found, marks = defaultdict(list), self._rows()
        for key in sorted(self.axes):
            labels = self.labels(key)
            for row, dyes in enumerate(np.atleast_2d(labels)):
                group = row if labels.ndim == 2 else -1
                own, counts = np.unique(dyes, return_counts=True)
                # As many as there are counts, and not as there are channels.
                uses = {count: (*key, group, count) for count in set(counts.tolist())}
                for dye, count in zip(own.tolist(), counts.tolist()):
                    found[dye].append(uses[count])
        found.pop(0, None)
        return {dye: (tuple(use), tuple(marks.get(dye, ()))) for dye, use in found.items()}

    def staying_rows(self):
        """Rows of what is split, with how many of the channels in them stay."""
        return self._rows().get(0, [])

    def _rows(self):
        rows = defaultdict(lambda: defaultdict(int))
        for dye, marks in self._marks.items():
            root = 0 if self.why(dye) or not dye else self.find(dye)
            for place, row, count in marks:
                rows[root][place, row] += count
        return {
            dye: [(*at, count) for at, count in sorted(counts.items())]
            for dye, counts in rows.items()
        }


class DyedVariable(keras.KerasTensor):
    """A variable as a symbolic tensor, for code that computes with it."""

    def __init__(self, variable):
        super().__init__(tuple(variable.shape), dtype=variable.dtype)
        self.variable = variable
