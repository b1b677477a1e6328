"""Numbers of a distillation that may follow a schedule."""

from tfcomp import keras_private, schedules
from tfcomp.validation import check_number


class Amounts:
    """Temperature and weights: numbers as they are, schedules as variables.

    Attributes:
        temperature: `T`.
        hottest: The highest `T` that is known to come.
        student_loss_weight: Weight of the student's own loss.
        hint_weight: Weight of the loss between hints.
        followed: Dict from a name to a pair of a variable and the schedule that it follows; empty
            before `make`.
    """

    def __init__(self, temperature, student_loss_weight, hint_weight):
        self.temperature = _checked("temperature", temperature, above=0)
        self.hottest = max(_values(self.temperature))
        self.student_loss_weight = _checked("student_loss_weight", student_loss_weight, least=0)
        for value in _values(student_loss_weight):
            check_number("student_loss_weight", 1 - value, 0)
        self.hint_weight = _checked("hint_weight", hint_weight, least=0)
        self.followed = {}

    @property
    def needs_labels(self):
        """Whether the student's own loss counts, ever."""
        return self.student_loss_weight != 0

    def make(self):
        """Makes variables in the place of schedules."""
        for name, value in list(vars(self).items()):
            if isinstance(value, schedules.Schedule):
                variable = keras_private.Weight(
                    value.value(value.first_step),
                    trainable=False,
                    dtype="float32",
                    aggregation="only_first_replica",
                    name=name,
                )
                self.followed[name] = variable, value
                setattr(self, name, variable)

    def variables(self):
        """List of the variables."""
        return [variable for variable, _ in self.followed.values()]


def _values(amount):
    """What an amount is known to come to."""
    if not isinstance(amount, schedules.Schedule):
        return [amount]
    points = {amount.first_step, amount.last_step} - {None}
    return [amount.value(point) for point in points] + list(getattr(amount, "values", ()))


def _checked(name, amount, **limits):
    if isinstance(amount, dict) or not isinstance(amount, (int, float)):
        amount = schedules.get(amount, name)
    for value in _values(amount):
        check_number(name, value, **limits)
    return amount if isinstance(amount, schedules.Schedule) else float(amount)
