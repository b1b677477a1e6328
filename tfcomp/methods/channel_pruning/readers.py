"""The layers that read the channels of a group, and what the data say of them."""

import contextlib

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core.step import Projected
from tfcomp.methods.channel_pruning.normal_equations import NormalEquations
from tfcomp.methods.channel_pruning.scores import keys_of
from tfcomp.model.choice import Unsuited, why_not_plain
from tfcomp.model.linear import linear_map
from tfcomp.model.watching import watching

# Inputs of a layer beyond which the inverse of their products takes minutes and gigabytes.
_MOST_INPUTS = 12_000


class Reader:
    """One weight that sums over channels.

    Args:
        dyes: `Dyes` of the model.
        number: Place of the weight in `dyes.variables`.
        site: Its `tfcomp.targets.Site`.
        sites: The `tfcomp.targets.layer_sites` of the model.

    Raises:
        Unsuited: If its layer is not known to be a linear map, or the weight cannot be changed.
    """

    def __init__(self, dyes, number, site, sites):
        self.dyes, self.number, self.path = dyes, number, site.path
        self.variable = dyes.variables[number]
        target = targets_lib.Target(site.path, self.variable, site.layer, {})
        reason = why_not_plain(site.layer)
        if targets_lib.weight_quantizers(site.layer):
            reason = "its layer quantizes it"
        if isinstance(self.variable.constraint, Projected):
            reason = "a callback keeps it compressed"
        if reason:
            raise Unsuited(reason)
        self.linear = linear_map(target, sites)
        inputs = self.matrices().shape[1]
        if inputs > _MOST_INPUTS:
            raise Unsuited(f"it has {inputs} inputs, more than {_MOST_INPUTS}")

    def matrices(self):
        """The weight as `(groups, inputs, outputs)`."""
        value = keras.ops.convert_to_numpy(self.variable.value)
        return self.linear.matrices(value.astype(np.float64))

    def value(self):
        """A copy of the weight as it is."""
        return np.array(keras.ops.convert_to_numpy(self.variable.value))

    def assign(self, matrices):
        """Sets the weight."""
        self.variable.assign(self.linear.assemble(matrices).astype(self.variable.dtype))

    def labels(self, axis):
        """The dye of each input: `(groups, inputs)`."""
        labels, shape = self.dyes.labels((self.number, axis)), tuple(self.variable.shape)
        if labels.ndim == 2:
            columns = shape[-1] // len(labels)
            array = np.repeat(labels.T, columns, axis=1)
            array = np.broadcast_to(array, shape)
        else:
            aligned = [1] * len(shape)
            aligned[axis] = len(labels)
            array = np.broadcast_to(labels.reshape(aligned), shape)
        return self.linear.matrices(array)[..., 0]


def readers_of(model, dyes, group):
    """The readers of a group.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        group: A `Group`.

    Returns:
        List of pairs of a `Reader` and the axis along which the channels lie, and list of pairs of
        a path and the reason why it is none.
    """
    sites = {id(site.variable): site for site in targets_lib.variable_sites(model)}
    layers = targets_lib.layer_sites(model)
    found, left = [], []
    for number, axis in keys_of(dyes, group)[1]:
        site = sites[id(dyes.variables[number])]
        try:
            found.append((Reader(dyes, number, site, layers), axis))
        except Unsuited as reason:
            left.append((site.path, str(reason)))
    return found, left


class Watch:
    """Runs a model over data and takes samples of what readers are given.

    Args:
        model: The model.
        batches: `Batches`.
        positions: How many positions of each image or sequence are looked at.
        seed: Seed of their choice.
    """

    def __init__(self, model, batches, positions, seed):
        self.model, self.batches = model, batches
        self.positions, self.seed = positions, seed

    def run(self, readers, see):
        """Calls `see(reader, samples)`, where samples are `(groups, samples, inputs)`.

        The same positions are taken every time, whatever the weights are.
        """
        with contextlib.ExitStack() as stack:
            for number, reader in enumerate(readers):
                rng = np.random.default_rng((self.seed, number))
                stack.enter_context(watching(reader.linear.layer, self._seen(reader, rng, see)))
            for x in self.batches:
                self.model(x, training=False)

    def _seen(self, reader, rng, see):
        def choose(images, number):
            return np.sort(rng.permutation(number)[: images * self.positions])

        def seen(args, kwargs):
            reader.linear.choose = choose
            for samples in reader.linear.samples(args, kwargs):
                see(reader, samples.astype(np.float64))

        return seen


def normal_equations(watch, readers, group, restore, damping):
    """The least-squares problems of the readers of a group.

    Args:
        watch: `Watch`.
        readers: List of pairs of `Reader` and axis.
        group: The `Group`.
        restore: Context manager in which the model has its own weights.
        damping: See `NormalEquations`.

    Returns:
        Dict from each reader to a list of `NormalEquations`, one for each of its groups.
    """
    only, wanted = [reader for reader, _ in readers], {}

    with restore():
        weights = {id(reader): reader.matrices() for reader in only}

        def remember(reader, samples):
            wanted.setdefault(id(reader), []).append(samples @ weights[id(reader)])

        watch.run(only, remember)
    sums, turns = {}, {id(reader): iter(wanted[id(reader)]) for reader in only}

    def add(reader, samples):
        outputs, turned = next(turns[id(reader)]), samples.swapaxes(1, 2)
        parts = [turned @ samples, turned @ outputs, np.sum(outputs**2, axis=(1, 2))]
        known = sums.setdefault(id(reader), [0, 0, 0])
        sums[id(reader)] = [a + b for a, b in zip(known, parts)]

    watch.run(only, add)
    return {
        reader: _problems(reader, axis, group, sums[id(reader)], damping)
        for reader, axis in readers
    }


def _problems(reader, axis, group, sums, damping):
    places = {int(dye): place for place, dye in enumerate(group.members)}
    labels = reader.labels(axis)
    owners = np.array([[places.get(int(dye), -1) for dye in row] for row in labels])
    found = []
    for gram, moment, power, weight, row in zip(*sums, reader.matrices(), owners):
        if not np.isfinite(gram).all():
            raise ValueError(f"The inputs of {reader.path} contain NaN or infinity on `data`.")
        # Channels that are gone have weights of zero.
        alive = weight.any(axis=1)
        found.append(NormalEquations(gram, moment, float(power), weight, row, alive, damping))
    return found
