"""How good fresh inputs are, by what a student learns from them.

Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with Generative Adversarial
Networks", arXiv:1812.02271.
"""

from typing import NamedTuple

import keras
import numpy as np

from tfcomp.methods.distillation.distill import distill
from tfcomp.methods.distillation.drawn import answering
from tfcomp.validation import invalid


class CompressionScore(NamedTuple):
    """How well a student does that learned from fresh inputs alone.

    Attributes:
        score: `fresh / real`.
        fresh: Accuracy of a student that a teacher taught on fresh inputs alone.
        real: Accuracy of the same student, taught as long on real inputs alone.
        teacher: Accuracy of the teacher.
    """

    score: float
    fresh: float
    real: float
    teacher: float


def compression_score(
    source, teacher, make_student, data, held_out, epochs=10, batch_size=32, seed=0, **arguments
):
    """Scores a generator by a fixed student: 1 if its samples teach as well as real inputs do.

    The student is trained twice by `tfcomp.distill`, from the same weights and for as many steps:
    on fresh inputs alone, and on real ones alone, in both cases with what the teacher says of them
    and nothing else. The score is the accuracy on held-out data of the first over that of the
    second. Unlike a score of the samples themselves, it falls when they are of few kinds, and when
    the teacher takes them for other classes than they should be.

    Args:
        source: What fresh inputs are drawn from; see `tfcomp.distill`.
        teacher: The teacher.
        make_student: Function without arguments that returns a new compiled student.
        data: A tuple `(x, y)` of real data.
        held_out: A tuple `(x, y)` to measure accuracy on, `y` class numbers.
        epochs: Epochs of each student, each of as many inputs as the real data.
        batch_size: Inputs in a batch.
        seed: Integer that the students' weights and the order of inputs follow from.
        **arguments: Others of `tfcomp.distill`, such as `temperature=1.0` for a forest.

    Returns:
        A `CompressionScore`.

    Raises:
        ValueError: For an argument that cannot be used, before anything is trained.

    Reference:
        Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with Generative
        Adversarial Networks", arXiv:1812.02271. That the score is a ratio is our reading.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> x = np.random.default_rng(0).normal(size=(60, 4)).astype("float32")
    >>> y = (x[:, 0] > 0).astype(int)
    >>> def make():
    ...     model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    ...     model.compile("adam", "mse")
    ...     return model
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> forest = RandomForestClassifier(5, random_state=0).fit(x, y)
    >>> found = tfcomp.distillation.compression_score(
    ...     tfcomp.distillation.Munge(x), forest, make, (x, y), (x, y), epochs=2, temperature=1.0
    ... )
    >>> found.score == found.fresh / found.real
    True
    """
    if source is None:
        raise invalid("source", source, "what fresh inputs are drawn from")
    if not isinstance(held_out, tuple) or len(held_out) != 2:
        raise invalid("held_out", type(held_out).__name__, "a tuple `(x, y)`")
    if not callable(make_student):
        raise invalid("make_student", make_student, "a function that returns a compiled student")

    def taught(source):
        keras.utils.set_random_seed(seed)
        done = distill(
            teacher,
            make_student(),
            data,
            epochs,
            student_loss_weight=0.0,
            source=source,
            share=1.0,
            batch_size=batch_size,
            seed=seed,
            **{"verbose": 0, **arguments},
        )
        return accuracy(done.model, held_out)

    fresh, real = taught(source), taught(None)
    return CompressionScore(fresh / real, fresh, real, accuracy(teacher, held_out))


def accuracy(model, data):
    """Fraction of the class numbers `y` of `(x, y)` that whatever predicts gets right."""
    x, y = data
    return float(np.mean(answering(model)(x).argmax(-1) == np.reshape(y, -1)))
