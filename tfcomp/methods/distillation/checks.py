"""What can be wrong with a distillation is found before it begins."""

import warnings

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods.distillation.soft_targets import as_loss
from tfcomp.surgery.recompile import fresh_arguments
from tfcomp.surgery.swap import swapped_copy
from tfcomp.targets import check_built
from tfcomp.validation import check_integer, check_number, invalid

# Fresh inputs that a teacher is asked about beforehand.
_TRIED = 32


def student_of(teacher, student, rules, callbacks):
    """The student that is to be trained, the given one or a copy of the teacher."""
    if isinstance(teacher, keras.Model):
        check_built(teacher, "teacher")
    if student is None:
        return _copy(teacher, rules, callbacks)
    if rules is not None:
        raise invalid("rules", rules, "None where a student is given")
    if not isinstance(student, keras.Model):
        raise invalid("student", student, "a compiled keras.Model")
    theirs = {id(v) for v in getattr(teacher, "variables", ())}
    if any(id(v) in theirs for v in student.variables):
        raise invalid("student", student, "a model that shares no weight with its teacher")
    return student


def _copy(teacher, rules, callbacks):
    compresses = any(isinstance(callback, ProjectionCallback) for callback in callbacks)
    if not isinstance(teacher, keras.Model) or (rules is None and not compresses):
        expected = "a keras.Model, or None with `rules`, or with `callbacks` that compress a copy"
        raise invalid("student", None, expected)
    return swapped_copy(teacher, {...: None} if rules is None else rules)


def compiled(student, needs_labels):
    """Keyword arguments of `compile` for the model that trains the student."""
    if not student.compiled or student.optimizer is None:
        raise ValueError(
            f"`tfcomp.distill` trains with the optimizer, loss and metrics of the student: call "
            f"`compile` on {student.name!r} first (or on the teacher, where it is a copy)."
        )
    if type(student).compile is not keras.Model.compile:
        raise invalid("student", student, "a model that is compiled by Keras's own `compile`")
    arguments = fresh_arguments(student)
    for name in ("loss_weights", "weighted_metrics"):
        if arguments.pop(name, None):
            raise invalid(name, "of the student", "None, as keras.distillation.Distiller has none")
    if arguments.get("loss") is None and needs_labels:
        raise invalid("student_loss_weight", "above 0", "0 where the student has no loss")
    # Keras asks for one; of a weight of zero it makes no use.
    loss = keras.losses.MeanSquaredError() if arguments.get("loss") is None else arguments["loss"]
    return {**arguments, "loss": keras.tree.map_structure(as_loss, loss)}


def outputs(teacher, student, given, made, loss, hottest):
    """Whether teacher and student return probabilities, once their outputs are comparable.

    Warns where a temperature is to soften probabilities of 0.

    Args:
        teacher: The teacher.
        student: The student.
        given: The outputs of the teacher, for some inputs.
        made: Those of the student.
        loss: The loss between them.
        hottest: The highest temperature.

    Returns:
        Pair of booleans.
    """
    shapes = [keras.tree.map_structure(lambda o: tuple(o.shape), each) for each in (given, made)]
    if shapes[0] != shapes[1]:
        raise invalid("student", shapes[1], f"a model with outputs of shape {shapes[0]}")
    if loss != "kl_divergence" and not isinstance(loss, keras.losses.KLDivergence):
        return False, False
    if any(leaf.shape[-1] == 1 for leaf in keras.tree.flatten(given)):
        raise invalid("distillation_loss", loss, "another, such as 'mse': there is one output")
    for name, model in ("teacher", teacher), ("student", student):
        if _ends_in_sigmoid(model):
            expected = (
                "logits, or probabilities that sum to one, not sigmoids (or another "
                "`distillation_loss`)"
            )
            raise invalid(name, model.name, expected)
    probabilities = _are_probabilities(given), _are_probabilities(made)
    if probabilities[0] and hottest > 1:
        _warn_zeros(given, hottest)
    return probabilities


def _warn_zeros(given, hottest):
    """Warns the caller of `tfcomp.distill`."""
    flat = np.concatenate([np.ravel(as_array(leaf)) for leaf in keras.tree.flatten(given)])
    zeros = np.count_nonzero(flat == 0)
    if zeros:
        warnings.warn(
            f"`temperature` is {hottest:g} at its highest, and {zeros} of the {flat.size} "
            "probabilities that the teacher was asked for first are exactly 0. There is no logit "
            "of these that a temperature softens: they stay 0 while the others are drawn together, "
            "and the student learns less. Use `temperature=1.0`, or a teacher that returns logits.",
            stacklevel=5,
        )


def _are_probabilities(structure):
    leaves = [np.asarray(as_array(leaf), "float64") for leaf in keras.tree.flatten(structure)]
    return all((leaf >= 0).all() and (abs(leaf.sum(-1) - 1) < 1e-2).all() for leaf in leaves)


def as_array(leaf):
    """An output as a numpy array."""
    if isinstance(leaf, np.ndarray):
        return leaf
    return keras.ops.convert_to_numpy(keras.ops.cast(leaf, "float32"))


def _ends_in_sigmoid(model):
    if not (isinstance(model, keras.Model) and keras_private.is_functional(model)):
        return False
    ends = [keras_private.producer(tensor) for tensor in keras.tree.flatten(model.outputs)]
    return any(
        _ends_in_sigmoid(end)
        if isinstance(end, keras.Model)
        else getattr(end, "activation", None) is keras.activations.sigmoid
        for end in ends
    )


def source(given, share, samples, student, data, answer):
    """Raises unless fresh inputs are such as the student takes and the teacher knows.

    Returns:
        Some of them, or `None` where there is no source.
    """
    if samples is not None:
        check_integer("samples", samples, 1)
    if given is None:
        if data is None:
            raise invalid("data", None, "data, or a `source` of them")
        return None
    if not callable(getattr(given, "sample", None)):
        raise invalid("source", given, "an object with `sample(count, seed)`")
    check_number("share", share, above=0)
    check_number("share", 1 - share, 0)
    if data is None and samples is None:
        raise invalid("samples", None, "how many inputs an epoch has, where `data` is None")
    drawn = given.sample(_TRIED, 0)
    wanted = getattr(student, "input_shape", None)
    if wanted is not None and tuple(wanted[1:]) != drawn.shape[1:]:
        raise invalid("source", drawn.shape[1:], f"a source of inputs of shape {wanted[1:]}")
    answers = answer(drawn)
    if not isinstance(answers, np.ndarray):
        raise invalid("source", given, "None, where the teacher has several outputs")
    classes, known = getattr(given, "classes", None), answers.shape[-1]
    if classes is not None and classes != known:
        raise invalid("source", f"{classes} classes", f"a generator for the teacher's {known}")
    return drawn
