"""The distillation loss against numbers worked out by hand, and what Keras's own name gives."""

import keras
import numpy as np
import pytest

from tfcomp import schedules
from tfcomp.methods.distillation.amounts import Amounts
from tfcomp.methods.distillation.soft_targets import MeanLoss, SoftTargets, as_loss

# softmax(t / 2) = (3, 1) / 4 and softmax(s / 2) = (1, 1) / 2.
TEACHER = np.array([[2 * np.log(3.0), 0.0]], "float32")
STUDENT = np.zeros((1, 2), "float32")
# 3/4 log(3/2) + 1/4 log(1/2), times the square of the temperature.
BY_HAND = 4 * (0.75 * np.log(1.5) + 0.25 * np.log(0.5))


def test_by_hand():
    assert abs(BY_HAND - 0.52325) < 1e-5
    assert float(SoftTargets(2.0).compute_loss(TEACHER, STUDENT)) == pytest.approx(
        BY_HAND, rel=1e-5
    )


def test_the_mean_over_samples():
    loss = SoftTargets(2.0).compute_loss(TEACHER.repeat(2, 0), np.concatenate([STUDENT, TEACHER]))
    assert float(loss) == pytest.approx(BY_HAND / 2, rel=1e-5)


def softmax(logits, temperature=1):
    raised = np.exp(logits / temperature)
    return (raised / raised.sum(-1, keepdims=True)).astype("float32")


@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_probabilities_are_as_good_as_logits(sides):
    shown = [softmax(z) if is_p else z for z, is_p in zip((TEACHER, STUDENT), sides)]
    loss = SoftTargets(2.0, probabilities=sides).compute_loss(*shown)
    assert float(loss) == pytest.approx(BY_HAND, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_a_probability_of_zero_stays_zero(temperature):
    """All that is left of the divergence is that of the certain class, `log 2`."""
    for teacher in (np.array([[1.0, 0.0]], "float32"), softmax(np.array([[0.0, -200.0]]))):
        assert teacher[0, 1] == 0
        loss = SoftTargets(temperature, probabilities=(True, False)).compute_loss(teacher, STUDENT)
        assert float(loss) == pytest.approx(temperature**2 * np.log(2), rel=1e-4)


@pytest.mark.parametrize("sides", [(True, False), (False, True), (True, True)])
def test_small_probabilities_are_what_they_are(sides):
    """Those of a confident network, `exp(-30)` and less, at a temperature that softens them."""
    teacher, student = np.array([[0.0, -30.0, -60.0]]), np.array([[-45.0, 0.0, -20.0]])
    p, q = softmax(teacher, 10).astype("float64"), softmax(student, 10).astype("float64")
    shown = [softmax(z) if is_p else z for z, is_p in zip((teacher, student), sides)]
    loss = SoftTargets(10.0, probabilities=sides).compute_loss(*shown)
    assert float(loss) == pytest.approx(100 * np.sum(p * np.log(p / q)), rel=1e-4)


def test_half_precision_is_not_computed_in():
    rng = np.random.default_rng(0)
    teacher, student = (rng.normal(size=(64, 5)).astype("float16") for _ in range(2))
    p, q = softmax(teacher.astype("float64"), 3), softmax(student.astype("float64"), 3)
    expected = 9 * np.mean(np.sum(p * np.log(p / q), -1))
    assert float(SoftTargets(3.0).compute_loss(teacher, student)) == pytest.approx(expected, 1e-5)


def test_other_losses_compare_divided_logits():
    loss = SoftTargets(2.0, "mse").compute_loss(TEACHER, STUDENT)
    assert float(loss) == pytest.approx(np.log(3.0) ** 2 / 2, rel=1e-5)


def test_a_structure_of_outputs():
    outputs = [[TEACHER, TEACHER], [STUDENT, STUDENT]]
    loss = SoftTargets(2.0, ["kl_divergence", None]).compute_loss(*outputs)
    assert float(loss) == pytest.approx(BY_HAND, rel=1e-5)


def test_keras_takes_its_own_name_for_another_loss():
    """Seen in Keras 3.13 to 3.15; when it fails, `SoftTargets` need not mend it any more."""
    kept = keras.distillation.LogitsDistillation(2.0).compute_loss(TEACHER, STUDENT)
    assert abs(float(kept) - BY_HAND) > 1
    object_ = keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence())
    assert float(object_.compute_loss(TEACHER, STUDENT)) == pytest.approx(BY_HAND, rel=1e-5)


def test_config():
    loss = SoftTargets(2.5, "kl_divergence", (True, False))
    again = SoftTargets.from_config(loss.get_config())
    assert again.get_config() == loss.get_config() and again.temperature == 2.5
    mean = as_loss("mse")
    assert isinstance(mean, MeanLoss) and as_loss(None) is None
    again = MeanLoss.from_config(mean.get_config())
    assert float(again(np.ones((2, 2)), np.zeros((2, 2)))) == 1


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ((0.0, 0.5, 1.0), "temperature"),
        (("3", 0.5, 1.0), "temperature"),
        ((True, 1.5, 1.0), "temperature"),
        ((3, -0.1, 1.0), "student_loss_weight"),
        ((3, 1.1, 1.0), "student_loss_weight"),
        ((3, 0.5, -1.0), "hint_weight"),
        ((schedules.PiecewiseLinear([0, 5, 9], [1, -1, 2]), 0.5, 1.0), "temperature"),
        ((3, schedules.PiecewiseLinear([0, 5, 9], [0, 2, 1]), 1.0), "student_loss_weight"),
    ],
)
def test_wrong_amounts(wrong, argument):
    with pytest.raises(ValueError, match=f"argument `{argument}`"):
        Amounts(*wrong)
