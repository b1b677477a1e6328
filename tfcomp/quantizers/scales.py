"""Which axes a scale is taken over."""

from keras import ops


def other_axes(inputs, axis):
    """The axes of `inputs` that are not in `axis`, in order; all of them where that is `None`."""
    rank = len(ops.shape(inputs))
    kept = {a % rank for a in axis or ()}
    return tuple(a for a in range(rank) if a not in kept)
