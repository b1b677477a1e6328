"""Schedules: Zhu & Gupta's formula worked out by hand, update points, tfmot's own schedules."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import schedules


def points(schedule, until):
    found, step = [], -1
    while (step := schedule.next_point(step)) is not None and step <= until:
        found.append(step)
    return found


def test_polynomial_decay_by_hand():
    # s(t) = 0.9 - 0.9 (1 - t/100)^3: at a half 0.9 - 0.9/8, at the end 0.9.
    schedule = schedules.PolynomialDecay(0.0, 0.9, begin_step=100, end_step=200, frequency=50)
    assert [schedule.value(step) for step in (100, 150, 200, 999)] == [0.0, 0.7875, 0.9, 0.9]
    assert points(schedule, 1000) == [100, 150, 200]


def test_polynomial_decay_reaches_its_end_whatever_the_frequency():
    schedule = schedules.PolynomialDecay(0.5, 0.8, begin_step=3, end_step=20, frequency=7)
    assert points(schedule, 1000) == [3, 10, 17, 20]
    assert schedule.value(20) == 0.8
    assert [schedule.last_point(step) for step in (2, 3, 9, 17, 19, 20, 50)] == [
        None,
        3,
        3,
        17,
        17,
        20,
        20,
    ]
    assert schedule.last_point(9, after=3) is None


def test_one_step_decay():
    schedule = schedules.PolynomialDecay(0.1, 0.5, begin_step=4, end_step=4)
    assert points(schedule, 100) == [4]
    assert schedule.value(4) == 0.5


def test_constant_sparsity_goes_on():
    schedule = schedules.ConstantSparsity(0.5, begin_step=10, frequency=5)
    assert points(schedule, 25) == [10, 15, 20, 25]
    assert schedule.value(25) == 0.5
    assert points(schedules.ConstantSparsity(0.5, 10, end_step=17, frequency=5), 99) == [10, 15, 17]


def test_step_portions_and_their_spread():
    schedule = schedules.StepPortions.spread((0.5, 0.75, 1.0), begin_step=10, end_step=40)
    assert schedule.steps == (10, 21, 31)
    assert [schedule.value(step) for step in (9, 10, 30, 31)] == [0.0, 0.5, 0.75, 1.0]
    assert schedule.last_point(40, after=31) is None
    assert schedules.StepPortions.spread((0.5, 1.0), 0, 2).steps == (0, 2)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.PolynomialDecay(0.1, 0.9, 5, 50, power=2, frequency=4),
        schedules.ConstantSparsity(0.3, 2, -1, 7),
        schedules.StepPortions([1, 5], [0.25, 1.0]),
    ],
)
def test_config_round_trip(schedule):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: schedules.PolynomialDecay(1.0, 0.5, 0, 10), "initial_sparsity"),
        (lambda: schedules.PolynomialDecay(0.0, 1.0, 0, 10), "final_sparsity"),
        (lambda: schedules.PolynomialDecay(0.0, -0.1, 0, 10), "final_sparsity"),
        (lambda: schedules.PolynomialDecay(0.0, float("nan"), 0, 10), "final_sparsity"),
        (lambda: schedules.PolynomialDecay(0.0, "0.5", 0, 10), "final_sparsity"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, 10, 9), "end_step"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, 0, -1), "end_step"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, -1, 9), "begin_step"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, 0, 9, frequency=0), "frequency"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, 0, 9, power=0), "power"),
        (lambda: schedules.PolynomialDecay(0.0, 0.5, 0, 9, power="3"), "power"),
        (lambda: schedules.PolynomialDecay(False, 0.5, 0, 9), "initial_sparsity"),
        (lambda: schedules.StepPortions(3, [1.0]), "steps"),
        (lambda: schedules.StepPortions([1], ["1.0"]), "portions"),
        (lambda: schedules.StepPortions([1], [True]), "portions"),
        (lambda: schedules.StepPortions([1], 1.0), "portions"),
        (lambda: schedules.ConstantSparsity(1.5, 0), "target_sparsity"),
        (lambda: schedules.StepPortions([1, 2], [0.5]), "steps"),
        (lambda: schedules.StepPortions([2, 1], [0.5, 1.0]), "steps"),
        (lambda: schedules.StepPortions([1, 2], [0.5, 0.4]), "portions"),
        (lambda: schedules.StepPortions([1], [1.1]), "portions"),
        (lambda: schedules.StepPortions.spread([0.5, 1.0], 0, 1), "portions"),
        (lambda: schedules.get(0.5), "schedule"),
        (lambda: schedules.get(schedules.PolynomialDecay), "schedule"),
    ],
)
def test_bad_input_names_the_argument(make, argument):
    with pytest.raises(ValueError, match=f"argument `{argument}`.*Received: {argument}="):
        make()


@pytest.mark.parametrize("wrong", [1.5, 3.0, True, "3", None, np.float32(3)])
@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("begin_step", lambda n: schedules.ConstantSparsity(0.5, n)),
        ("end_step", lambda n: schedules.PolynomialDecay(0.0, 0.5, 0, n)),
        ("frequency", lambda n: schedules.PolynomialDecay(0.0, 0.5, 0, 9, frequency=n)),
        ("steps", lambda n: schedules.StepPortions([n], [1.0])),
        ("begin_step", lambda n: schedules.StepPortions.spread([1.0], n, 9)),
        ("end_step", lambda n: schedules.StepPortions.spread([1.0], 0, n)),
    ],
)
def test_steps_are_whole_numbers(argument, make, wrong):
    with pytest.raises(ValueError, match=f"argument `{argument}`"):
        make(wrong)
    assert make(np.int32(3)).get_config() == make(3).get_config()


@pytest.mark.tensorflow
def test_tfmot_schedules_work_unchanged():
    tfmot_schedules = pytest.importorskip(
        "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"
    )
    theirs = tfmot_schedules.PolynomialDecay(0.1, 0.8, begin_step=4, end_step=30, frequency=6)
    adapted = schedules.get(theirs)
    due = [step for step in range(60) if bool(theirs(step)[0])]
    assert (
        [s for s in range(60) if adapted.last_point(s, after=s - 1) == s]
        == due
        == [4, 10, 16, 22, 28]
    )
    assert adapted.last_point(60) == 28
    ours = schedules.PolynomialDecay(0.1, 0.8, begin_step=4, end_step=30, frequency=6)
    np.testing.assert_allclose(
        [adapted.value(step) for step in due], [ours.value(step) for step in due], rtol=1e-6
    )

    class EveryThird(tfmot_schedules.PruningSchedule):
        begin_step = 0

        def __call__(self, step):
            return step % 3 == 0, 0.25

        def get_config(self):
            return {}

    own = schedules.get(EveryThird())
    assert own.last_point(8, after=6) is None
    assert own.last_point(8, after=2) == 6
    assert own.value(6) == 0.25


def test_piecewise_linear_by_hand():
    schedule = schedules.PiecewiseLinear([10, 20, 40], [8, 2, 4.0])
    steps = [0, 10, 15, 20, 30, 40, 99]
    assert [schedule.value(step) for step in steps] == [8, 8, 5, 2, 3, 4, 4]
    assert [schedule.next_point(step) for step in (-1, 10, 39, 40)] == [10, 11, 40, None]
    assert [schedule.last_point(step) for step in (9, 10, 15, 99)] == [None, 10, 15, 40]
    assert schedule.last_point(99, after=40) is None
    assert (schedule.first_step, schedule.last_step, schedule.final_value) == (10, 40, 8)
    again = schedules.get(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()


@pytest.mark.parametrize(
    "arguments",
    [([0, 5], [1]), ([], []), ([5, 5], [1, 2]), ([0, 5], "ab"), ([0], [None]), (3, [1])],
)
def test_piecewise_linear_is_checked(arguments):
    with pytest.raises(ValueError, match=r"argument `(steps|values)`"):
        schedules.PiecewiseLinear(*arguments)


@pytest.mark.parametrize("values", [[0, 8], [0.5, -0.1, 0.5]])
@pytest.mark.parametrize("name", ["GradualPruning", "SensitivityPruning", "ChannelPruning"])
def test_a_schedule_of_other_numbers_prunes_nothing(name, values):
    schedule = schedules.PiecewiseLinear(range(len(values)), values)
    with pytest.raises(ValueError, match="argument `schedule`"):
        getattr(tfcomp.callbacks, name)(schedule)
