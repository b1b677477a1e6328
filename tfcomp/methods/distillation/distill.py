"""A small student learns from a teacher in one call.

Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531; fresh inputs for it, Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student
Compression with Generative Adversarial Networks", arXiv:1812.02271.
"""

import functools
from typing import NamedTuple

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.core.attachment import take_over
from tfcomp.core.optimizers import variable_scope
from tfcomp.methods.distillation import checks
from tfcomp.methods.distillation.amounts import Amounts
from tfcomp.methods.distillation.drawn import Drawn, answering
from tfcomp.methods.distillation.fed import Drawing, Fed
from tfcomp.methods.distillation.hints import hinted
from tfcomp.methods.distillation.soft_targets import Following, SoftTargets
from tfcomp.methods.distillation.unchanged import unchanged
from tfcomp.model.final_weights import FinalWeights
from tfcomp.model.progress import EpochLog, Progress
from tfcomp.model.result import Result
from tfcomp.storage import describe
from tfcomp.surgery.blind import warn_blind
from tfcomp.validation import check_integer, invalid


class DistilledModel(NamedTuple):
    """What a teacher or student weighs.

    Attributes:
        path: `"teacher"` or `"student"`.
        weights: How many weights it has.
        kept: Fraction that is not zero.
        bytes: Their size as they are.
        coded_bytes: Size in the smallest forms that `tfcomp.export` has for them.
    """

    path: str
    weights: int
    kept: float
    bytes: int
    coded_bytes: int


_COLUMNS = {
    "Model": "{0.path}",
    "Weights": "{0.weights:,}",
    "Kept": "{0.kept:.2%}",
    "Bytes": "{0.bytes:,}",
    "Coded": "{0.coded_bytes:,}",
}


class Distillation(Result):
    """What `tfcomp.distill` did; see `tfcomp.Result`.

    Attributes:
        model: The student.
        history: Dict from names in `logs` to their values, one for each epoch.
        rows: List of `DistilledModel`: the teacher, where it is a `keras.Model`, and the student.
    """

    def __init__(self, model, history, rows):
        super().__init__(model, rows, title="Distillation", columns=_COLUMNS)
        self.history = history


def distill(
    teacher,
    student=None,
    data=None,
    epochs=10,
    temperature=3.0,
    student_loss_weight=0.5,
    hints=None,
    *,
    rules=None,
    distillation_loss="kl_divergence",
    hint_weight=1.0,
    source=None,
    share=0.8,
    samples=None,
    callbacks=(),
    validation_data=None,
    batch_size=32,
    seed=0,
    verbose=1,
):
    """Trains a student on what a teacher says of data, with any callback of tfcomp.

    Trains the student in place, or makes one of the teacher. The loss is `w S + (1 - w) (D + h H)`:
    `S` the student's own, on labels; `D` that between the outputs of both at a temperature `T`,
    `T² KL(softmax(t / T) ‖ softmax(s / T))` by default; `H` the sum of those between hints.
    `keras.distillation.Distiller` trains it, with the loss, metrics and kind of optimizer that the
    student is compiled with.

    The teacher stays as it is, bit for bit, and no callback touches it. Outputs may be logits or
    probabilities, those that sum to one; each model's are looked at.

    Args:
        teacher: A built `keras.Model`, or whatever has `predict_proba` or `predict`, such as a
            forest of scikit-learn.
        student: A compiled `keras.Model` with inputs and outputs of the same shapes. `None` for a
            copy of the teacher, compiled as that is: with `rules`, of other layers; else one that
            `callbacks` prune or quantize.
        data: A tuple `(x, y)` of arrays or structures of arrays, or a dataset of such batches; `x`
            alone where `student_loss_weight` is 0. `None` to use what `source` makes alone.
        epochs: How often the student sees as many inputs as `samples` says.
        temperature: `T`, a positive number, or a `tfcomp.schedules.Schedule` of one. 1 where the
            teacher gives probabilities of exactly 0, as forests do: no temperature softens these,
            and there is a warning.
        student_loss_weight: `w`, a number in [0, 1] or a schedule of one.
        hints: Names of layers whose outputs are compared, too: a list where teacher and student
            have the same names, or a dict from the teacher's to the student's. Where they differ in
            the number of channels, a linear layer that trains along, and is dropped afterwards,
            leads from one to the other.
        rules: What `tfcomp.swap_layers` takes, for a student made of the teacher.
        distillation_loss: Loss between the outputs, by name or as an object: `"kl_divergence"`, or
            any other, of the outputs divided by `T`. `"mse"` for regression, for instance. Of
            several outputs, whose losses are added: one for all, or a list or dict of them, `None`
            for an output that is not compared.
        hint_weight: `h`, a number of 0 or more, or a schedule of one.
        source: What draws fresh inputs, for data that are few: a `ConditionalGAN`, `Munge` or
            `Augmented` of `tfcomp.distillation`, or anything with `sample(count, seed)`. The
            teacher labels them.
        share: Probability with which an input is a fresh one, in (0, 1].
        samples: Inputs in an epoch; `None` for as many as `data` has.
        callbacks: List of callbacks; those of tfcomp see the student's weights under the paths that
            they have in the student, and schedules begin at step 0.
        validation_data: A tuple `(x, y)` to evaluate after every epoch.
        batch_size: Inputs in a batch, where `data` are arrays.
        seed: Integer from which the order of inputs, and which are fresh, follows.
        verbose: 0 for silence, 1 for a progress bar over the epochs, 2 for a line for each epoch.

    Returns:
        A `Distillation`: a `tfcomp.Result` whose `model` is the student, a model by itself.

    Raises:
        ValueError: For an argument that cannot be used, before anything is trained.

    Reference:
        Geoffrey Hinton, Oriol Vinyals, Jeff Dean, "Distilling the Knowledge in a Neural Network",
        arXiv:1503.02531; hints: Adriana Romero et al., "FitNets: Hints for Thin Deep Nets",
        arXiv:1412.6550; fresh inputs: Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student
        Compression with Generative Adversarial Networks", arXiv:1812.02271.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> layers = [keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3, name="logits")]
    >>> teacher = keras.Sequential([keras.Input((8,)), *layers])
    >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    >>> teacher.compile("adam", loss)
    >>> data = np.ones((32, 8), "float32"), np.arange(32) % 3
    >>> done = tfcomp.distill(
    ...     teacher,
    ...     data=data,
    ...     epochs=2,
    ...     rules={keras.layers.Dense: tfcomp.layers.TernaryDense, "logits": None},
    ...     verbose=0,
    ... )
    >>> type(done.model.layers[0]).__name__, sorted(done.history)
    ('TernaryDense', ['distillation_loss', 'loss', 'student_loss', 'total_loss'])
    """
    epochs = check_integer("epochs", epochs, 1)
    progress, history = Progress(epochs, verbose, "epoch"), {}
    batch_size, seed = check_integer("batch_size", batch_size, 1), check_integer("seed", seed, 0)
    amounts = Amounts(temperature, student_loss_weight, hint_weight)
    teaching, callbacks = _Teaching(teacher), list(callbacks)
    student = checks.student_of(teacher, student, rules, callbacks)
    arguments = checks.compiled(student, amounts.needs_labels)
    draw = functools.partial(teaching.draw, batch_size=batch_size, seed=seed)
    with unchanged(teacher):
        fresh = checks.source(source, share, samples, student, data, teaching.answer)
        fed = Fed(student, data, batch_size, "data")
        fed.check(amounts.needs_labels, arrays=source is not None or not teaching.is_model)
        held = Fed(student, validation_data, batch_size, "validation_data")
        held.check(amounts.needs_labels, arrays=not teaching.is_model)
        x = fresh if data is None else fed.first()
        warn_blind(student, x)
        distiller = teaching.distiller(student, x, amounts, hints, distillation_loss)
        if hasattr(arguments["loss"], "matched") and fed.labels() is not None:
            # It raises where they are no match.
            arguments["loss"].matched(fed.labels(), student(x, training=False))
        with variable_scope(student):
            distiller.compile(**arguments)
        train = fed.drawn(draw, source, share, samples)
        distiller.fit(
            train,
            epochs=epochs,
            validation_data=held.whole(draw),
            callbacks=[
                Drawing(train),
                *([Following(amounts.followed)] if amounts.followed else []),
                *callbacks,
                EpochLog(history, progress),
            ],
            shuffle=False,
            verbose=0,
        )
    take_over(student)
    if not student.optimizer.built:
        # Else a file of the student holds an optimizer that no loaded one is like.
        with variable_scope(student):
            student.optimizer.build(student.trainable_variables)
    rows = [_row("teacher", teacher)] if teaching.is_model else []
    return Distillation(student, history, [*rows, _row("student", student)])


class _Answers(keras.Model):
    """A teacher whose answers come with the inputs."""

    def __init__(self):
        super().__init__(name="answers")
        self.built = True

    def call(self, inputs):
        return inputs[1]


class _Teaching:
    """A teacher, whether Keras can ask it within a step or it is asked beforehand."""

    def __init__(self, teacher):
        self.teacher, self.answer = teacher, answering(teacher)
        self.is_model = isinstance(teacher, keras.Model)

    def draw(self, x, y, *fresh, **settings):
        """The `Drawn` of data."""
        return Drawn(x, y, *fresh, answer=self.answer, answered=not self.is_model, **settings)

    def distiller(self, student, x, amounts, hints, loss):
        """The model that trains a student, called once, on the inputs `x`."""
        if hints and not self.is_model:
            raise invalid("hints", hints, "None: the teacher is no keras.Model and has no layers")
        given = self.teacher(x, training=False) if self.is_model else self.answer(_numpy(x))
        made = student(x, training=False)
        loss, probabilities = checks.outputs(
            self.teacher, student, given, made, loss, amounts.hottest
        )
        with variable_scope(student):
            amounts.make()
            pairs, regressors = hinted(self.teacher, student, hints)
            soft = SoftTargets(amounts.temperature, loss, probabilities)
            distiller = keras_private.Distiller(
                self.teacher if self.is_model else _Answers(),
                student,
                [soft, *pairs],
                regressors,
                answered=not self.is_model,
                student_loss_weight=amounts.student_loss_weight,
                distillation_loss_weights=[1.0, *[amounts.hint_weight] * len(pairs)],
            )
            # Variables that are found on a model are its own, in its step and in its files.
            distiller.amounts = amounts.variables()
            distiller(x if self.is_model else (x, given), training=False)
        return distiller


def _numpy(structure):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, structure)


def _row(path, model):
    final = FinalWeights(model)
    values = [final.value(variable) for variable in model.weights]
    count, size = sum(v.size for v in values), sum(v.nbytes for v in values)
    kept = sum(np.count_nonzero(v) for v in values) / count
    coded = sum(describe(v).coded_bytes for v in values)
    return DistilledModel(path, count, kept, size, coded)
