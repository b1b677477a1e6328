"""Layers whose outputs are compared: hints.

Adriana Romero et al., "FitNets: Hints for Thin Deep Nets", arXiv:1412.6550.
"""

import keras

from tfcomp import keras_private
from tfcomp.validation import invalid


def hinted(teacher, student, hints):
    """Makes the losses between layers.

    Args:
        teacher: The teacher.
        student: The student.
        hints: `None`, a list of names, or a dict from names in the teacher to names in the student.

    Returns:
        List of `keras.distillation.FeatureDistillation`, and dict from the names of layers of the
        student to the layers that lead from their outputs to the teacher's.

    Raises:
        ValueError: If there is no such layer, or outputs differ in more than the channels.
    """
    if not hints:
        return [], {}
    if isinstance(hints, str) or not isinstance(hints, (dict, list, tuple)):
        raise invalid("hints", hints, "a list of names of layers, or a dict from name to name")
    pairs = dict(hints) if isinstance(hints, dict) else {name: name for name in hints}
    if len(set(pairs.values())) < len(pairs):
        raise invalid("hints", hints, "each layer of the student once")
    losses, regressors = [], {}
    for theirs, own in pairs.items():
        wanted, found = _shape(teacher, theirs, "teacher"), _shape(student, own, "student")
        if wanted[:-1] != found[:-1]:
            expected = f"layers whose outputs differ in channels at most ({wanted} and {found})"
            raise invalid("hints", {theirs: own}, expected)
        if wanted != found:
            regressors[own] = keras.layers.Dense(wanted[-1], name=f"{own}_regressor")
            regressors[own].build(found)
        loss = keras.losses.MeanSquaredError()
        losses.append(keras.distillation.FeatureDistillation(loss, theirs, own))
    return losses, regressors


def _shape(model, name, role):
    if not keras_private.is_functional(model):
        raise invalid("hints", name, f"None, as a subclassed {role} hides its layers")
    names = [layer.name for layer in model.layers]
    if name not in names:
        raise invalid("hints", name, f"a layer of the {role}, which has {names}")
    return tuple(model.get_layer(name).output.shape)
