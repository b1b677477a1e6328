"""Groups of outputs against what is known, and masks against a reference in loops."""

import itertools

import numpy as np
import pytest

from tfcomp.methods.gradual_pruning import choose_masks
from tfcomp.model.vector_wise import Outputs, Vectors, grouped


def kept(scores, order, size, amount):
    """What groups keep: the sum of the vectors of largest mean, one by one."""
    vectors = []
    for begin in range(0, len(order), size):
        members = [int(output) for output in order[begin : begin + size]]
        for row in scores:
            vectors.append((float(np.mean(row[members])), float(np.sum(row[members]))))
    vectors.sort(reverse=True)
    return sum(total for _, total in vectors[: len(vectors) - int(amount * len(vectors) + 0.5)])


def planted(rng, inputs, outputs, size, share):
    """Scores that are large at a share of the inputs of each group, and who is in which."""
    scores = rng.uniform(0.5, 1.5, (inputs, outputs)).astype("float32")
    groups = rng.permutation(outputs) // size
    for group in range(-(-outputs // size)):
        gone = rng.permutation(inputs)[int(share * inputs) :]
        scores[np.ix_(gone, np.flatnonzero(groups == group))] *= 0.1
    return scores, groups


@pytest.mark.parametrize("outputs,size", [(256, 16), (128, 64), (64, 8), (60, 16)])
def test_planted_groups_are_found_in_any_order(outputs, size):
    rng = np.random.default_rng(outputs)
    scores, groups = planted(rng, 200, outputs, size, 0.1)
    order = grouped(scores, size, 0.9)
    assert sorted(order) == list(range(outputs))
    for begin in range(0, outputs, size):
        assert len(set(groups[order[begin : begin + size]])) == 1


def test_groups_keep_more_than_neighbours():
    rng = np.random.default_rng(1)
    scores, _ = planted(rng, 100, 96, 16, 0.1)
    order = grouped(scores, 16, 0.9)
    assert kept(scores, order, 16, 0.9) > 1.8 * kept(scores, range(96), 16, 0.9)
    # Where nothing is planted, too, if not by as much.
    scores = np.abs(rng.standard_normal((100, 96))).astype("float32")
    order = grouped(scores, 16, 0.9)
    assert kept(scores, order, 16, 0.9) > 1.03 * kept(scores, range(96), 16, 0.9)


def test_groups_beside_the_best_of_all():
    """Six outputs have ten ways to be two groups of three."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores = rng.exponential(size=(8, 6)).astype("float32")
        found = kept(scores, grouped(scores, 3, 0.5), 3, 0.5)
        sums = [
            kept(scores, [*group, *(n for n in range(6) if n not in group)], 3, 0.5)
            for group in itertools.combinations(range(6), 3)
        ]
        assert found >= np.median(sums)
        assert found >= 0.95 * max(sums)


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("outputs,size", [(10, 16), (10, 10), (10, 4), (9, 8), (5, 1), (1, 3)])
def test_every_size_and_amount(outputs, size, amount):
    for scores in (np.random.default_rng(3).random((7, outputs)), np.ones((7, outputs))):
        order = grouped(scores, size, amount)
        assert order.dtype == np.int32 and sorted(order) == list(range(outputs))
        np.testing.assert_array_equal(order, grouped(scores, size, amount))
        assert sorted(grouped(np.zeros((7, outputs)), size, amount)) == list(range(outputs))


def test_groups_that_are_known_are_kept_where_nothing_gains():
    scores, groups = planted(np.random.default_rng(4), 100, 64, 16, 0.1)
    order = np.argsort(groups, kind="stable")
    found = grouped(scores, 16, 0.9, order)
    np.testing.assert_array_equal(found, order)


def test_units_and_mask_by_hand():
    # Outputs 0 and 2 are a group, output 1 is another.
    scores = np.array([[1.0, 5, 3], [4, 1, 2]])
    pattern = Vectors(2, "mean", np.array([0, 2, 1]))
    alive = np.ones((2, 3), bool)
    assert pattern.units(scores, alive).tolist() == [[2, 5], [3, 1]]
    (mask,) = choose_masks([scores], [alive], [pattern], 0.5)
    assert mask.astype(int).tolist() == [[0, 1, 0], [1, 0, 1]]
    alive[1] = False
    assert pattern.units(scores, alive).tolist() == [[2, 5], [-1, -1]]
    assert Vectors(2, "max", np.array([0, 2, 1])).units(scores, alive).tolist() == [
        [3, 5],
        [-1, -1],
    ]


def test_root_mean_squares_by_hand():
    scores, alive = np.array([[3.0, 4, 5], [1, 7, 2]]), np.ones((2, 3), bool)
    units = Vectors(2, order=np.array([0, 1, 2])).units(scores, alive)
    np.testing.assert_allclose(units, [[np.sqrt(12.5), 5], [5, 2]])


def test_masks_against_loops():
    rng = np.random.default_rng(5)
    for _ in range(30):
        inputs, outputs, size = rng.integers(1, 12, 3)
        scores, amount = rng.random((inputs, outputs)), rng.random()
        order = rng.permutation(outputs)
        alive = np.ones(scores.shape, bool)
        (mask,) = choose_masks([scores.copy()], [alive], [Vectors(size, "mean", order)], amount)
        groups = [order[begin : begin + size] for begin in range(0, outputs, size)]
        vectors = sorted(
            (scores[i, g].mean(), i, n) for n, g in enumerate(groups) for i in range(inputs)
        )
        pruned = min(int(amount * len(vectors) + 0.5), len(vectors) - 1)
        expected = np.ones(scores.shape, bool)
        for _, i, n in vectors[:pruned]:
            expected[i, groups[n]] = False
        np.testing.assert_array_equal(mask, expected)


def test_the_groups_of_a_mask_by_hand():
    mask = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 1, 1]], bool)
    order = Outputs((-1,), 1).order(mask)
    # Two and two alike; one by itself comes last.
    assert sorted(map(sorted, (order[:2], order[2:4]))) == [[0, 2], [1, 3]] and order[4] == 4
    # Two parts of two outputs, which are counted in each part.
    order = Outputs((-1,), 2).order(mask[:, :4])
    assert sorted(order[:2]) == sorted(order[2:]) == [0, 1]


def test_a_size_that_is_none_raises():
    for size in (0, -1, 2.0, "8", True, (1, 8)):
        with pytest.raises(ValueError, match="argument `vector_size`"):
            Vectors(size)
