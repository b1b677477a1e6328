"""The channels of a model, in groups that are tied."""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.model.result import Result
from tfcomp.surgery.channels.trace import trace


class Group(NamedTuple):
    """Channels that can be removed one by one, each from all variables of the group at once.

    Attributes:
        path: Path of the first weight that makes them; with the axis where it makes others, too.
        channels: How many there are.
        made_by: Paths of all weights that make them.
        read_by: Paths of the weights that sum over them.
        tied: Paths of the variables between: biases, norms, depthwise kernels.
        exact: Whether the others are as before when channels that are zero are removed; not so
            where a norm takes a mean over channels.
        reason: Why they stay, or `None` where they can go.
        members: Array of dyes, one for each channel.
        layers: List of the layers that make them.
    """

    path: str
    channels: int
    made_by: list
    read_by: list
    tied: list
    exact: bool
    reason: str | None
    members: Any
    layers: list


class _Row(NamedTuple):
    path: str
    channels: int
    made_by: str
    read_by: str
    tied: str
    remark: str


_COLUMNS = {
    "Made by": "{0.made_by}",
    "Channels": "{0.channels}",
    "Read by": "{0.read_by}",
    "Tied": "{0.tied}",
    "Remark": "{0.remark}",
}


class Channels(Result):
    """The channels of a model; see `tfcomp.Result`.

    Attributes:
        rows: List of `Group`.
        dyes: What was found, for those who cut.
    """

    def __init__(self, model, dyes):
        super().__init__(model, _groups(model, dyes), (), f"Channels of {model.name}", _COLUMNS)
        self.dyes = dyes

    def table(self):
        """Returns a `rich.table.Table`, one row for each group."""
        rows = [
            _Row(
                group.path,
                group.channels,
                _few(group.made_by),
                _few(group.read_by),
                _few(group.tied),
                f"stays: {group.reason}" if group.reason else "" if group.exact else "inexact",
            )
            for group in self.rows
        ]
        return Result(self.model, rows, (), self.title, self.columns).table()


def _few(paths, most=4):
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def channels(model):
    """Lists the channels of a model, in groups that can only become smaller together.

    The model's own code is run once on symbolic tensors that carry a number for each channel.
    Layers with kernels say which axes of their weights make and read channels; what only moves data
    is carried out on the numbers; the rest of Keras's operations tie the channels that meet; a
    layer or operation without weights that has no rule is asked by experiment, and where that fails
    the channels that flow into it stay. Nothing of the model is changed.

    Args:
        model: A built `keras.Model` of any kind: Sequential, functional, nested or subclassed.

    Returns:
        A `tfcomp.Result`, which prints as a table; its `rows` have the attributes `path`,
        `channels`, `made_by`, `read_by`, `tied`, `exact` and `reason`, which says why a group stays
        and is `None` where it can go.

    Raises:
        ValueError: If the model is not built, or its code cannot be run on symbolic tensors.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(16, 3, activation="relu", name="conv"),
    ...         keras.layers.BatchNormalization(name="norm"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, name="out"),
    ...     ]
    ... )
    >>> found = tfcomp.channels(model)
    >>> [(group.path, group.channels, group.read_by, group.reason) for group in found]
    [('conv/kernel', 16, ['out/kernel'], None), ('out/kernel', 10, [], 'it leaves the model')]
    """
    targets_lib.check_built(model)
    return Channels(model, trace(model))


def _groups(model, dyes):
    sites = {id(site.variable): site for site in targets_lib.variable_sites(model)}
    found = defaultdict(set)
    for key, labels in dyes.axes.items():
        for dye in np.unique(labels).tolist():
            found[dye].add(key)
    found.pop(0, None)
    together = defaultdict(list)
    for dye, keys in found.items():
        together[frozenset(keys), dyes.why(dye)].append(dye)
    groups = [
        _group(dyes, sites, sorted(keys), reason, np.array(sorted(members)))
        for (keys, reason), members in together.items()
    ]
    groups = sorted((g for g in groups if g is not None), key=lambda group: group[0].members[0])
    used = Counter(group.path for group, _ in groups)
    return [
        group._replace(path=f"{group.path}[{axis}]") if used[group.path] > 1 else group
        for group, axis in groups
    ]


def _group(dyes, sites, keys, reason, members):
    made = [key for key in keys if key in dyes.made and key not in dyes.sums]
    # Weights that code of its own computes with.
    shown = [key for key in keys if key in dyes.shown and key not in dyes.sums]
    made = made or [key for key in shown if len(dyes.variables[key[0]].shape) > 1] or shown
    made = made or [key for key in keys if key in dyes.made or key in dyes.shown]
    read = [key for key in keys if key in dyes.sums]
    if reason and len(read) == len(keys):
        # What no channel arrives at.
        return None
    tied = [key for key in keys if key not in made and key not in read]
    if not made:
        return None

    def paths(keys):
        known = [sites[id(dyes.variables[variable])] for variable, _ in keys]
        return list(dict.fromkeys(site.path for site in known))

    layers = [sites[id(dyes.variables[variable])].layer for variable, _ in made]
    group = Group(
        paths(made)[0],
        len(members),
        paths(made),
        paths(read),
        paths(tied),
        dyes.inexact.isdisjoint(members.tolist()),
        reason,
        members,
        layers,
    )
    return group, made[0][1]
