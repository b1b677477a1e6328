"""What every callback of tfcomp does: attach projections, follow schedules, report."""

import warnings
import weakref

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp import targets as targets_lib
from tfcomp.core import hooks
from tfcomp.core.attachment import attach, detach, entries_of
from tfcomp.core.entry import as_numpy
from tfcomp.core.optimizers import accumulation_steps, current_step, leaves
from tfcomp.core.projection import check_weights, check_zeros
from tfcomp.core.run import Pace, Run, Track
from tfcomp.validation import check_verbose, invalid


class ProjectionCallback(keras.callbacks.Callback):
    """Keeps chosen weights of a model compressed while it trains, and afterwards.

    Subclasses say which projection a weight gets (`make_projection`), which schedule it follows
    (`make_schedule`), how an amount is shared out (`compress`), and how far a weight is
    (`measure`).

    The life of what is attached:

    * It is attached when `fit` begins and stays when `fit` ends, so that a later `fit` without the
      callback does not undo it; `tfcomp.release` takes it off.
    * Its state is saved in `.weights.h5` files and restored by `keras.callbacks.BackupAndRestore`.
      A file loads with or without the callback; where the state was not loaded, the callback finds
      in the weights what has been done to them.
    * A weight has one projection of each kind. A second callback of the same kind takes the place
      of the first, and callbacks of different kinds compose: what was pruned stays zero, what was
      quantized stays so.

    Attributes:
        overrides: Options that a dict of targets may override for single weights.
        measures: Name under which `measure` appears in `logs`.
        amount_is_measure: Whether the amounts of a schedule are what `measure` comes to. Where
            not, `verbose` prints what was measured after the update, in place of the amount, and a
            schedule whose begin has long gone by when the run begins is not warned of.
        compresses_at_once: Whether weights are compressed as far in the first epoch as in the last.
            Where not, what others put into the variables, such as the weights of an earlier epoch
            that `EarlyStopping` restores, is compressed anew when `fit` ends.
        compresses_at_end: Whether weights are compressed when the run has ended, and not before.
        fits_run: Whether the schedule was made to fit the run. A run that ends before it is warned
            of, then.

    Args:
        targets: Which weights, in any form `tfcomp.targets.find` takes.
        verbose: 0 for silence, 1 or 2 for a line at every update.
        optimizer: `None` for the optimizer that the model is compiled with; where another one
            trains the weights, as in a GAN, that one, or the name of the model's attribute that it
            is, `"generator_optimizer"` for example.
    """

    overrides = ()
    measures = "sparsity"
    amount_is_measure = True
    compresses_at_once = False
    compresses_at_end = False
    fits_run = False
    # What a copy of the callback, for another model, begins without.
    fleeting = ("_model", "_bound", "_entries", "_tracks", "_optimizer")

    def __init__(self, targets=None, verbose=0, optimizer=None):
        super().__init__()
        if optimizer is not None and not isinstance(optimizer, (str, keras.optimizers.Optimizer)):
            raise invalid("optimizer", optimizer, "None, an optimizer or the name of an attribute")
        self.targets = targets
        self.optimizer = optimizer
        self.verbose = check_verbose(verbose)
        self._begin_life()

    def _begin_life(self):
        self._model = None
        self._bound = None
        self._entries = []
        self._tracks = None
        self._optimizer = None
        self._due_in = 0
        self._last_batch = -1
        self._pace = None
        self._in_batch = False
        self._epoch_began_at = None

    def __getstate__(self):
        return {name: v for name, v in vars(self).items() if name not in self.fleeting}

    def __setstate__(self, state):
        self._begin_life()
        vars(self).update(state)

    def find_targets(self, model):
        """Lists the `tfcomp.targets.Target` of the weights that get a projection."""
        return targets_lib.find(model, self.targets)

    def make_projection(self, target):
        """Makes the projection of one weight.

        Args:
            target: `tfcomp.targets.Target`, whose `options` are what `targets` overrides for it.

        Returns:
            A new `tfcomp.projections.Projection`.
        """
        raise NotImplementedError

    def make_schedule(self, target, run):
        """Chooses the schedule that one weight follows in a run.

        Args:
            target: `tfcomp.targets.Target`.
            run: The run that begins, with attributes in optimizer steps: `step`, where it begins
                now; `begin`, where its epoch 0 began; `end`, or 0 where that is not known; and
                `epochs`, how many it has, or `None`.

        Returns:
            A `tfcomp.schedules.Schedule`, or `None` for no updates. Weights that are given one and
            the same object are handed to `compress` together.
        """
        return None

    def compress(self, entries, amount):
        """Brings weights that share a schedule to an amount, by `Projection.update` of each.

        Args:
            entries: List of the weights' entries: `entry.read()` returns the value and the state as
                NumPy arrays, `entry.write(value, state)` sets them; `entry.target` and
                `entry.projection` are what the weight is and what it got.
            amount: Float, the value of the schedule at the point that has been reached.
        """
        for entry in entries:
            value, state = entry.read()
            check_weights(entry.target.path, value)
            entry.write(*entry.projection.update(value, state, amount))

    def measure(self, value, state):
        """How far a weight is, as `logs` say it.

        Args:
            value: NumPy array, the weight.
            state: Dict of NumPy arrays, the state of its projection.

        Returns:
            The fraction that `measures` names, in [0, 1]; by default that of zeros.
        """
        return np.mean(value == 0)

    @property
    def is_complete(self):
        """Whether every target is compressed as far as it is going to be."""
        return bool(self._entries) and all(entry.complete for entry in self._entries)

    def set_model(self, model):
        if self._bound is not None and self._bound() is not model:
            raise ValueError(
                f"This {type(self).__name__} was used on another model already. Make a new one for "
                f"model {model.name!r}: a callback knows how far its own model is."
            )
        super().set_model(model)
        self._bound = weakref.ref(model)
        self._optimizer = self._find_optimizer(model)
        layers = [site.layer for site in targets_lib.layer_sites(model)]
        if model.variables and (model.built or all(layer.built for layer in layers)):
            self.attach(model)
        # Else the first step makes the weights.

    def _find_optimizer(self, model):
        name = self.optimizer
        optimizer = getattr(model, name, None) if isinstance(name, str) else name
        if name is None:
            optimizer = getattr(model, "optimizer", None)
            if optimizer is None:
                raise ValueError(
                    f"{type(self).__name__} needs a compiled model: call `compile` on model "
                    f"{model.name!r} first, or pass the optimizer of your own training loop as "
                    "`optimizer`."
                )
        elif not isinstance(optimizer, keras.optimizers.Optimizer):
            raise invalid("optimizer", name, f"the name of an optimizer of model {model.name!r}")
        return optimizer

    def attach(self, model):
        """Attaches a projection to every target of a model."""
        targets = self.find_targets(model)
        for target in targets:
            self._check_options(target)
            check_weights(target.path, as_numpy(target.variable))
        self._warn_of_frozen(targets)
        # What trains, and so is a target, may be another choice than at an earlier run.
        known = {id(entry.variable): entry.projection for entry in self._entries}
        made = [known.get(id(t.variable)) or self.make_projection(t) for t in targets]
        for target, projection in zip(targets, made):
            check_zeros(target, projection)
        given = None if self.optimizer is None else self._optimizer
        before, entries = entries_of(model), []
        try:
            for target, projection in zip(targets, made):
                entries.append(attach(model, target, projection, given))
        except BaseException:
            for entry in entries:
                if entry not in before:
                    detach(entry)
            raise
        self._entries = entries
        for entry in self._entries:
            entry.followed = True

    def _warn_of_frozen(self, targets):
        frozen = [target.path for target in targets if not target.variable.trainable]
        if frozen:
            warnings.warn(
                f"{type(self).__name__}: {', '.join(frozen)} do not train (`trainable=False`), but "
                "`targets` names them, so they are compressed without training.",
                stacklevel=3,
            )

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
        self._in_batch = False
        self._epoch_began_at = self._batches()
        self._begin(epoch)
        # How many steps a batch has is seen by looking.
        self._due_in = 1

    def on_train_batch_begin(self, batch, logs=None):
        # A loop of one's own may leave out `on_epoch_begin`, and the end of the batch before.
        if self._in_batch:
            self.on_train_batch_end(batch - 1)
        self._in_batch = True
        self._begin()

    def on_train_batch_end(self, batch, logs=None):
        self._in_batch = False
        if not self._entries:
            self.attach(self.model)
            # The run is under way, with a step that was made without what is attached.
            self.model.make_train_function(force=True)
        self._begin()
        # Numbers that do not rise are those of a loop of one's own.
        passed = max(batch - self._last_batch, 1)
        self._due_in -= passed
        self._pace.pass_by(passed)
        self._last_batch = batch
        if self._due_in <= 0:
            self._advance()

    def on_epoch_end(self, epoch, logs=None):
        if self._in_batch:
            self.on_train_batch_end(self._last_batch + 1)
        self._warn_if_idle()
        if logs is not None and self._entries:
            logs.update(self.report())

    def on_train_end(self, logs=None):
        if self._tracks is None:
            return
        for track in self._tracks:
            track.warn_if_unfinished(self)
        self._settle()
        self._warn_of_files()
        # EarlyStopping, later in the list, may set weights yet.
        hooks.when_all_are_done(self, self._settle)

    def _begin(self, epoch=0):
        if self._tracks is None and self._entries:
            self._begin_run(epoch)

    def _step(self):
        # Asking for the model brings its variables up to date on JAX.
        return current_step(self._optimizer) if self.model is not None else 0

    def _batches(self):
        _ = self.model
        return sum(int(as_numpy(keras_private.batches(o))) for o in leaves(self._optimizer))

    def _warn_if_idle(self):
        if self._epoch_began_at is not None and self._batches() == self._epoch_began_at:
            warnings.warn(
                f"{type(self).__name__}: {self._optimizer.name!r} did no step in this epoch, and "
                "schedules go by its steps, so nothing is compressed. If another optimizer trains "
                "the model, pass that one, or the name of the model's attribute, as `optimizer`.",
                stacklevel=2,
            )

    def _warn_of_files(self):
        homes = {id(entry.home): entry.home for entry in self._entries}
        if self.is_complete and any(home.saved is False for home in homes.values()):
            warnings.warn(
                f"{type(self).__name__}: when the model was last saved in this run, it was not yet "
                "compressed as far as it is now. If a callback keeps the best epoch, let it count "
                "only those at whose end it is: `tfcomp.callbacks.OnceCompressed(callback)`.",
                stacklevel=3,
            )
        for home in homes.values():
            home.saved = None

    def _settle(self):
        """Compresses what others have put into the variables at the end of the run."""
        # Keras itself puts averages over the run there.
        averaged = any(getattr(o, "use_ema", False) for o in leaves(self._optimizer))
        changed = []
        for entry in filter(lambda entry: entry.is_attached, self._entries):
            if entry.latent and entry.is_stale:
                entry.adopt()
            value = as_numpy(entry.variable)
            settled = value
            if averaged or not self.compresses_at_once:
                for each in entry.variable.constraint.entries:
                    settled = each.settled(settled)
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

    def _diverged(self):
        return not all(np.all(np.isfinite(entry.read()[0])) for entry in self._entries)

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
        _ = self.model
        run = Run(self._optimizer, self.params, epoch)
        if self._entries[0].restored:
            # A run that was broken off keeps its plan, whatever steps it has left out.
            run.begin, run.end = map(int, as_numpy(self._entries[0].run))
        for entry in self._entries:
            restored, entry.restored, entry.followed = entry.restored, False, False
            entry.home.saved = None
            entry.run.assign([run.begin, run.end])
            if entry.fresh or (not restored and entry.is_stale):
                entry.adopt()
        tracks = {}
        for entry in self._entries:
            schedule = self.make_schedule(entry.target, run)
            entry.complete = schedule is None and not self.compresses_at_end
            if schedule is not None:
                tracks.setdefault(id(schedule), Track(schedule)).entries.append(entry)
        self._tracks = list(tracks.values())
        self._pace = Pace(self._batches())
        for track in self._tracks:
            track.warn_if_out_of_step(self, run)
        self._advance()

    def _advance(self):
        """Does the updates that have fallen due and notes when to look again."""
        if getattr(self.model, "stop_training", False) and self._diverged():
            # Another callback has seen it.
            return
        step = self._step()
        upcoming = []
        for track in self._tracks or ():
            point = track.schedule.last_point(step, after=track.done)
            if point is not None:
                amount = track.schedule.value(point)
                track.entries = [entry for entry in track.entries if entry.is_attached]
                if track.entries:
                    self.compress(track.entries, amount)
                track.done = point
                if self.verbose:
                    reached = amount
                    if not self.amount_is_measure:
                        reached = self.report(track.entries)[self.measures]
                    print(f"\n{type(self).__name__}: step {point}: {self.measures} {reached:.4f}")
            for entry in track.entries:
                entry.complete = track.is_complete
            following = track.schedule.next_point(step)
            if following is not None:
                upcoming.append(following)
        # A lower bound on the batches until then: some only accumulate gradients, and some, such as
        # those of a critic, have several steps.
        pace = self._pace.per_batch(self._batches())
        wait = min(upcoming, default=None)
        if wait is None:
            self._due_in = float("inf")
        else:
            self._due_in = (wait - step - 1) * accumulation_steps(self._optimizer) // pace + 1
