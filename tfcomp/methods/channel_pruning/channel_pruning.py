"""Channels masked while a model trains, more and more of them, for a cut afterwards.

Hao Li et al., "Pruning Filters for Efficient ConvNets", arXiv:1608.08710; on a schedule as in
Michael Zhu, Suyog Gupta, "To prune, or not to prune", arXiv:1710.01878.
"""

import numpy as np

from tfcomp import schedules
from tfcomp import targets as targets_lib
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.mask import Mask
from tfcomp.methods.channel_pruning import scores
from tfcomp.methods.channel_pruning.selection import best, given_scores
from tfcomp.methods.channel_pruning.shares import check_not_emptied, choose_groups, parts_of
from tfcomp.model.result import LeftOut
from tfcomp.surgery.channels import channels
from tfcomp.surgery.channels.counts import Counts
from tfcomp.surgery.channels.pair import cells
from tfcomp.validation import check_integer, invalid


class ChannelPruning(ProjectionCallback):
    """Masks whole channels, more and more of them while `fit` runs.

    At every point of the schedule the channels of least score of each group are masked in all
    variables of the group at once: the kernels that make them, biases, the scales and offsets of
    norms, and the kernels that read them. What was masked once stays so. After training
    `tfcomp.prune_channels(model)` takes out what is zero, and the outputs stay as they are.

    Groups whose channels a norm takes means over stay whole, since there the outputs would not stay
    as they are, and so do those that `tfcomp.channels` says stay; `left_out` lists them. `logs`
    gets `channels`, the part that is masked, at the end of an epoch.

    Args:
        schedule: `tfcomp.schedules.PolynomialDecay`, `ConstantSparsity` or `StepPortions`, of the
            part of the channels of each group.
        score: `"magnitude"`, `"bn_scale"`, or a function of a row of `tfcomp.channels(model)` that
            returns one number for each of its channels; the smallest go first.
        round_to: What the number of channels that a group keeps is a multiple of.
        targets: The layers whose channels go, in any form `tfcomp.targets.find` takes but for
            variables; `ratio` in a dict in place of the schedule's amounts is not taken. `None` for
            all.
        verbose: 1 to print a line at every update.
        optimizer: See `ProjectionCallback`.

    Attributes:
        left_out: List of `path` and `reason` of the groups that are kept whole.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not built
            and compiled, or no channel of it can go.

    Reference:
        Hao Li et al., "Pruning Filters for Efficient ConvNets", arXiv:1608.08710.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential(
    ...     [keras.Input((8,)), keras.layers.Dense(16, activation="relu"), keras.layers.Dense(4)]
    ... )
    >>> model.compile("sgd", "mse")
    >>> schedule = tfcomp.schedules.PolynomialDecay(0, 0.75, begin_step=0, end_step=4, frequency=1)
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.ChannelPruning(schedule)],
    ... )
    >>> small = tfcomp.prune_channels(model, verbose=0).model
    >>> small.layers[0].units
    4
    """

    measures = "channels"
    fleeting = (*ProjectionCallback.fleeting, "_found", "_shares", "_cells", "_counter")

    def __init__(
        self,
        schedule,
        score="magnitude",
        round_to=1,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, verbose=verbose, optimizer=optimizer)
        if not callable(score) and score not in ("magnitude", "bn_scale"):
            raise invalid("score", score, "'magnitude', 'bn_scale' or a function of a group")
        self.schedule, self.score = schedules.get_share(schedule), score
        self.round_to = check_integer("round_to", round_to, 1)
        self.left_out = []

    def _begin_life(self):
        super()._begin_life()
        self._found = self._shares = self._cells = self._counter = None

    def find_targets(self, model):
        """All variables of the groups that are to become smaller."""
        self._found = channels(model)
        shares, left = choose_groups(self._found, None, self.targets)
        inexact = [share.group for share in shares if not share.group.exact]
        left += [LeftOut(group.path, "a norm takes means over it") for group in inexact]
        shares = [share for share in shares if share.group.exact]
        if self.score == "bn_scale":
            groups = [share.group for share in shares]
            _, why = given_scores(model, self._found.dyes, groups, self.score)
            left += [LeftOut(*pair) for pair in why.items()]
            shares = [share for share in shares if share.group.path not in why]
        if not shares:
            reasons = "; ".join(f"{path}: {reason}" for path, reason in left)
            raise invalid("targets", self.targets, f"channels that can go ({reasons})")
        final = self.schedule.final_value
        check_not_emptied([share._replace(ratio=final) for share in shares])
        self._shares, self.left_out = shares, left
        self._cells = cells(self._found.dyes)
        self._counter = Counts(self._found.dyes, self._cells)
        return self._variables(model)

    def _variables(self, model):
        dyes = self._found.dyes
        members = np.concatenate([share.group.members for share in self._shares])
        numbers = {key[0] for key in dyes.axes if np.isin(dyes.labels(key), members).any()}
        wanted = {id(dyes.variables[number]) for number in numbers}
        return [
            targets_lib.Target(site.path, site.variable, site.layer, {})
            for site in targets_lib.variable_sites(model)
            if id(site.variable) in wanted
            # Statistics are no optimizer's.
            and (site.variable.trainable or targets_lib.is_kernel(site.variable))
        ]

    def make_projection(self, target):
        return Mask()

    def make_schedule(self, target, run):
        return self.schedule

    def compress(self, entries, amount):
        dyes, alive = self._found.dyes, self._alive()
        counts = self._counter.kept(
            parts_of(dyes, self._cells, self._shares, amount), round_to=self.round_to
        )
        groups = [share.group for share in self._shares]
        found, _ = given_scores(self.model, dyes, groups, self.score)
        kept = np.ones(len(dyes.parent), bool)
        for group in groups:
            before = alive[group.members]
            score = np.where(before, found[group.path], -np.inf)
            kept[group.members] = before & self._best(group, score, counts)
        places = {id(variable): number for number, variable in enumerate(dyes.variables)}
        for entry in entries:
            _, state = entry.read()
            mask = state["mask"] & self._mask(places[id(entry.variable)], kept)
            entry.write_state({"mask": mask})
            entry.project()

    def _best(self, group, score, counts):
        keep = np.zeros(group.channels, bool)
        places = {dye: place for place, dye in enumerate(group.members.tolist())}
        for signature, members in self._cells.items():
            if members[0] in places:
                own = np.array([places[dye] for dye in members])
                one = np.zeros(len(own), int)
                keep[own] = best(len(own), score[own], one, [counts[signature]])
        return keep

    def _mask(self, number, kept):
        """The mask of a variable: a weight is alive if no channel that it belongs to is gone."""
        dyes = self._found.dyes
        shape = tuple(dyes.variables[number].shape)
        mask = np.ones(shape, bool)
        for axis in range(len(shape)):
            if (number, axis) in dyes.axes:
                labels = dyes.labels((number, axis))
                alive = kept[labels]
                if labels.ndim == 2 and axis == len(shape) - 2:
                    mask &= np.repeat(alive.T, shape[-1] // len(labels), axis=1)
                else:
                    aligned = [1] * len(shape)
                    aligned[axis] = -1
                    mask &= alive.reshape(aligned)
        return mask

    def _alive(self):
        """Boolean array, which channels are not masked, as the masks say."""
        dyes = self._found.dyes
        alive = np.ones(len(dyes.parent), bool)
        masks = {id(entry.variable): entry.read()[1]["mask"] for entry in self._entries}
        for share in self._shares:
            members = share.group.members
            for key in scores.keys_of(dyes, share.group)[0][:1]:
                mask = masks[id(dyes.variables[key[0]])].astype(float)
                alive[members] = scores.by_channel(dyes, key, mask)[members] > 0
        return alive

    def report(self, entries=None):
        alive = self._alive()
        members = np.concatenate([share.group.members for share in self._shares])
        parts = {
            f"{self.measures}/{share.group.path}": 1 - float(alive[share.group.members].mean())
            for share in self._shares
        }
        return {self.measures: 1 - float(alive[members].mean()), **parts}
