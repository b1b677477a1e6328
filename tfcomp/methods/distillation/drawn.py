"""The batches of a distillation: real and fresh inputs, and what the teacher says of them.

Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with Generative Adversarial
Networks", arXiv:1812.02271.
"""

import keras
import numpy as np

from tfcomp.validation import invalid


class Drawn(keras.utils.PyDataset):
    """Batches in an order, and with fresh inputs, that follow from a seed and the epoch alone.

    So a run that was killed and resumed goes on with the batches that it would have had.

    Args:
        x: Real inputs, an array or a structure of arrays; `None` where all are fresh.
        y: Their labels.
        source: `None`, or what fresh inputs are drawn from by `sample(count, seed)`.
        share: Probability with which an input is a fresh one.
        samples: Inputs in an epoch; `None` for as many as `x` has.
        answer: Function from inputs to the teacher's outputs.
        answered: Whether batches have the teacher's outputs beside the inputs.
        batch_size: Inputs in a batch.
        seed: Integer.
    """

    def __init__(self, x, y, source, share, samples, answer, answered, batch_size, seed):
        super().__init__()
        self._x, self._y, self._answer = x, y, answer
        self._source, self._share = source, share if source is not None else 0.0
        self._answered, self._batch_size, self._seed = answered, batch_size, seed
        self._count = samples if samples is not None else _length(x)
        self._answers = answer(x) if answered and x is not None else None
        known = x, y, self._answers
        self._known = tuple(part for part in known if part is not None)
        self._epoch = None
        self.draw(0)

    def draw(self, epoch):
        """Draws what an epoch has."""
        if epoch == self._epoch:
            return
        self._epoch, rng = epoch, np.random.default_rng([self._seed, epoch])
        fresh = rng.random(self._count) < (1.0 if self._x is None else self._share)
        # A place in the data, or below zero one among the fresh.
        self._places = np.empty(self._count, int)
        if self._x is not None:
            # As often as need be, each input once before any is there twice.
            length = _length(self._x)
            rounds = [rng.permutation(length) for _ in range(-(-self._count // length))]
            self._places[:] = np.concatenate(rounds)[: self._count]
        self._places[fresh] = -1 - np.arange(fresh.sum())
        if fresh.any():
            self._made = self._fresh(int(fresh.sum()), int(rng.integers(2**31)))

    def _fresh(self, count, seed):
        x = self._source.sample(count, seed)
        answers = self._answer(x)
        labels = () if self._x is not None and self._y is None else (labels_of(answers, self._y),)
        return (x, *labels, *([answers] if self._answered else []))

    def _batch(self, places):
        fresh = places < 0
        parts = [] if fresh.all() else [_taken(self._known, places[~fresh])]
        parts += [_taken(self._made, -1 - places[fresh])] if fresh.any() else []
        # Of the two, one after the other, each to its place.
        order = np.argsort(np.concatenate([np.flatnonzero(~fresh), np.flatnonzero(fresh)]))
        join = keras.tree.map_structure
        return join(lambda *arrays: np.concatenate(arrays)[order], *parts)

    def all(self):
        """Inputs, labels if there are any, and answers if these are wanted, of the epoch."""
        return self._batch(self._places)

    @property
    def num_batches(self):
        return -(-self._count // self._batch_size)

    def __getitem__(self, index):
        here = slice(index * self._batch_size, (index + 1) * self._batch_size)
        batch = self._batch(self._places[here])
        if not self._answered:
            return batch
        return ((batch[0], batch[-1]), *batch[1:-1])


def _taken(structure, places):
    return keras.tree.map_structure(lambda array: array[places], structure)


def _length(x):
    return len(keras.tree.flatten(x)[0])


def answering(teacher):
    """The function from inputs to outputs of whatever predicts.

    Args:
        teacher: A `keras.Model`, or anything with `predict_proba` or `predict`, such as a forest
            of scikit-learn, which gets inputs as rows.

    Raises:
        ValueError: If it does not predict, or the classes of its outputs are not 0, 1, 2 ...
    """
    if isinstance(teacher, keras.Model):
        return lambda x: teacher.predict(x, verbose=0)
    predict = getattr(teacher, "predict_proba", getattr(teacher, "predict", None))
    if not callable(predict):
        expected = "a built keras.Model, or what has `predict_proba` or `predict`"
        raise invalid("teacher", teacher, expected)
    classes = getattr(teacher, "classes_", None)
    if classes is not None and not np.array_equal(classes, np.arange(len(classes))):
        raise invalid("teacher", classes, "a teacher whose `classes_` are 0, 1, 2 ..., in order")

    def answer(x):
        outputs = np.asarray(predict(np.reshape(x, (len(x), -1))), "float32")
        return outputs.reshape(len(outputs), -1)

    return answer


def labels_of(answers, like=None):
    """The teacher's answers in the form of labels.

    Args:
        answers: Array `(samples, outputs)`.
        like: Labels in whose form they are wanted: class numbers, one-hot rows or, where these are
            neither, numbers as the answers are. `None` for class numbers, or for the answers
            themselves where there is one output.

    Returns:
        Array as long as the answers.
    """
    numbers = answers.argmax(-1)
    if like is None:
        return numbers.astype("int32") if answers.shape[-1] > 1 else answers
    like = np.asarray(like)
    if like.shape[1:] == answers.shape[1:] and answers.shape[-1] > 1:
        if np.isin(like, (0, 1)).all() and (like.sum(-1) == 1).all():
            return np.eye(answers.shape[-1], dtype=like.dtype)[numbers]
        return answers.astype(like.dtype)
    chosen = numbers if answers.shape[-1] > 1 else answers
    return chosen.reshape(len(answers), *like.shape[1:]).astype(like.dtype)
