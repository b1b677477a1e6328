"""What is known of a `fit`, and the schedules that are followed in it."""

import warnings

from tfcomp import schedules
from tfcomp.core.optimizers import accumulation_steps, current_step
from tfcomp.validation import invalid


class Run:
    """What is known of a `fit` when its first epoch begins, in optimizer steps.

    Attributes:
        step: Step at which it begins now.
        begin: Step at which its epoch 0 began, or would have.
        end: Step at which it ends, or 0 where that is not known.
        epochs: How many epochs it has, or `None`.
    """

    def __init__(self, optimizer, params, epoch):
        self.step = current_step(optimizer)
        self.begin = self.end = 0
        # A loop of one's own may say nothing of itself.
        params = params or {}
        steps, self.epochs = params.get("steps"), params.get("epochs")
        if steps is not None and self.epochs is not None:
            each = accumulation_steps(optimizer)
            self.begin = max(0, self.step - epoch * steps // each)
            self.end = self.step + (self.epochs - epoch) * steps // each

    def spread(self, portions, what):
        """`StepPortions` of portions that divide the run into equal parts.

        Args:
            portions: Rising amounts in (0, 1].
            what: What there is one step for, `"round"` for instance, for the error message.
        """
        if not self.end:
            raise invalid(
                "steps",
                None,
                f"optimizer steps, one for each {what}, where the length of an epoch is not known "
                "(or pass `steps_per_epoch` to `fit`)",
            )
        return schedules.StepPortions.spread(portions, self.begin, self.end)


class Pace:
    """How many times an optimizer is applied in a batch, as far as a run has shown it.

    Args:
        applied: How many times it was applied when the run began.
    """

    def __init__(self, applied):
        self._begin, self._batches, self._most = applied, 0, 1

    def pass_by(self, batches):
        """Notes batches that have ended."""
        self._batches += batches

    def per_batch(self, applied):
        """The largest number seen, at least 1.

        Args:
            applied: How many times it was applied by now.
        """
        if self._batches:
            self._most = max(self._most, -(-(applied - self._begin) // self._batches))
        return self._most


class Track:
    """Entries that follow one schedule together."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.entries = []
        self.done = -1

    @property
    def is_complete(self):
        """Whether the schedule has come to its largest amount, or to its end."""
        if self.done < 0:
            return False
        final, last = self.schedule.final_value, self.schedule.last_step
        if final is not None and self.schedule.value(self.done) >= final:
            return True
        return (
            self.done >= last if last is not None else self.schedule.next_point(self.done) is None
        )

    def warn_if_out_of_step(self, callback, run):
        """Warns of a schedule that begins in the middle or that does not come to its end."""
        name, schedule = type(callback).__name__, self.schedule
        point = schedule.last_point(run.step)
        late = point is not None and point > schedule.first_step
        if late and callback.amount_is_measure:
            jump = schedule.value(point) - callback.report(self.entries)[callback.measures]
            if jump > 0.1:
                warnings.warn(
                    f"{name}: the optimizer has done {run.step} steps, by which {schedule} is at "
                    f"{schedule.value(point):.2f}, so {jump:.2f} is compressed at once. Steps "
                    "count from the creation of the optimizer: compile the model again, or begin "
                    "the schedule later.",
                    stacklevel=2,
                )
        last = schedule.last_step
        # How often an optimizer of a model's own steps in a batch is not known yet.
        known = run.end and callback.optimizer is None
        if last is not None and known and last > run.end:
            warnings.warn(
                f"{name}: {schedule} ends at step {last}, but this run ends at step {run.end}, so "
                "its final value is not reached.",
                stacklevel=2,
            )

    def warn_if_unfinished(self, callback):
        """Warns where a schedule was not gone through, unless it was known when the run began."""
        last = self.schedule.last_step
        was_known = not callback.fits_run and callback.optimizer is None
        if last is not None and not was_known and self.done < last:
            warnings.warn(
                f"{type(callback).__name__}: the run ended before step {last}, "
                "so some weights are not compressed yet; go on with another `fit`.",
                stacklevel=2,
            )
