"""What can be wrong with a distillation is found before it begins."""

import warnings

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.core.attachment import entries_of
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods.distillation.outputs import LossesOfOutputs, by_output
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
    if entries_of(student) and not _compress(callbacks):
        expected = (
            "one that keeps the student compressed as it is, such as PreserveSparsity(), or a "
            "student that `tfcomp.release` was called on, to be trained freely"
        )
        raise invalid("callbacks", callbacks, expected)
    return student


def _compress(callbacks):
    return any(isinstance(callback, ProjectionCallback) for callback in callbacks)


def _copy(teacher, rules, callbacks):
    if not isinstance(teacher, keras.Model) or (rules is None and not _compress(callbacks)):
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
    loss = keras.tree.map_structure(as_loss, loss)
    single = keras_private.is_functional(student) and len(student.outputs) == 1
    if keras.tree.is_nested(loss) or not single:
        loss = LossesOfOutputs(loss, getattr(student, "output_names", None))
    return {**arguments, "loss": loss}


def outputs(teacher, student, given, made, loss, hottest):
    """The loss of each output, and which are probabilities, once outputs are comparable.

    Warns where a temperature is to soften probabilities of 0.

    Args:
        teacher: The teacher.
        student: The student.
        given: The outputs of the teacher, for some inputs.
        made: Those of the student.
        loss: The loss between them, or a structure of losses, or a dict by name.
        hottest: The highest temperature.

    Returns:
        Structure of losses like that of the outputs; and pair of such structures of booleans, for
        the teacher and for the student.
    """
    shapes = [keras.tree.map_structure(lambda o: tuple(o.shape), each) for each in (given, made)]
    if shapes[0] != shapes[1]:
        raise invalid("student", shapes[1], f"a model with outputs of shape {shapes[0]}")
    losses, probabilities, zeros = [], ([], []), []
    for place, (theirs, own, each) in enumerate(_pairs(student, given, made, loss)):
        losses.append(as_loss(each))
        divergence = isinstance(losses[-1], keras.losses.KLDivergence)
        if divergence:
            _check_divergence(teacher, student, place, theirs, each)
        for flags, output in zip(probabilities, (theirs, own)):
            flags.append(divergence and _are_probabilities(output))
        if probabilities[0][-1]:
            zeros.append(np.ravel(as_array(theirs)) == 0)
    if zeros and hottest > 1:
        _warn_zeros(np.concatenate(zeros), hottest)
    pack = keras.tree.pack_sequence_as
    return pack(given, losses), tuple(pack(given, flags) for flags in probabilities)


def _pairs(student, given, made, loss):
    flat = [keras.tree.flatten(each) for each in (given, made)]
    losses = loss if keras.tree.is_nested(loss) else [loss] * len(flat[0])
    names = getattr(student, "output_names", None)
    return zip(*flat, by_output("distillation_loss", losses, given, names))


def _check_divergence(teacher, student, place, output, loss):
    if output.shape[-1] == 1:
        raise invalid("distillation_loss", loss, "another, such as 'mse': there is one output")
    for name, model in ("teacher", teacher), ("student", student):
        if _ends_in_sigmoid(model, place):
            expected = (
                "logits, or probabilities that sum to one, not sigmoids (or another "
                "`distillation_loss`)"
            )
            raise invalid(name, model.name, expected)


def _warn_zeros(are_zero, hottest):
    """Warns the caller of `tfcomp.distill`."""
    zeros = np.count_nonzero(are_zero)
    if zeros:
        warnings.warn(
            f"`temperature` is {hottest:g} at its highest, and {zeros} of the {are_zero.size} "
            "probabilities that the teacher was asked for first are exactly 0. There is no logit "
            "of these that a temperature softens: they stay 0 while the others are drawn together, "
            "and the student learns less. Use `temperature=1.0`, or a teacher that returns logits.",
            stacklevel=5,
        )


def _are_probabilities(output):
    found = np.asarray(as_array(output), "float64")
    return bool((found >= 0).all() and (abs(found.sum(-1) - 1) < 1e-2).all())


def as_array(leaf):
    """An output as a numpy array."""
    if isinstance(leaf, np.ndarray):
        return leaf
    return keras.ops.convert_to_numpy(keras.ops.cast(leaf, "float32"))


def _ends_in_sigmoid(model, place):
    if not (isinstance(model, keras.Model) and keras_private.is_functional(model)):
        return False
    end = keras_private.producer(model.outputs[place])
    if isinstance(end, keras.Model):
        return len(end.outputs) == 1 and _ends_in_sigmoid(end, 0)
    return getattr(end, "activation", None) is keras.activations.sigmoid


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
