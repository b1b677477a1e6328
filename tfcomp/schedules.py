"""Schedules: how much of a weight is compressed at which optimizer step.

A schedule answers two questions, both about `optimizer.iterations`: at which steps does the amount
change (`last_point`, `next_point`), and what is it there (`value`). Steps count from the creation
of the optimizer, as in tfmot, so a resumed run continues its schedule exactly.
"""

import itertools

import keras
import numpy as np

from tfcomp.config import Configured
from tfcomp.validation import check_integer, check_number, invalid


class Schedule(Configured):
    """Base of all schedules. Subclasses define `value`, `last_point` and `next_point`."""

    def value(self, step):
        """The amount in force from the update point `step` on."""
        raise NotImplementedError

    def last_point(self, step, after=-1):
        """The latest update point in `(after, step]`, or `None`."""
        raise NotImplementedError

    def next_point(self, step):
        """The earliest update point later than `step`, or `None` when there is none left."""
        raise NotImplementedError

    @property
    def first_step(self):
        """The first update point."""
        return self.next_point(-1)

    @property
    def last_step(self):
        """The step from which the amount is final, or `None` where that is never known."""
        return None

    @property
    def final_value(self):
        """The largest amount the schedule comes to, or `None` where that is not known."""
        return None


def _check_sparsity(name, value):
    check_number(name, value, 0, below=1)
    return float(value)


class _Periodic(Schedule):
    """Update points every `frequency` steps from `begin_step`, and one at `end_step`."""

    def __init__(self, begin_step, end_step, frequency):
        self.begin_step = check_integer("begin_step", begin_step, 0)
        self.frequency = check_integer("frequency", frequency, 1)
        endless = end_step is None or end_step == -1
        self.end_step = None if endless else check_integer("end_step", end_step, self.begin_step)

    def last_point(self, step, after=-1):
        if step < self.begin_step:
            return None
        if self.end_step is not None and step >= self.end_step:
            point = self.end_step
        else:
            point = step - (step - self.begin_step) % self.frequency
        return point if point > after else None

    def next_point(self, step):
        if step < self.begin_step:
            return self.begin_step
        if self.end_step is None:
            return self.last_point(step) + self.frequency
        if step >= self.end_step:
            return None
        return min(self.last_point(step) + self.frequency, self.end_step)

    @property
    def last_step(self):
        return self.end_step


@keras.saving.register_keras_serializable("tfcomp")
class PolynomialDecay(_Periodic):
    """Sparsity that rises fast and levels off: Zhu & Gupta's schedule.

    `s(t) = final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power`, evaluated every
    `frequency` steps from `begin_step` on, and at `end_step` whatever the frequency.

    Args:
        initial_sparsity: Sparsity at `begin_step`, in [0, 1).
        final_sparsity: Sparsity from `end_step` on, in [0, 1).
        begin_step: Optimizer step of the first mask.
        end_step: Optimizer step of the last mask.
        power: Exponent; 3 in the paper, 1 for a linear rise.
        frequency: Steps between masks.

    Raises:
        ValueError: If a sparsity is outside [0, 1), or the end comes before the beginning.

    Reference:
        Michael Zhu, Suyog Gupta, "To prune, or not to prune", arXiv:1710.01878.

    Example:

    >>> import tfcomp
    >>> schedule = tfcomp.schedules.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=1000)
    >>> round(schedule.value(500), 3)
    0.7
    """

    def __init__(
        self, initial_sparsity, final_sparsity, begin_step, end_step, power=3, frequency=100
    ):
        if end_step is None or end_step == -1:
            raise invalid("end_step", end_step, "an integer: a decay needs an end")
        super().__init__(begin_step, end_step, frequency)
        self.initial_sparsity = _check_sparsity("initial_sparsity", initial_sparsity)
        self.final_sparsity = _check_sparsity("final_sparsity", final_sparsity)
        check_number("power", power, above=0)
        self.power = power

    def value(self, step):
        span = self.end_step - self.begin_step
        left = 0.0 if step >= self.end_step else 1 - (step - self.begin_step) / span
        rise = self.initial_sparsity - self.final_sparsity
        return self.final_sparsity + rise * min(left, 1.0) ** self.power

    @property
    def final_value(self):
        return max(self.initial_sparsity, self.final_sparsity)

    def get_config(self):
        return {
            "initial_sparsity": self.initial_sparsity,
            "final_sparsity": self.final_sparsity,
            "begin_step": self.begin_step,
            "end_step": self.end_step,
            "power": self.power,
            "frequency": self.frequency,
        }


@keras.saving.register_keras_serializable("tfcomp")
class ConstantSparsity(_Periodic):
    """One sparsity from `begin_step` on, its mask chosen anew every `frequency` steps.

    Args:
        target_sparsity: Sparsity in [0, 1).
        begin_step: Optimizer step of the first mask.
        end_step: Optimizer step of the last mask; -1 or `None` to go on for ever.
        frequency: Steps between masks.

    Raises:
        ValueError: If the sparsity is outside [0, 1), or the end comes before the beginning.
    """

    def __init__(self, target_sparsity, begin_step, end_step=-1, frequency=100):
        super().__init__(begin_step, end_step, frequency)
        self.target_sparsity = _check_sparsity("target_sparsity", target_sparsity)

    def value(self, step):
        return self.target_sparsity

    @property
    def last_step(self):
        return self.begin_step

    @property
    def final_value(self):
        return self.target_sparsity

    def get_config(self):
        return {
            "target_sparsity": self.target_sparsity,
            "begin_step": self.begin_step,
            "end_step": -1 if self.end_step is None else self.end_step,
            "frequency": self.frequency,
        }


@keras.saving.register_keras_serializable("tfcomp")
class StepPortions(Schedule):
    """Given portions at given steps: INQ's accumulated portions, a staircase of sparsities.

    Args:
        steps: Increasing optimizer steps.
        portions: Rising amounts in (0, 1], one for each step.

    Raises:
        ValueError: If the two differ in length or do not rise.

    Example:

    >>> import tfcomp
    >>> schedule = tfcomp.schedules.StepPortions([0, 100, 200], [0.5, 0.75, 1.0])
    >>> schedule.last_point(150), schedule.value(150), schedule.next_point(150)
    (100, 0.75, 200)
    """

    def __init__(self, steps, portions):
        self.portions = check_portions(portions)
        self.steps = _increasing(steps)
        if len(self.steps) != len(self.portions):
            raise invalid("steps", steps, f"one step for each of the {len(self.portions)} portions")

    @classmethod
    def spread(cls, portions, begin_step, end_step):
        """Spreads portions over a run, which they divide into equal parts.

        The first comes before the first step of the run. The others come after the first step of
        their part and not before it, so that what is measured at the end of an epoch is the part
        that has just been trained.

        Args:
            portions: Rising amounts in (0, 1].
            begin_step: Optimizer step at which the run begins.
            end_step: Optimizer step at which it ends; the last portion comes before it.

        Raises:
            ValueError: If the run has fewer steps than there are portions.
        """
        portions = check_portions(portions)
        begin_step = check_integer("begin_step", begin_step, 0)
        end_step = check_integer("end_step", end_step, 0)
        if end_step - begin_step < len(portions):
            raise invalid(
                "portions",
                portions,
                f"at most as many portions as the run has steps ({end_step - begin_step})",
            )
        span = (end_step - begin_step) / len(portions)
        return cls([begin_step + int(i * span) + (i > 0) for i in range(len(portions))], portions)

    def value(self, step):
        reached = [p for s, p in zip(self.steps, self.portions) if s <= step]
        return reached[-1] if reached else 0.0

    def last_point(self, step, after=-1):
        return max((s for s in self.steps if after < s <= step), default=None)

    def next_point(self, step):
        return min((s for s in self.steps if s > step), default=None)

    @property
    def last_step(self):
        return self.steps[-1]

    @property
    def final_value(self):
        return self.portions[-1]

    def get_config(self):
        return {"steps": list(self.steps), "portions": list(self.portions)}


@keras.saving.register_keras_serializable("tfcomp")
class PiecewiseLinear(Schedule):
    """Values at given steps, and straight lines between them.

    Before the first step and after the last the value stays. For what may be any number, such as
    the temperature of `tfcomp.distill`.

    Args:
        steps: Increasing optimizer steps.
        values: Numbers, one for each step.

    Raises:
        ValueError: If the two differ in length, steps do not increase, or a value is no number.

    Example:

    >>> import tfcomp
    >>> schedule = tfcomp.schedules.PiecewiseLinear([0, 100], [8, 2])
    >>> schedule.value(0), schedule.value(50), schedule.value(500)
    (8.0, 5.0, 2.0)
    """

    def __init__(self, steps, values):
        self.steps = _increasing(steps)
        if isinstance(values, str) or not np.iterable(values):
            raise invalid("values", values, "numbers, one for each step")
        self.values = tuple(values)
        for value in self.values:
            check_number("values", value)
        if len(self.steps) != len(self.values) or not self.steps:
            raise invalid("values", values, f"one number for each of the {len(self.steps)} steps")

    def value(self, step):
        return float(np.interp(step, self.steps, self.values))

    def last_point(self, step, after=-1):
        point = min(step, self.steps[-1])
        return point if point >= self.steps[0] and point > after else None

    def next_point(self, step):
        return None if step >= self.steps[-1] else max(step + 1, self.steps[0])

    @property
    def last_step(self):
        return self.steps[-1]

    @property
    def final_value(self):
        return float(max(self.values))

    def get_config(self):
        return {"steps": list(self.steps), "values": list(self.values)}


def _increasing(steps):
    """Steps as a tuple of integers; raises unless they increase."""
    if not np.iterable(steps):
        raise invalid("steps", steps, "increasing steps")
    steps = tuple(check_integer("steps", step, 0) for step in steps)
    if any(a >= b for a, b in itertools.pairwise(steps)):
        raise invalid("steps", steps, "increasing steps")
    return steps


def check_portions(portions):
    """Returns the portions as a tuple; raises unless they rise within (0, 1]."""
    if isinstance(portions, str) or not np.iterable(portions):
        raise invalid("portions", portions, "rising floats in (0, 1]")
    portions = list(portions)
    for portion in portions:
        check_number("portions", portion, above=0)
    values = tuple(map(float, portions))
    if not values or any(a >= b for a, b in itertools.pairwise(values)) or values[-1] > 1:
        raise invalid("portions", portions, "rising floats in (0, 1]")
    return values


class _Tfmot(Schedule):
    """A tfmot `PruningSchedule`, called as tfmot calls it: `step -> (is due, sparsity)`."""

    def __init__(self, schedule):
        self.schedule = schedule
        self._begin = int(getattr(schedule, "begin_step", 0))
        end = getattr(schedule, "end_step", None)
        self._end = None if end is None or end < 0 else int(end)

    def _is_due(self, step):
        return bool(self.schedule(step)[0])

    def value(self, step):
        return float(self.schedule(step)[1])

    def last_point(self, step, after=-1):
        latest = step if self._end is None else min(step, self._end)
        earliest = max(after + 1, self._begin)
        return next((s for s in range(latest, earliest - 1, -1) if self._is_due(s)), None)

    def next_point(self, step):
        # What a user's own schedule will answer is unknown: ask at every step.
        step = max(step + 1, self._begin)
        return None if self._end is not None and step > self._end else step

    @property
    def last_step(self):
        return self._end

    @property
    def final_value(self):
        return None if self._end is None else self.value(self._end)

    def __repr__(self):
        return f"{type(self.schedule).__name__}(tfmot)"


def get_share(schedule, argument="schedule"):
    """As `get`, of amounts in [0, 1] as far as these are known.

    Raises:
        ValueError: If it is no schedule, or one of other numbers.
    """
    found = get(schedule, argument)
    known = [found.final_value or 0.0, *getattr(found, "values", ())]
    if min(known) < 0 or max(known) > 1:
        raise invalid(argument, schedule, "a schedule of amounts from 0 to 1")
    return found


def get(schedule, argument="schedule"):
    """Returns a `Schedule`; a tfmot `PruningSchedule` is taken as it is.

    Args:
        schedule: A `Schedule`, a tfmot `PruningSchedule` (or any callable of a step that returns
            whether it is due and the sparsity), or the config dict of a `Schedule`.
        argument: Name of the argument, for error messages.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(schedule, dict):
        schedule = keras.saving.deserialize_keras_object(schedule)
    if isinstance(schedule, Schedule):
        return schedule
    if callable(schedule) and hasattr(schedule, "begin_step") and not isinstance(schedule, type):
        return _Tfmot(schedule)
    raise invalid(
        argument,
        schedule,
        "a schedule such as tfcomp.schedules.PolynomialDecay(0.0, 0.9, begin_step=0, "
        "end_step=1000), or a tfmot PruningSchedule",
    )
