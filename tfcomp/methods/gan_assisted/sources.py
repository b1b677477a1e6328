"""Fresh inputs without a generator: the baselines that generated ones are compared with.

Ruishan Liu, Nicolo Fusi, Lester Mackey, "Teacher-Student Compression with Generative Adversarial
Networks", arXiv:1812.02271; MUNGE: Cristian Bucilă, Rich Caruana, Alexandru Niculescu-Mizil, "Model
Compression", KDD 2006.
"""

import keras
import numpy as np

from tfcomp.validation import check_integer, check_number, invalid


class Munge:
    """Fresh rows from each row of the data and its nearest neighbour: MUNGE.

    One pass over the data: each attribute of a row and of its neighbour changes, with probability
    `p`. Of a number `a` and the neighbour's `b`, the row gets one from the normal distribution
    about `b`, the neighbour one from that about `a`, both of deviation `|a - b| / s`; discrete
    values are exchanged. Neighbours are those in the data as given, by distance of attributes that
    are scaled to [0, 1].

    Args:
        x: Array `(samples, ...)`, the data; images are taken as rows.
        p: Probability in (0, 1].
        s: What differences are divided by, above 0.
        discrete: Indices of attributes whose values are exchanged.

    Raises:
        ValueError: If an argument is out of range, or there are fewer than two rows.

    Reference:
        Cristian Bucilă, Rich Caruana, Alexandru Niculescu-Mizil, "Model Compression", KDD 2006.

    Example:

    >>> import numpy as np, tfcomp
    >>> x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    >>> tfcomp.distillation.Munge(x).sample(50, seed=0).shape
    (50, 4)
    """

    def __init__(self, x, p=0.5, s=1.0, discrete=()):
        x = np.asarray(x)
        if x.ndim < 2 or len(x) < 2:
            raise invalid("x", x.shape, "two samples or more, of shape (samples, ...)")
        check_number("p", p, above=0)
        check_number("p", 1 - p, 0)
        check_number("s", s, above=0)
        self.p, self.s, self._shape, self._dtype = p, s, x.shape[1:], x.dtype
        self._rows = x.reshape(len(x), -1).astype("float64")
        self._discrete = np.zeros(self._rows.shape[1], bool)
        for index in discrete:
            self._discrete[check_integer("discrete", index, 0, self._rows.shape[1] - 1)] = True
        self._neighbours = _nearest(self._rows)

    def sample(self, count, seed=0):
        """Draws rows of as many passes as need be.

        Args:
            count: How many.
            seed: Integer.

        Returns:
            Array `(count, ...)`.
        """
        rng = np.random.default_rng(check_integer("seed", seed, 0))
        passes = -(-check_integer("count", count, 1) // len(self._rows))
        rows = np.concatenate([self._pass(rng) for _ in range(passes)])
        chosen = rows[rng.permutation(len(rows))[:count]]
        return chosen.reshape(count, *self._shape).astype(self._dtype)

    def _pass(self, rng):
        rows = self._rows.copy()
        for index, other in enumerate(self._neighbours):
            a, b = rows[index].copy(), rows[other].copy()
            change = rng.random(len(a)) < self.p
            deviation = np.where(self._discrete, 0.0, abs(a - b) / self.s)
            rows[index] = np.where(change, rng.normal(b, deviation), a)
            rows[other] = np.where(change, rng.normal(a, deviation), b)
        return rows


def _nearest(rows):
    """The index of each row's nearest neighbour."""
    from sklearn.neighbors import NearestNeighbors

    span = np.ptp(rows, axis=0)
    scaled = (rows - rows.min(0)) / np.where(span > 0, span, 1.0)
    near = NearestNeighbors(n_neighbors=2).fit(scaled).kneighbors(scaled, return_distance=False)
    # Of rows that are there twice, either may come first.
    own = near[:, 0] == np.arange(len(rows))
    return np.where(own, near[:, 1], near[:, 0])


class Augmented:
    """The data's own inputs, changed at random: augmentation.

    Args:
        x: Array `(samples, ...)`, the data.
        augment: A `keras.layers.Layer`, called in training, or a function from inputs and a
            `numpy.random.Generator` to inputs.

    Raises:
        ValueError: If `augment` is neither.

    Example:

    >>> import numpy as np, tfcomp
    >>> def noisy(x, rng):
    ...     return x + rng.normal(0, 0.1, x.shape)
    >>> source = tfcomp.distillation.Augmented(np.ones((20, 4)), noisy)
    >>> source.sample(50, seed=0).shape
    (50, 4)
    """

    def __init__(self, x, augment):
        if not callable(augment):
            raise invalid("augment", augment, "a layer, or a function of inputs and a generator")
        self._x, self.augment = np.asarray(x), augment

    def sample(self, count, seed=0):
        """Draws inputs and changes them.

        Args:
            count: How many.
            seed: Integer. Layers have seeds of their own.

        Returns:
            Array `(count, ...)`.
        """
        rng = np.random.default_rng(check_integer("seed", seed, 0))
        chosen = self._x[rng.integers(len(self._x), size=check_integer("count", count, 1))]
        if isinstance(self.augment, keras.layers.Layer):
            changed = keras.ops.convert_to_numpy(self.augment(chosen, training=True))
        else:
            changed = self.augment(chosen, rng)
        return np.asarray(changed, self._x.dtype)
