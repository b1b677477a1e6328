"""Inputs and the teacher's answers as arrays, for students that Keras does not train.

Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with Generative Adversarial
Networks", arXiv:1812.02271.
"""

from tfcomp.methods.distillation import checks
from tfcomp.methods.distillation.drawn import Drawn, answering
from tfcomp.validation import check_integer, invalid


def mixture(teacher, x=None, source=None, share=0.8, samples=None, seed=0):
    """Draws real and fresh inputs, with what a teacher says of them.

    What `tfcomp.distill` trains on in one epoch, for a decision tree of scikit-learn, for instance.

    Args:
        teacher: A `keras.Model`, or what has `predict_proba` or `predict`.
        x: Array of real inputs; `None` for fresh ones alone.
        source: `None` for real inputs alone, or what fresh ones are drawn from.
        share: Probability with which an input is a fresh one, in (0, 1].
        samples: How many; `None` for as many as `x` has.
        seed: Integer.

    Returns:
        Array of inputs, and array of the teacher's outputs.

    Raises:
        ValueError: For an argument that cannot be used.

    Example:

    >>> import numpy as np, tfcomp
    >>> from sklearn.ensemble import RandomForestClassifier
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> x = np.random.default_rng(0).normal(size=(60, 4))
    >>> forest = RandomForestClassifier(5, random_state=0).fit(x, x[:, 0] > x[:, 1])
    >>> more, answers = tfcomp.distillation.mixture(
    ...     forest, x, tfcomp.distillation.Munge(x), samples=200
    ... )
    >>> tree = DecisionTreeClassifier(max_leaf_nodes=8).fit(more, answers.argmax(-1))
    >>> more.shape, answers.shape
    ((200, 4), (200, 2))
    """
    answer = answering(teacher)
    checks.source(source, share, samples, None, x, answer)
    if x is None and source is None:
        raise invalid("x", None, "inputs, or a `source` of them")
    drawn = Drawn(x, None, source, share, samples, answer, True, 1, check_integer("seed", seed, 0))
    found = drawn.all()
    return found[0], found[-1]
