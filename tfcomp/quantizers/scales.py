"""Which axes a scale is taken over."""

from keras import ops

from tfcomp.validation import invalid


def as_axes(axis):
    """An argument `axis` as a tuple, or `None`.

    Raises:
        ValueError: If it is no axis and no sequence of axes.
    """
    if axis is None:
        return None
    axes = (axis,) if isinstance(axis, int) else axis
    if not isinstance(axes, (tuple, list)) or not all(type(a) is int for a in axes):
        raise invalid("axis", axis, "an integer, a tuple of integers, or None")
    return tuple(axes)


def other_axes(inputs, axis):
    """The axes of `inputs` that are not in `axis`, in order; all of them where that is `None`."""
    rank = len(ops.shape(inputs))
    kept = {a % rank for a in axis or ()}
    return tuple(a for a in range(rank) if a not in kept)
