"""Losses of models with several outputs."""

import keras

from tfcomp.validation import invalid


def by_output(argument, given, outputs, names=None):
    """Lists what belongs to each of a model's outputs.

    Args:
        argument: Name of the argument that it was given by, for error messages.
        given: A structure like that of the outputs, or a dict by name.
        outputs: The outputs of the model.
        names: Their names, where they are no dict.

    Returns:
        List as long as the outputs, in the order in which `keras.tree.flatten` has these; `None`
        for those that a dict leaves out.
    """
    paths = keras.tree.flatten_with_path(outputs)
    if isinstance(given, dict):
        names = [path[-1] for path, _ in paths] if isinstance(outputs, dict) else names or []
        unknown = sorted(set(given) - set(names))
        if unknown:
            raise invalid(argument, unknown, f"names of outputs, which are {list(names)}")
        return [given.get(name) for name in names]
    found = keras.tree.flatten(given)
    if len(found) != len(paths):
        raise invalid(argument, f"{len(found)} parts", f"one for each of {len(paths)} outputs")
    return found


class LossesOfOutputs:
    """Losses for several outputs, for a distiller, which adds them.

    Args:
        losses: A loss for all outputs, a structure of losses like that of the outputs, or a dict by
            name; `None` for no loss.
        names: Names of the outputs, where they are no dict.
    """

    def __init__(self, losses, names=None):
        self.losses, self.names = losses, names

    def matched(self, y, outputs):
        """The losses, and the labels, as structures like that of the outputs."""
        count = len(keras.tree.flatten(outputs))
        nested = keras.tree.is_nested(self.losses)
        losses = self.losses if nested else [self.losses] * count
        losses = by_output("loss", losses, outputs, self.names)
        y = by_output("data", y, outputs, self.names)
        if any(loss is not None and labels is None for loss, labels in zip(losses, y)):
            raise invalid("data", y, "labels for every output that has a loss")
        losses = [_no_loss if loss is None else loss for loss in losses]
        return tuple(keras.tree.pack_sequence_as(outputs, each) for each in (losses, y))


def _no_loss(y, output):
    return keras.ops.zeros(())
