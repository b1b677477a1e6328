"""MUNGE against a loop over rows and attributes, augmentation, and mixtures."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.methods.distillation.drawn import Drawn, labels_of
from tfcomp.methods.distillation.mixture import mixture

Munge, Augmented = tfcomp.distillation.Munge, tfcomp.distillation.Augmented


def munged(x, p, s, discrete, rng):
    """One pass of the algorithm, attribute by attribute."""
    scaled = (x - x.min(0)) / np.where(np.ptp(x, 0) > 0, np.ptp(x, 0), 1)
    distances = ((scaled[:, None] - scaled[None]) ** 2).sum(-1)
    np.fill_diagonal(distances, np.inf)
    neighbours, rows = distances.argmin(1), x.copy()
    for i in range(len(x)):
        j = neighbours[i]
        changes = rng.random(x.shape[1])
        wide = [
            0.0 if k in discrete else abs(rows[i, k] - rows[j, k]) / s for k in range(x.shape[1])
        ]
        about_j = rng.normal(rows[j], wide)
        about_i = rng.normal(rows[i], wide)
        for k in range(x.shape[1]):
            if changes[k] < p:
                rows[i, k], rows[j, k] = about_j[k], about_i[k]
    return rows


@pytest.mark.parametrize("discrete", [(), (1, 3)])
def test_munge(discrete):
    x = np.random.default_rng(3).normal(size=(12, 4))
    rng = np.random.default_rng(5)
    expected = np.concatenate([munged(x, 0.6, 2.0, discrete, rng) for _ in range(2)])
    expected = expected[rng.permutation(24)[:20]]
    np.testing.assert_allclose(Munge(x, 0.6, 2.0, discrete).sample(20, seed=5), expected)


def test_munge_by_hand():
    """Two rows, all discrete, with certainty: each is exchanged twice and is where it was."""
    x = np.array([[0.0, 1.0], [1.0, 3.0]])
    found = Munge(x, p=1.0, discrete=(0, 1)).sample(2, seed=0)
    assert sorted(found.tolist()) == x.tolist()


def test_munge_keeps_shape_type_and_values_of_discrete_attributes():
    x = np.arange(30).reshape(10, 3, 1).astype("float32")
    found = Munge(x, discrete=(0, 1, 2)).sample(25, seed=1)
    assert found.shape == (25, 3, 1) and found.dtype == "float32"
    assert set(np.unique(found[:, 0])) <= set(x[:, 0].ravel())
    np.testing.assert_array_equal(found, Munge(x, discrete=(0, 1, 2)).sample(25, seed=1))


def test_augmentation():
    x = np.arange(12.0).reshape(6, 2)
    found = Augmented(x, lambda inputs, rng: inputs + 100).sample(9, seed=0)
    assert {tuple(row - 100) for row in found} <= {tuple(row) for row in x} and len(found) == 9
    layer = keras.layers.GaussianNoise(0.5, seed=0)
    assert not np.isin(Augmented(x, layer).sample(4, 0), x).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Munge(np.ones((1, 3))),
        lambda: Munge(np.ones(5)),
        lambda: Munge(np.ones((5, 3)), p=0),
        lambda: Munge(np.ones((5, 3)), s=0),
        lambda: Munge(np.ones((5, 3)), discrete=[3]),
        lambda: Munge(np.ones((5, 3))).sample(0),
        lambda: Augmented(np.ones((5, 3)), 3),
        lambda: mixture(None, np.ones((5, 3))),
        lambda: mixture(Teacher()),
        lambda: mixture(Teacher(), None, Munge(np.ones((5, 3)))),
    ],
)
def test_wrong_arguments(make):
    with pytest.raises(ValueError, match="argument `"):
        make()


class Teacher:
    """The sum of the attributes and its negative."""

    def predict(self, x):
        return np.stack([x.sum(1), -x.sum(1)], 1)


class Thousands:
    """A source whose inputs are known."""

    def sample(self, count, seed=0):
        return np.full((count, 3), 1000.0)


def test_a_mixture_has_the_share_of_fresh_inputs_and_the_teachers_answers():
    x = np.random.default_rng(0).normal(size=(2000, 3))
    inputs, answers = mixture(Teacher(), x, Thousands(), share=0.8)
    fresh = inputs[:, 0] == 1000
    assert len(inputs) == 2000 and abs(fresh.mean() - 0.8) < 0.03
    np.testing.assert_allclose(answers[:, 0], inputs.sum(1), rtol=1e-5)
    # Real ones once each at most, in an order of their own.
    assert len(np.unique(inputs[~fresh], axis=0)) == (~fresh).sum()
    assert {tuple(row) for row in inputs[~fresh]} <= {tuple(row) for row in x}
    assert np.diff(np.flatnonzero(fresh)).max() > 1


def test_fresh_inputs_alone_and_real_ones_alone():
    inputs, answers = mixture(Teacher(), None, Thousands(), share=0.5, samples=7)
    assert (inputs == 1000).all() and answers.shape == (7, 2)
    x = np.arange(6.0).reshape(2, 3)
    inputs, _ = mixture(Teacher(), x, samples=5)
    assert sorted(inputs[:, 0].tolist()) in ([0, 0, 0, 3, 3], [0, 0, 3, 3, 3])


def test_epochs_differ_and_come_again():
    def drawn():
        x = np.arange(30.0).reshape(10, 3)
        return Drawn(x, np.arange(10), Thousands(), 0.5, None, Teacher().predict, False, 4, 7)

    first = drawn()
    epochs = []
    for epoch in range(2):
        first.draw(epoch)
        epochs.append([first[i] for i in range(first.num_batches)])
    assert [len(y) for _, y in epochs[0]] == [4, 4, 2]
    assert not np.array_equal(epochs[0][0][1], epochs[1][0][1])
    again = drawn()
    again.draw(1)
    for (a, b), (c, d) in zip(epochs[1], (again[i] for i in range(3)), strict=True):
        assert np.array_equal(a, c) and np.array_equal(b, d)


def test_labels_have_the_form_of_the_datas():
    answers = np.array([[0.1, 0.9], [2.0, -1.0]])
    assert labels_of(answers).tolist() == [1, 0]
    assert labels_of(answers, np.array([0, 1], "int64")).dtype == "int64"
    assert labels_of(answers, np.array([[0], [1]])).tolist() == [[1], [0]]
    assert labels_of(answers, np.eye(2)).tolist() == [[0, 1], [1, 0]]
    assert labels_of(answers, np.array([[0.5, 3], [2, 2]])).tolist() == answers.tolist()
    assert labels_of(answers[:, :1], np.array([2.0, 3.0])).tolist() == [0.1, 2.0]
