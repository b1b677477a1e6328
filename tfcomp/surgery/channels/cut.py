"""Channels out of a model."""

import numpy as np

from tfcomp.surgery.channels.build import Builder, Inexpressible
from tfcomp.surgery.channels.pair import carry, cells, traced_like

# How often other numbers of channels are tried.
_ROUNDS = 30


def fitting(model, dyes, counter, count, unknown):
    """Finds numbers of channels that the layers of a model can have.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        counter: Its `Counts`, which are told what it cannot have.
        count: Function from the set of dyes that are to stay to a dict from signature to how many
            of its channels are kept.
        unknown: `"keep"` or `"error"`: what to do where a layer cannot have them.

    Returns:
        The dict, dict from each dye that has to stay to the reason, the `Builder`, and its model.
    """
    whole, every, rounds = {}, cells(dyes), 0
    while True:
        counts = count(set(whole))
        builder = Builder(model, dyes, first_removed(dyes, counts, every))
        try:
            small = builder.build()
        except Inexpressible as error:
            _keep(error, whole, unknown)
            continue
        few = {signature: len(own) for signature, own in cells(traced_like(builder, small)).items()}
        # Which of two cells one has more of, where a number is odd, is up to the model.
        wrong = [s for s, number in few.items() if number > len(every.get(s, ()))]
        wrong = wrong or counter.emptied(few)
        if not wrong:
            break
        path = dyes.variables[wrong[0][0][0][0]].path
        around = {dye for signature in counter.around(wrong) for dye in every[signature]}
        if around <= set(whole):
            raise ValueError(
                f"With fewer channels {small.name!r} mixes others than it did before, "
                f"those of {path}."
            )
        if rounds < _ROUNDS:
            counter.exclude(wrong, counts)
            rounds += 1
        else:
            reason = (
                f"{path!r} keeps all its channels: no number near to what was asked suits what is "
                "around it"
            )
            if unknown == "error":
                raise ValueError(f"Layer {reason}")
            whole.update(dict.fromkeys(around, reason))
    stuck = counter.stuck(counts)
    if stuck and unknown == "error":
        raise ValueError(f"Layer {next(iter(stuck.values()))}")
    for signature, reason in stuck.items():
        whole.update(dict.fromkeys(every[signature], reason))
    return {signature: few.get(signature, 0) for signature in every}, whole, builder, small


def _keep(error, whole, unknown):
    """Notes which channels a layer cannot be without; raises where there are none, or so asked."""
    others = ([d for d in each.tolist() if d not in whole] for each in error.suspects)
    new = next(filter(None, others), None)
    reason = f"{error.name!r} cannot be made smaller: {error.why}"
    if unknown == "error" or not new:
        raise ValueError(f"Layer {reason}") from error
    whole.update(dict.fromkeys(new, reason))


def first_removed(dyes, counts, known=None):
    """Boolean array, whether a dye goes, where the first of each cell are kept.

    Args:
        dyes: The `Dyes` of a model.
        counts: Dict from signature to how many are kept.
        known: What `cells` returns of them, where it has been called before.
    """
    removed = np.zeros(len(dyes.parent), bool)
    for signature, members in (cells(dyes) if known is None else known).items():
        removed[members[counts[signature] :]] = True
    return removed


def cut(model, dyes, removed, known=None):
    """Makes the model without some of its channels.

    Args:
        model: The model, which is not changed.
        dyes: Its `Dyes`.
        removed: Boolean array, whether a dye goes.
        known: A `Builder` and its model for as many channels of each cell, or `None`.

    Returns:
        The small model, and what `carry` returns.

    Raises:
        ValueError: If a layer cannot become so small.
    """
    builder, small = (None, None) if known is None else known
    if builder is None or builder.positional:
        builder = Builder(model, dyes, removed)
        try:
            small = builder.build()
        except Inexpressible as error:
            raise ValueError(f"Layer {error.name!r} cannot be made smaller: {error.why}") from error
    builder.sizes.removed = removed
    return small, carry(builder, small)
