"""The semidiscrete decomposition by hand, by exhaustion and by an independent reference."""

import itertools

import numpy as np
import pytest

from tfcomp.methods.fixed_point_factorization.semidiscrete import (
    Semidiscrete,
    best_support,
    recover,
    semidiscrete,
)


def error(matrix, factors):
    return np.sum((matrix - factors.product()) ** 2) / np.sum(matrix**2)


def test_by_hand():
    """Gains of the supports of (3, -2.5, 1): 9, 5.5**2 / 2 = 15.125, 6.5**2 / 3 = 14.083."""
    x, gain = best_support(np.array([1.0, 3.0, -2.5]))
    assert x.tolist() == [0, 1, -1] and gain == 15.125
    # R = [[2, 1], [-2, 0]]: from the first column x = (1, -1), so xᵀR = (4, 1) and y = (1, 0);
    # d = 4 / 2. What is left is [[0, 1], [0, 0]].
    found = semidiscrete(np.array([[2.0, 1.0], [-2.0, 0.0]]), 2)
    assert found.d.tolist() == [2, 1]
    np.testing.assert_array_equal(found.product(), [[2, 1], [-2, 0]])


def test_support_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for _ in range(20):
        s = rng.normal(size=6)
        every = (np.array(x) for x in itertools.product((-1, 0, 1), repeat=6) if any(x))
        best = max((x @ s) ** 2 / (x @ x) for x in every)
        x, gain = best_support(s)
        assert gain == pytest.approx(best) and (x @ s) ** 2 / (x @ x) == pytest.approx(best)


def reference_step(residual, y):
    """One turn in loops, as the formula reads."""

    def solve(s):
        order = sorted(range(len(s)), key=lambda i: -abs(s[i]))
        sums = [sum(abs(s[i]) for i in order[: j + 1]) ** 2 / (j + 1) for j in range(len(s))]
        chosen = order[: int(np.argmax(sums)) + 1]
        return np.array([np.sign(s[i]) if i in chosen else 0.0 for i in range(len(s))])

    x = solve(residual @ y / (y @ y))
    y = solve(residual.T @ x / (x @ x))
    return x, y


def test_components_are_fixed_points_of_the_reference():
    w = np.random.default_rng(1).normal(size=(14, 9)).astype("float32")
    found = semidiscrete(w, 5, sweeps=100, tolerance=0)
    residual = w.astype("float64")
    for x, d, y in zip(found.x.T, found.d, found.y.T):
        again_x, again_y = reference_step(residual, y)
        np.testing.assert_array_equal(again_x, x)
        np.testing.assert_array_equal(again_y, y)
        assert d == pytest.approx(x @ residual @ y / ((x @ x) * (y @ y)), rel=1e-4)
        # From the unit vector of the largest column one comes no further.
        start = np.eye(9)[np.argmax((residual**2).sum(0))]
        for _ in range(50):
            other_x, start = reference_step(residual, start)
        gain = (x @ residual @ y) ** 2 / ((x @ x) * (y @ y))
        other = other_x @ residual @ start
        assert gain >= other**2 / ((other_x @ other_x) * (start @ start)) * (1 - 1e-5)
        residual -= d * np.outer(x, y)


@pytest.mark.parametrize("shape", [(12, 20), (20, 12)])
def test_error_falls_with_rank_beyond_the_sides(shape):
    w = np.random.default_rng(2).normal(size=shape).astype("float32")
    errors = [error(w, semidiscrete(w, k)) for k in (1, 4, 12, 30, 90)]
    assert all(a > b for a, b in itertools.pairwise(errors))
    assert errors[-1] < 1e-3
    found = semidiscrete(w, 30)
    assert set(np.unique(found.x)) | set(np.unique(found.y)) == {-1, 0, 1}
    assert (found.d > 0).all()


def test_exact_where_the_matrix_has_that_form():
    rng = np.random.default_rng(3)
    x, y = rng.choice([-1, 0, 1], (30, 1)), rng.choice([-1, 0, 1], (17, 1))
    one = 0.37 * x @ y.T
    assert error(one, semidiscrete(one, 1)) < 1e-12
    # Blocks side by side, of one scale or several.
    blocks = np.zeros((12, 9))
    for i, d in enumerate((2.0, 2.0, 0.5)):
        signs = np.outer(rng.choice([-1, 1], 4), rng.choice([-1, 1], 3))
        blocks[4 * i : 4 * i + 4, 3 * i : 3 * i + 3] = d * signs
    found = semidiscrete(blocks, 5)
    assert sorted(found.d) == [0, 0, 0.5, 2, 2]
    np.testing.assert_array_equal(found.product(), blocks)
    assert not semidiscrete(np.zeros((3, 2)), 2).d.any()


def test_recovery():
    w = np.random.default_rng(4).normal(size=(24, 16)).astype("float32")
    found = semidiscrete(w, 12)
    errors = [error(w, recover(w, found, sweeps)) for sweeps in (0, 1, 2, 5, 20)]
    assert errors[0] == error(w, found)
    assert all(a > b for a, b in itertools.pairwise(errors))
    assert errors[-1] < 0.25 * errors[0]
    real = recover(w, found, 20)
    for latent, ternary in ((real.x, found.x), (real.y, found.y)):
        assert np.abs(latent - ternary).max() < 0.5
        np.testing.assert_array_equal(np.rint(latent), ternary)


def test_recovery_of_one_row_is_the_optimum():
    """With `Y` held, a row of `X̂` minimizes a quadratic in a box: its gradient says so."""
    w = np.random.default_rng(5).normal(size=(6, 10)).astype("float32")
    found = semidiscrete(w, 4)
    real = recover(w, found, 300)
    gradient = (real.product() - w) @ (real.y * real.d)
    off = real.x - found.x
    inside = np.abs(off) < 0.489
    assert inside.any() and not inside.all()
    assert np.abs(gradient[inside]).max() < 1e-3
    # At a bound the error would fall only beyond it.
    assert (gradient[~inside] * off[~inside] < 1e-3).all()


def test_product():
    factors = Semidiscrete(np.eye(2), np.array([2.0, 3.0]), np.array([[1.0, 0.0], [1.0, -1.0]]))
    assert factors.product().tolist() == [[2, 2], [0, -3]]
