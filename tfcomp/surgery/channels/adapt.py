"""Operations of a functional model whose arguments are numbers of channels."""

from tfcomp import keras_private
from tfcomp.surgery.channels.tensors import along, flat, is_symbolic


def _reshape(sizes, op, args, seen):
    output = seen[2]
    shape = zip(op.newshape, output.shape, sizes.tensor(output))
    return {"newshape": tuple(old if was == now else now for old, was, now in shape)}, args


def _split(sizes, op, args, seen):
    labels = along(seen[0][0], op.axis)
    if labels is None or isinstance(op.indices_or_sections, int):
        return {}, args
    kept = sizes.kept(labels)
    return {"indices_or_sections": [int(kept[:at].sum()) for at in op.indices_or_sections]}, args


def _get_item(sizes, op, args, seen):
    x, key = seen[0]
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        place = keys.index(Ellipsis)
        taken = sum(each is not None for each in keys) - 1
        keys[place : place + 1] = [slice(None)] * (len(x.shape) - taken)
    axis = 0
    for place, each in enumerate(keys):
        if each is None:
            continue
        labels = along(x, axis)
        if labels is not None and isinstance(each, slice):
            keys[place] = _slice(each, sizes.kept(labels))
        axis += 1
    return {}, (args[0], tuple(keys), *args[2:])


def _slice(old, kept):
    """A slice of what is kept that has what another has of all."""
    if old.start is None and old.stop is None:
        return old
    begin, stop, step = old.indices(len(kept))
    if step != 1:
        # Which those are in steps, no slice says.
        return old
    return slice(int(kept[:begin].sum()), int(kept[:stop].sum()), old.step)


_RULES = {"Reshape": _reshape, "Split": _split, "GetItem": _get_item}


def adapted(sizes, op, args):
    """An operation for tensors of other sizes.

    Args:
        sizes: The `Sizes`.
        op: An operation of a functional model.
        args: The arguments of its call.

    Returns:
        A copy of the operation, and the arguments.
    """
    seen, rule = sizes.dyes.seen.get(id(op)), _RULES.get(type(op).__name__)
    changes = {}
    if rule is not None and seen is not None and any(map(is_symbolic, flat(seen[2]))):
        changes, args = rule(sizes, op, args, seen)
    if not changes:
        return keras_private.without_nodes(op), args
    return type(op).from_config({**op.get_config(), **changes}), args
