"""Channels out of a trained model in one call.

Yihui He, Xiangyu Zhang, Jian Sun, "Channel Pruning for Accelerating Very Deep Neural Networks",
arXiv:1707.06168.
"""

import contextlib
import warnings
from typing import NamedTuple

import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.methods.channel_pruning import scores
from tfcomp.methods.channel_pruning.normal_equations import Quotas
from tfcomp.methods.channel_pruning.selection import FITTED, NAMES, Fitting, best, given_scores
from tfcomp.methods.channel_pruning.shares import (
    Cost,
    check_not_emptied,
    choose_groups,
    measured,
    parts_of,
    ratio_for,
)
from tfcomp.model.budget import budget_of
from tfcomp.model.data import Batches
from tfcomp.model.progress import Progress
from tfcomp.model.result import LeftOut, Result
from tfcomp.surgery.channels import channels as channels_of
from tfcomp.surgery.channels.counts import Counts
from tfcomp.surgery.channels.cut import cut, fitting
from tfcomp.surgery.channels.pair import cells
from tfcomp.surgery.channels.training_state import carry_optimizer, carry_projections
from tfcomp.surgery.recompile import compile_like
from tfcomp.validation import check_integer, check_number, check_verbose, invalid

# How near a budget of MACs is to be used up, and how often that is tried.
_NEAR, _TRIES = 0.98, 6


class PrunedGroup(NamedTuple):
    """What `prune_channels` did to one group of tied channels.

    Attributes:
        path: Path of the first weight that makes them.
        before: How many there were.
        after: How many there are.
        score: What they were chosen by.
        error: `|Y - Y'|**2 / |Y|**2` of what the layers that read them compute, before their biases
            and activations, over `data`, in the model as it is pruned so far; `None` where no data
            were looked at.
        made_by: Paths of all weights that make them.
    """

    path: str
    before: int
    after: int
    score: str
    error: float | None
    made_by: list

    @property
    def shown_error(self):
        """The error as the table has it."""
        return "" if self.error is None else f"{self.error:.3%}"


_COLUMNS = {
    "Channels made by": "{0.path}",
    "Before": "{0.before}",
    "After": "{0.after}",
    "Chosen by": "{0.score}",
    "Error": "{0.shown_error}",
}


def prune_channels(
    model,
    ratio=None,
    data=None,
    targets=None,
    *,
    macs=None,
    params=None,
    score=None,
    reconstruct=None,
    round_to=1,
    unknown="keep",
    positions=10,
    damping=0.001,
    keep_optimizer=False,
    seed=0,
    batch_size=32,
    verbose=1,
):
    """Returns a smaller model: whole channels, units and heads are taken out of all layers.

    Makes a new model; `model` is not changed.

    Channels that are tied, by residuals, depthwise convolutions, norms or gates, go together;
    `tfcomp.channels` lists them. The new model has the names of layers, inputs and outputs of the
    old one, is compiled as that is, and is made of Keras's layers alone: what a subclassed model or
    block connects by its own code becomes a functional model, which is saved and loaded without the
    class. Layers within a block that became one have paths without the block's name.

    With `data` the channels of one group after another, in the order in which the model reads them,
    are chosen so that the layers that read them compute what they did in the whole model, as nearly
    as they can when their weights are refitted by least squares. A few hundred samples of training
    data are enough; labels are not used. Without `ratio`, `macs` and `params` only channels are
    removed that change nothing, because all weights on them are zero, such as those that
    `tfcomp.callbacks.ChannelPruning` has masked; outputs stay as they are.

    Args:
        model: A built `keras.Model` of any kind.
        ratio: Part of the channels of each group that goes, in [0, 1); or a dict from rule, as
            `targets` takes them, to such numbers, for those layers alone. A group keeps at least
            two channels.
        data: Inputs of the model: an array, a tuple `(x, y)`, a dict, a `tf.data.Dataset`, ...
        targets: The layers whose channels go, in any form `tfcomp.targets.find` takes but for
            variables; overrides of `ratio` in a dict. `None` for all. What is tied to a layer goes
            with it.
        macs: In place of `ratio`: multiply-accumulate operations of the new model for one sample at
            most, a part of those there are (a float up to 1) or a number. All groups are pruned to
            one ratio, those excepted that have their own in `targets`.
        params: The same for the number of weights.
        score: What the channels are chosen by.
            `"least_squares"`, the default with data: the channels go one by one whose removal costs
                least when all others are refitted, optimal brain surgeon for blocks of weights;
            `"lasso"`: He et al.'s, the path of the lasso on one scale for each channel;
            `"magnitude"`, the default without: the squared weights that make a channel;
            `"taylor"`: the squared change of the loss to first order; needs targets and a compiled
                model;
            `"bn_scale"`: the scale of the batch norm behind it; groups without one are left out;
            a function of a row of `tfcomp.channels(model)` that returns one number for each of its
                channels; the largest are kept.
        reconstruct: Whether the weights that read channels are refitted; `None` if there are data.
        round_to: What the number of channels that a group keeps is a multiple of.
        unknown: `"keep"` to keep channels that flow into what is not understood, or that a layer
            cannot be without, with one warning; `"error"` to raise.
        positions: How many positions of each image or sequence least squares looks at in a layer.
        damping: How strongly refitted weights are held near what they were, as a fraction of the
            mean squared input.
        keep_optimizer: Whether the new model's optimizer has the moments and counters of the old
            one's, for its weights; else it begins afresh.
        seed: Seed of the choice of positions.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each group.

    Returns:
        A `tfcomp.Result`: the new `model`, `rows` of `PrunedGroup`, and what was `left_out`, and
        why.

    Raises:
        ValueError: For an argument that cannot be used: a ratio that empties a layer, a budget that
            cannot be met, a layer named in `targets` whose channels have to stay. The message names
            the layer.

    Reference:
        Yihui He, Xiangyu Zhang, Jian Sun, "Channel Pruning for Accelerating Very Deep Neural
        Networks", arXiv:1707.06168; Hao Li et al., "Pruning Filters for Efficient ConvNets",
        arXiv:1608.08710; Zhuang Liu et al., "Learning Efficient Convolutional Networks through
        Network Slimming", arXiv:1708.06519; Pavlo Molchanov et al., "Importance Estimation for
        Neural Network Pruning", arXiv:1906.10771.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 3)),
    ...         keras.layers.Conv2D(16, 3, activation="relu", name="conv"),
    ...         keras.layers.Conv2D(8, 3, activation="relu", name="conv2"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, name="out"),
    ...     ]
    ... )
    >>> x = np.random.default_rng(0).normal(size=(64, 8, 8, 3))
    >>> small = tfcomp.prune_channels(model, 0.5, x, verbose=0).model
    >>> [tuple(layer.kernel.shape) for layer in small.layers if layer.weights]
    [(3, 3, 3, 8), (3, 3, 8, 4), (64, 10)]
    """
    verbose = check_verbose(verbose)
    amounts = {"ratio": ratio, "macs": macs, "params": params}
    given = [name for name, amount in amounts.items() if amount is not None]
    if len(given) > 1:
        raise invalid(given[1], amounts[given[1]], f"None together with `{given[0]}`")
    alone = isinstance(ratio, dict)
    if alone:
        if targets is not None or not ratio:
            raise invalid("ratio", ratio, "a number together with `targets`, or a dict with rules")
        targets, ratio = {...: None, **{rule: {"ratio": r} for rule, r in ratio.items()}}, 0.0
    elif ratio is not None:
        check_number("ratio", ratio, 0, below=1)
    score = _checked_score(score, data, given)
    reconstruct = _checked_reconstruct(reconstruct, data, given)
    if unknown not in ("keep", "error"):
        raise invalid("unknown", unknown, "'keep' or 'error'")
    round_to = check_integer("round_to", round_to, 1)
    positions = check_integer("positions", positions, 1)
    check_number("damping", damping, 0)
    targets_lib.check_built(model)
    if keep_optimizer and not getattr(model, "compiled", False):
        raise invalid("keep_optimizer", True, "False, or a compiled model")

    batches = None if data is None else Batches(model, data, batch_size)
    if batches is not None:
        batches.first()
        if score == "taylor" and batches.keywords().get("y", batches) is None:
            raise invalid("data", None, "data with targets for score='taylor'")

    found = channels_of(model)
    if found.dyes.opaque and unknown == "error":
        raise ValueError(f"Channels flow into what is not understood: {found.dyes.opaque[0]}.")
    shares, left_out = choose_groups(found, ratio, targets, spares=not alone)
    check_not_emptied(shares)
    job = _Job(found, shares, left_out, score, batches)
    if not given:
        job.keep_alive()
    job.fit_counts(given[0] if given else None, amounts, ratio, round_to, unknown)
    fitted = (score in FITTED or reconstruct) and bool(job.shares)
    work = Fitting(model, found.dyes, batches, positions, damping, seed) if fitted else None
    small, rows = job.prune(work, reconstruct, Progress(len(job.shares), verbose, "group"))
    if getattr(model, "compiled", False):
        compile_like(model, small)
        carry_projections(model, small, job.carried)
        if keep_optimizer:
            carry_optimizer(model, small, job.carried)
    job.warn()
    if verbose == 1 or verbose == 2:
        Progress(None, verbose).left_out(job.left_out)
    return Result(small, rows, job.left_out, f"Channels of {small.name}", _COLUMNS)


def _checked_score(score, data, given):
    if not given:
        if score is not None or data is not None:
            raise invalid("ratio", None, "a number, or `macs` or `params`, with `score` or `data`")
        return "zero"
    if score is None:
        return "magnitude" if data is None else "least_squares"
    if not callable(score) and score not in NAMES:
        raise invalid("score", score, f"one of {list(NAMES)} or a function of a group")
    if data is None and (score in FITTED or score == "taylor"):
        raise invalid("data", None, f"data for score={score!r}")
    return score


def _checked_reconstruct(reconstruct, data, given):
    if reconstruct is None:
        return data is not None and bool(given)
    if reconstruct not in (True, False):
        raise invalid("reconstruct", reconstruct, "True, False or None")
    if reconstruct and data is None:
        raise invalid("data", None, "data together with reconstruct=True")
    return reconstruct


class _Job:
    """One model, and what of it is to go."""

    def __init__(self, found, shares, left_out, score, batches):
        self.model, self.dyes = found.model, found.dyes
        self.shares, self.left_out, self.score = shares, left_out, score
        self.signatures = cells(self.dyes)
        self.counter = Counts(self.dyes, self.signatures)
        self.given, self.carried, self.whole = {}, {}, {}
        if score not in FITTED and score != "zero":
            groups = [share.group for share in shares]
            self.given, left = given_scores(self.model, self.dyes, groups, score, batches)
            self._leave(left)

    def _leave(self, reasons):
        """Keeps groups whole, for reasons by their paths."""
        kept = [share for share in self.shares if share.group.path not in reasons]
        self.left_out += [LeftOut(path, reason) for path, reason in reasons.items()]
        self.shares = kept

    def keep_alive(self):
        """Lets only channels go that change nothing."""
        values = scores.Values(self.model, self.dyes)
        for share in self.shares:
            dead = scores.is_dead(self.dyes, share.group, values)
            self.given[share.group.path] = (~dead).astype(float)
        none = {path: "none is zero" for path, alive in self.given.items() if alive.all()}
        self._leave(none)

    # ---- how many

    def fit_counts(self, kind, amounts, ratio, round_to, unknown):
        """Finds the numbers of channels, and the layers that can have them."""
        if kind in ("macs", "params"):
            self._fit_budget(kind, amounts[kind], round_to, unknown)
        else:
            self._fit(lambda stay: self._counts(stay, ratio, round_to), unknown)

    def _fit(self, count, unknown):
        fitted = fitting(self.model, self.dyes, count, unknown)
        self.counts, self.whole, self.builder, self.small = fitted

    def _counts(self, stay, ratio, round_to):
        whole = {s for s, members in self.signatures.items() if not stay.isdisjoint(members)}
        if self.score == "zero":
            return self.counter.kept(self._alive(), whole, at_least=True)
        parts = parts_of(self.dyes, self.signatures, self.shares, ratio)
        return self.counter.kept(parts, whole, round_to)

    def _alive(self):
        alive = np.ones(len(self.dyes.parent))
        for share in self.shares:
            alive[share.group.members] = self.given[share.group.path]
        return {s: float(alive[members].mean()) for s, members in self.signatures.items()}

    def _fit_budget(self, kind, amount, round_to, unknown):
        """The largest model within a budget; what is multiplied by what is only known of it."""
        cost = Cost(self.model, self.dyes, kind)
        budget = budget_of(kind, amount, measured(self.model, kind))
        aim, best_yet = budget, None
        for _ in range(_TRIES if kind == "macs" else 1):
            self._fit(lambda stay, aim=aim: self._within(stay, aim, cost, round_to), unknown)
            now = measured(self.small, kind)
            if now <= budget and (best_yet is None or now > best_yet[0]):
                best_yet = now, (self.counts, self.whole, self.builder, self.small)
            if _NEAR * budget <= now <= budget:
                break
            aim *= budget / now
        if best_yet is None:
            expected = f"a budget that can be met: what is left of the model has {now:,.0f}"
            raise invalid(kind, amount, expected)
        self.counts, self.whole, self.builder, self.small = best_yet[1]

    def _within(self, stay, budget, cost, round_to):
        def count(ratio):
            return self._counts(stay, ratio, round_to)

        return count(ratio_for(budget, cost, count))

    # ---- which

    def prune(self, work, reconstruct, progress):
        """Chooses channels and cuts them out; returns the small model and the rows."""
        removed, rows = np.zeros(len(self.dyes.parent), bool), []
        groups = [share.group for share in self.shares]
        with work.restored() if work else contextlib.nullcontext():
            for group in work.in_order(groups) if work else groups:
                kept, row = self._choose(group, work, reconstruct)
                removed[group.members[~kept]] = True
                rows.append(row)
                progress.step()
                progress.line(f"{row.path}: {row.after} of {row.before} channels kept")
            small, self.carried = cut(self.model, self.dyes, removed, (self.builder, self.small))
        return small, self._told(rows)

    def _choose(self, group, work, reconstruct):
        cell, kept = self._quota(group)
        score = self.given.get(group.path)
        name = self.score if isinstance(self.score, str) else getattr(self.score, "__name__", "own")
        choice = None if score is None else best(group.channels, score, cell, kept)
        error, left = None, []
        if work is not None:
            choose = FITTED[self.score] if choice is None else choice
            choice, error, left = work.fit(group, Quotas(cell, kept), choose, reconstruct)
        if choice is None:
            # Such as those inside an attention, which no weight reads.
            values, name = scores.Values(self.model, self.dyes), "magnitude"
            magnitude = scores.magnitude(self.dyes, group, values)
            choice = best(group.channels, magnitude, cell, kept)
        self.left_out += [LeftOut(path, f"not refitted: {reason}") for path, reason in left]
        after = int(choice.sum())
        return choice, PrunedGroup(group.path, len(choice), after, name, error, group.made_by)

    def _quota(self, group):
        """The cell of each channel of a group, and how many of each are kept."""
        places = {dye: place for place, dye in enumerate(group.members.tolist())}
        cell, kept = np.zeros(group.channels, int), []
        for signature, members in self.signatures.items():
            if members[0] in places:
                cell[[places[dye] for dye in members]] = len(kept)
                kept.append(self.counts[signature])
        return cell, np.array(kept)

    def _told(self, rows):
        """Rows of what became smaller; what could not is left out, with the reason."""
        members = {share.group.path: share.group.members for share in self.shares}
        told = []
        for row in rows:
            reasons = [self.whole[d] for d in members[row.path].tolist() if d in self.whole]
            if reasons and row.after == row.before:
                self.left_out.append(LeftOut(row.path, reasons[0]))
            else:
                told.append(row)
        return told

    def warn(self):
        """One warning of what was kept because it is not understood."""
        reasons = [f"{what} is not understood" for what in self.dyes.opaque]
        reasons += list(dict.fromkeys(self.whole.values()))
        if reasons:
            more = f"; and {len(reasons) - 3} more" if len(reasons) > 3 else ""
            warnings.warn(
                f"`prune_channels` keeps some channels whole: {'; '.join(reasons[:3])}{more}.",
                stacklevel=3,
            )
