"""Which axes a scale is taken over."""

from keras import ops

from tfcomp.validation import check_integer


def as_axes(axis):
    """An argument `axis` as a tuple, or `None`.

    Raises:
        ValueError: If it is no axis and no sequence of axes.
    """
    if axis is None:
        return None
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(check_integer("axis", a) for a in axes)


def other_axes(inputs, axis):
    """The axes of `inputs` that are not in `axis`, in order; all of them where that is `None`."""
    rank = len(ops.shape(inputs))
    kept = {a % rank for a in axis or ()}
    return tuple(a for a in range(rank) if a not in kept)
