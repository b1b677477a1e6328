"""Channels out of a model."""

import numpy as np

from tfcomp.surgery.channels.build import Builder, Inexpressible
from tfcomp.surgery.channels.pair import carry, cells
from tfcomp.surgery.channels.trace import trace


def fitting(model, dyes, count, unknown):
    """Finds numbers of channels that the layers of a model can have.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        count: Function from the set of dyes that are to stay to a dict from signature to how many
            of its channels are kept.
        unknown: `"keep"` or `"error"`: what to do where a layer cannot have them.

    Returns:
        The dict, dict from each dye that has to stay to the reason, the `Builder`, and its model.
    """
    whole = {}
    while True:
        counts = count(set(whole))
        builder = Builder(model, dyes, first_removed(dyes, counts))
        try:
            small = builder.build()
            return counts_of(small, dyes), whole, builder, small
        except Inexpressible as error:
            others = ([d for d in each.tolist() if d not in whole] for each in error.suspects)
            new = next(filter(None, others), None)
            reason = f"{error.name!r} cannot be made smaller: {error.why}"
            if unknown == "error" or not new:
                raise ValueError(f"Layer {reason}") from error
            whole.update(dict.fromkeys(new, reason))


def counts_of(small, dyes):
    """How many channels of each cell a small model has.

    Which of two cells one has more of, where a number is odd, is up to the model.

    Args:
        small: The small model.
        dyes: The `Dyes` of the large one.

    Returns:
        Dict from signature to number.

    Raises:
        ValueError: If the two models do not have the same structure.
    """
    few, many = cells(trace(small, dyes.free_size)), cells(dyes)
    if set(few) - set(many) or any(len(few[s]) > len(many[s]) for s in few):
        raise ValueError(
            f"With so many channels {small.name!r} mixes others than it did before: its groups and "
            "shuffles do not fit them. Ask for another part of the channels, or round their "
            "numbers to a multiple of the groups."
        )
    return {signature: len(few.get(signature, ())) for signature in many}


def first_removed(dyes, counts):
    """Boolean array, whether a dye goes, where the first of each cell are kept."""
    removed = np.zeros(len(dyes.parent), bool)
    for signature, members in cells(dyes).items():
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
