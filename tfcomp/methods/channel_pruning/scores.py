"""What channels are worth, without looking at how well others could make up for them.

Magnitude: Hao Li et al., "Pruning Filters for Efficient ConvNets", arXiv:1608.08710. Scales of
batch norms: Zhuang Liu et al., "Learning Efficient Convolutional Networks through Network
Slimming", arXiv:1708.06519. Taylor: Pavlo Molchanov et al., "Importance Estimation for Neural
Network Pruning", arXiv:1906.10771.
"""

import numpy as np

from tfcomp.model.choice import Unsuited
from tfcomp.model.final_weights import FinalWeights


def by_channel(dyes, key, array):
    """Sums of an array like a variable over everything but the channels of one axis.

    Args:
        dyes: `Dyes`.
        key: `(variable, axis)`.
        array: NumPy array of the variable's shape.

    Returns:
        Array with one sum for each dye.
    """
    variable, axis = key
    labels = dyes.labels(key)
    if variable in dyes.grouped and axis == array.ndim - 2:
        array = array.reshape(*array.shape[:-1], len(labels), -1)
        sums = array.sum((*range(array.ndim - 3), -1)).T
    else:
        sums = np.moveaxis(array, axis, -1).reshape(-1, array.shape[axis]).sum(0)
    return np.bincount(labels.ravel(), weights=sums.ravel(), minlength=len(dyes.parent))


def keys_of(dyes, group):
    """The axes that make the channels of a group, and those that read them.

    Args:
        dyes: `Dyes`.
        group: `Group`.
    """
    members = group.members
    keys = [key for key in dyes.axes if np.isin(members, dyes.labels(key)).any()]
    read = [key for key in keys if key in dyes.sums]
    made = [key for key in keys if key in dyes.made and key not in dyes.sums]
    return made or [key for key in keys if key not in dyes.sums] or keys, read


class Values:
    """The weights of a model as inference uses them, by their place in `Dyes.variables`."""

    def __init__(self, model, dyes):
        self._final, self._dyes, self._known = FinalWeights(model), dyes, {}

    def __getitem__(self, number):
        if number not in self._known:
            value = self._final.value(self._dyes.variables[number])
            self._known[number] = value.astype(np.float64)
        return self._known[number]


def magnitude(dyes, group, values):
    """Mean squared weight of the kernels that make a channel, relative to the group's."""
    total = np.zeros(group.channels)
    for key in keys_of(dyes, group)[0]:
        squares = by_channel(dyes, key, values[key[0]] ** 2)[group.members]
        total += squares / (squares.mean() or 1.0)
    return total


def bn_scale(dyes, group, values):
    """Absolute scales of the batch norms on the channels of a group.

    Raises:
        Unsuited: If there is none.
    """
    found = [
        key
        for key in dyes.axes
        if dyes.variables[key[0]].name == "gamma" and np.isin(group.members, dyes.labels(key)).any()
    ]
    if not found:
        raise Unsuited("no norm with a scale follows it")
    return sum(by_channel(dyes, key, np.abs(values[key[0]]))[group.members] for key in found)


def is_dead(dyes, group, values):
    """Which channels of a group change nothing: all that is multiplied by them is zero."""
    _, read = keys_of(dyes, group)
    used = sum(by_channel(dyes, key, np.abs(values[key[0]]))[group.members] for key in read)
    return np.asarray(used == 0) & bool(read) & group.exact
