"""What every callback of tfcomp does: attach projections, follow schedules, report."""

import warnings
import weakref

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core import attachment
from tfcomp.core.projection import check_weights
from tfcomp.validation import invalid


class ProjectionCallback(keras.callbacks.Callback):
    """Keeps chosen weights of a compiled model compressed while `fit` runs, and afterwards.

    Subclasses say which projection a weight gets (`make_projection`), which schedule it follows
    (`make_schedule`), how an amount is shared out (`compress`), and how far a weight is
    (`measure`).

    The life of what is attached:

    * It is attached when `fit` begins and stays when `fit` ends, so that a later `fit` without the
      callback does not undo it; `tfcomp.release` takes it off.
    * Its state is saved in `.keras` and `.weights.h5` files and restored by
      `keras.callbacks.BackupAndRestore`. A file loads with or without the callback; where the
      state was not loaded, the callback finds in the weights what has been done to them.
    * A weight has one projection of each kind. A second callback of the same kind takes the place
      of the first, and callbacks of different kinds compose: what was pruned stays zero, what was
      quantized stays so.

    Args:
        targets: Which weights, in any form `tfcomp.targets.find` takes.
        verbose: 0 for silence, 1 for a line at every update.
    """

    # Options that a dict of targets may override for single weights.
    overrides = ()
    # Name under which `measure` appears in `logs`.
    measures = "sparsity"
    # Whether the amounts of a schedule are what `measure` comes to.
    amount_is_measure = True
    # Whether weights are compressed as far in the first epoch as in the last.
    compresses_at_once = False

    def __init__(self, targets=None, verbose=0):
        super().__init__()
        self.targets = targets
        self.verbose = verbose
        self._bound = None
        self._entries = []
        self._tracks = None
        self._due_in = 0
        self._last_batch = -1

    def make_projection(self, target):
        """Returns the projection of a `Target`."""
        raise NotImplementedError

    def make_schedule(self, target, run):
        """Returns the schedule of a `Target` in a `Run`, or `None` to leave it as it is."""
        return None

    def compress(self, entries, amount):
        """Brings entries that share a schedule to `amount`."""
        for entry in entries:
            value, state = entry.read()
            check_weights(entry.target.path, value)
            entry.write(*entry.projection.update(value, state, amount))

    def measure(self, value, state):
        """How far a weight is: the fraction that `measures` names."""
        raise NotImplementedError

    def set_model(self, model):
        if self._bound is not None and self._bound() is not model:
            raise ValueError(
                f"This {type(self).__name__} was used on another model already. Make a new one for "
                f"model {model.name!r}: a callback knows how far its own model is."
            )
        super().set_model(model)
        if getattr(model, "optimizer", None) is None:
            raise ValueError(
                f"{type(self).__name__} needs a compiled model: call "
                f"`compile` on model {model.name!r} first."
            )
        targets = targets_lib.find(model, self.targets)
        for target in targets:
            self._check_options(target)
            check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
        # What trains, and so is a target, may be another choice than at an earlier run.
        known = {id(entry.variable): entry.projection for entry in self._entries}
        self._entries = [
            attachment.attach(
                model, target, known.get(id(target.variable)) or self.make_projection(target)
            )
            for target in targets
        ]
        self._bound = weakref.ref(model)

    def _check_options(self, target):
        unknown = set(target.options) - set(self.overrides)
        if unknown:
            raise invalid(
                "targets",
                target.options,
                f"overrides for {target.path} among {sorted(self.overrides)}",
            )

    def on_train_begin(self, logs=None):
        # Other callbacks may still restore a checkpoint; the run begins with its first epoch.
        self._tracks = None

    def on_epoch_begin(self, epoch, logs=None):
        self._last_batch = -1
        if self._tracks is None:
            self._begin_run(epoch)

    def on_train_batch_end(self, batch, logs=None):
        self._due_in -= batch - self._last_batch
        self._last_batch = batch
        if self._due_in <= 0:
            self._advance()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs.update(self.report())

    def on_train_end(self, logs=None):
        for track in self._tracks or ():
            track.warn_if_unfinished(self)
        if self._tracks is not None:
            self._settle()

    def _settle(self):
        """Compresses what others have put into the variables at the end of the run."""
        # Keras itself puts averages over the run there.
        averaged = getattr(attachment.innermost(self.model.optimizer), "use_ema", False)
        changed = []
        for entry in self._entries:
            value, state = entry.read()
            if entry.projection.is_stale(value, state):
                entry.write_state(entry.projection.adopt(value, state))
            settled = entry.settled(value) if averaged or not self.compresses_at_once else value
            if not np.array_equal(settled, value, equal_nan=True):
                entry.variable.assign(settled)
                changed.append(entry.target.path)
        if changed and not averaged:
            warnings.warn(
                f"{type(self).__name__}: when the run ended, weights were set that are not "
                f"compressed as they were to be ({', '.join(changed)}), from an earlier epoch if "
                "EarlyStopping restored its best. They have been compressed without training.",
                stacklevel=2,
            )

    def report(self, entries=None):
        """Returns the measures of all targets and their total, as they appear in `logs`."""
        sizes, parts = [], {}
        for entry in self._entries if entries is None else entries:
            value, state = entry.read()
            sizes.append(value.size)
            parts[f"{self.measures}/{entry.target.path}"] = float(self.measure(value, state))
        total = sum(size * part for size, part in zip(sizes, parts.values())) / sum(sizes)
        return {self.measures: total, **parts}

    def _begin_run(self, epoch):
        run = Run(self.model.optimizer, self.params, epoch)
        if self._entries[0].restored:
            # A run that was broken off keeps its plan, whatever steps it has left out.
            run.begin, run.end = map(int, keras.ops.convert_to_numpy(self._entries[0].run.value))
        for entry in self._entries:
            restored, entry.restored = entry.restored, False
            entry.run.assign([run.begin, run.end])
            value, state = entry.read()
            if entry.fresh or (not restored and entry.projection.is_stale(value, state)):
                entry.write_state(entry.projection.adopt(value, state))
                entry.fresh = False
        tracks = {}
        for entry in self._entries:
            schedule = self.make_schedule(entry.target, run)
            if schedule is not None:
                track = tracks.setdefault(id(schedule), _Track(schedule))
                track.entries.append(entry)
        self._tracks = list(tracks.values())
        for track in self._tracks:
            track.warn_if_out_of_step(self, run)
        self._advance()

    def _advance(self):
        """Does the updates that have fallen due and notes when to look again."""
        optimizer = self.model.optimizer
        step = current_step(optimizer)
        upcoming = []
        for track in self._tracks or ():
            point = track.schedule.last_point(step, after=track.done)
            if point is not None:
                amount = track.schedule.value(point)
                self.compress(track.entries, amount)
                track.done = point
                if self.verbose:
                    reached = amount
                    if not self.amount_is_measure:
                        reached = self.report(track.entries)[self.measures]
                    print(f"\n{type(self).__name__}: step {point}: {self.measures} {reached:.4f}")
            following = track.schedule.next_point(step)
            if following is not None:
                upcoming.append(following)
        # A lower bound on the batches until then: some only accumulate gradients.
        batches = accumulation_steps(optimizer)
        wait = min(upcoming, default=None)
        self._due_in = float("inf") if wait is None else (wait - step - 1) * batches + 1


class _Track:
    """Entries that follow one schedule together."""

    def __init__(self, schedule):
        self.schedule = schedule
        self.entries = []
        self.done = -1

    def warn_if_out_of_step(self, callback, run):
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
        if last is not None and run.end and last > run.end:
            warnings.warn(
                f"{name}: {schedule} ends at step {last}, but this run ends at step {run.end}, so "
                "its final value is not reached.",
                stacklevel=2,
            )

    def warn_if_unfinished(self, callback):
        """For schedules that were made to fit the run."""
        if getattr(callback, "fits_run", False) and self.done < self.schedule.last_step:
            warnings.warn(
                f"{type(callback).__name__}: the run ended before step {self.schedule.last_step}, "
                "so some weights are not compressed yet; go on with another `fit`.",
                stacklevel=2,
            )


class Run:
    """What is known of a `fit` when its first epoch begins, in optimizer steps.

    Attributes:
        step: Step at which it begins now.
        begin: Step at which its epoch 0 began, or would have.
        end: Step at which it ends, or 0 where the length of an epoch is not known.
    """

    def __init__(self, optimizer, params, epoch):
        self.step = current_step(optimizer)
        self.begin = self.end = 0
        steps, epochs = params.get("steps"), params.get("epochs")
        if steps is not None and epochs is not None:
            each = accumulation_steps(optimizer)
            self.begin = max(0, self.step - epoch * steps // each)
            self.end = self.step + (epochs - epoch) * steps // each


def current_step(optimizer):
    """Optimizer updates so far."""
    iterations = optimizer.iterations
    if isinstance(iterations, keras.Variable):
        iterations = iterations.value
    return int(keras.ops.convert_to_numpy(iterations))


def accumulation_steps(optimizer):
    """Batches for one optimizer update."""
    return getattr(attachment.innermost(optimizer), "gradient_accumulation_steps", None) or 1
