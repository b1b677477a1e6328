"""Which part of each group of channels is to be kept."""

from typing import Any, NamedTuple

import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.model.budget import multiplications
from tfcomp.model.result import LeftOut
from tfcomp.surgery.channels.configs import Sizes, attention_part
from tfcomp.surgery.channels.cut import first_removed
from tfcomp.validation import check_number, invalid

# Halvings of the range that a ratio lies in.
_STEPS = 24


class Share(NamedTuple):
    """A group that is to become smaller.

    Attributes:
        group: The `Group`.
        ratio: Part of its channels that goes, or `None` where a budget decides.
    """

    group: Any
    ratio: float | None


def choose_groups(channels, ratio, targets, spares=True):
    """Chooses the groups that `targets` covers and that can become smaller.

    Args:
        channels: `Channels` of a model.
        ratio: Part that goes, or `None`.
        targets: In any form `tfcomp.targets.find_layers` takes.
        spares: Whether a layer that a dict of targets does not cover spares what is tied to it.

    Returns:
        List of `Share`, and list of `LeftOut`.

    Raises:
        ValueError: If a layer that `targets` names cannot become smaller, or if layers that are
            tied are to be pruned to different ratios.
    """
    makers = {id(layer) for group in channels for layer in group.layers}
    found = targets_lib.find_layers(channels.model, targets, lambda layer: id(layer) in makers)
    covered = {id(target.layer): target for target in found}
    shares, left = [], []
    for target in found:
        if set(target.options) - {"ratio"}:
            raise invalid("targets", target.options, f"'ratio' alone for {target.path}")
        if "ratio" in target.options:
            check_number("ratio", target.options["ratio"], 0, below=1)
    for group in channels:
        own = [covered[id(layer)] for layer in group.layers if id(layer) in covered]
        named = any(target.named for target in own)
        reason = group.reason or _why_not(group, own, covered, spares and isinstance(targets, dict))
        if reason and named:
            raise invalid("targets", targets, f"layers that can be pruned ({group.path}: {reason})")
        if reason:
            left.append(LeftOut(group.path, reason))
        else:
            shares.append(Share(group, _ratio_of(group, own, ratio)))
    return shares, left


def _why_not(group, own, covered, spares):
    if not own:
        return "`targets` leaves it out"
    others = [layer.name for layer in group.layers if id(layer) not in covered]
    if others and spares:
        return f"it is tied to {others[0]!r}, which `targets` leaves out"
    return None


def _ratio_of(group, own, ratio):
    ratios = {target.options["ratio"] for target in own if "ratio" in target.options}
    if len(ratios) > 1:
        expected = f"one ratio for the layers of {group.path}, which are tied: {group.made_by}"
        raise invalid("targets", sorted(ratios), expected)
    return ratios.pop() if ratios else ratio


def check_not_emptied(shares):
    """Raises where nothing would be left of a group."""
    for group, ratio in shares:
        if ratio is not None and group.channels * (1 - ratio) < 0.5:
            expected = f"a number that leaves some of the {group.channels} channels of {group.path}"
            raise invalid("ratio", ratio, expected)


def parts_of(dyes, signatures, shares, ratio):
    """Dict from signature to the part that is kept.

    Args:
        dyes: Ignored but for its length.
        signatures: Dict from signature to channels.
        shares: List of `Share`.
        ratio: For those that have none of their own.
    """
    kept = np.ones(len(dyes.parent))
    for group, own in shares:
        kept[group.members] = 1 - (ratio if own is None else own)
    return {signature: float(kept[members[0]]) for signature, members in signatures.items()}


class Cost:
    """What a model costs with some numbers of channels.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        kind: `"macs"` or `"params"`.
    """

    def __init__(self, model, dyes, kind):
        self.dyes, self.kind = dyes, kind
        if kind == "params":
            self._terms = [
                (None, variable, np.prod(variable.shape)) for variable in _weights(model)
            ]
        else:
            self._terms = multiplications(model)

    def of(self, counts):
        """What it costs; products of activations are known of attentions alone, others stay."""
        sizes = Sizes(self.dyes, first_removed(self.dyes, counts))
        return sum(
            number * self._part(sizes, layer, variable) for layer, variable, number in self._terms
        )

    def _part(self, sizes, layer, variable):
        if variable is not None:
            return float(np.prod(sizes.shape(variable)) / max(np.prod(variable.shape), 1))
        return attention_part(sizes, layer)


def _weights(model):
    return [site.variable for site in targets_lib.variable_sites(model)]


def measured(model, kind):
    """What a model costs: its weights, or the multiply-accumulate operations for one sample."""
    if kind == "params":
        return sum(int(np.prod(variable.shape)) for variable in _weights(model))
    return sum(number for *_, number in multiplications(model))


def ratio_for(budget, cost, count):
    """The smallest ratio with which a model costs no more than a budget.

    Args:
        budget: The number.
        cost: `Cost`.
        count: Function from a ratio to numbers of channels.

    Returns:
        The ratio; 1 where there is none.
    """
    low, high = 0.0, 1.0
    if cost.of(count(low)) <= budget:
        return low
    if cost.of(count(high)) > budget:
        return high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if cost.of(count(middle)) <= budget else (middle, high)
    return high
