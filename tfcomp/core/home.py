"""What is attached to one optimizer, and how its files hold it."""

import functools
import weakref

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.core.entry import as_numpy
from tfcomp.core.optimizers import variable_scope
from tfcomp.core.step import Projected


class Home:
    """Everything attached to one optimizer.

    A plain object, so that neither Keras nor TensorFlow tracks what it refers to.

    Attributes:
        optimizer: The optimizer whose steps train the variables.
        patched: List of the optimizers that are patched for it: itself, and what is around it.
        entries: List of `Entry`, in the order in which they were attached.
        given: Whether a user named the optimizer; then it is not that of `compile`.
        saved: Whether the entries were complete when the model was last saved in this run, or
            `None`.
        scope: Function that returns the context in which variables are made.
        replicas: How many replicas add up their gradients.
    """

    def __init__(self, model, outer, optimizer, given):
        self.optimizer = optimizer
        self.patched = list({id(each): each for each in (outer, optimizer)}.values())
        self.given = given
        self.entries = []
        self._model = weakref.ref(model)
        self.saved = None
        self.scope = functools.partial(variable_scope, model)
        strategy = getattr(model, "distribute_strategy", None)
        self.replicas = getattr(strategy, "num_replicas_in_sync", 1)

    @property
    def model(self):
        """The model that was attached to, or `None` where it is no more."""
        return self._model()

    def state_variables(self):
        """The variables that the optimizer tracks for tfcomp."""
        return [variable for entry in self.entries for variable in entry.owned.values()]

    def keeps(self, variable):
        """Whether what is attached to a variable is attached to this optimizer."""
        constraint = getattr(variable, "constraint", None)
        return isinstance(constraint, Projected) and constraint.entries[0].home is self

    @property
    def scale(self):
        """Gradients come scaled, and each replica has those of its part of the loss."""
        return self.replicas / (self.optimizer.loss_scale_factor or 1)

    @property
    def is_update(self):
        """Whether a batch ends in an update, a tensor; `None` where every batch does."""
        steps = self.optimizer.gradient_accumulation_steps
        if not steps or steps == 1:
            return None
        return (keras_private.batches(self.optimizer) + 1) % steps == 0

    def averages(self):
        """The optimizer's average of each variable, its `Projected`, and that of its latent value.

        The average, which Keras puts in the place of the variable, is compressed as that is; a
        latent value's own average is kept beside it, or `None` where nothing is latent.
        """
        averages = keras_private.moving_averages(self.optimizer)
        entries = {id(entry.variable): entry for entry in self.entries}
        latent = {id(e.variable): e.average for e in self.entries if e.average is not None}
        return [
            (averages[key], entry.variable.constraint, latent.get(key))
            for key, entry in entries.items()
            if key in averages
        ]

    def forget(self, entry):
        """Drops an entry and its variables."""
        self.entries[:] = [other for other in self.entries if other is not entry]
        for variable in entry.owned.values():
            keras_private.untrack(self.optimizer, variable)


class ProjectionState(keras.layers.Layer):
    """The state of everything attached to one optimizer, as files have it.

    It is a layer because Keras saves and restores the layers it finds on a model's attributes. The
    optimizer's own entry in a file stays exactly as Keras writes it, so a file loads, optimizer
    state included, whether or not anything is attached; a plain Keras model skips this layer. Files
    of weights hold the state, `.keras` files do not.
    """

    def __init__(self, home):
        super().__init__(name="tfcomp_state", dtype="float32")
        self._home = home

    @property
    def home(self):
        """The `Home` of the optimizer."""
        return self._home

    @property
    def entries(self):
        """List of `Entry`, in the order in which they were attached."""
        return self.home.entries

    def save_own_variables(self, store):
        if not keras_private.is_backup(store):
            self.home.saved = all(entry.complete for entry in self.entries)
        if keras_private.is_model_file(store):
            # It is loaded into a new model, which nothing is attached to yet.
            return
        for _, keyed in self._keyed():
            for key, variable in keyed.items():
                store[key] = as_numpy(variable)

    def load_own_variables(self, store):
        saved = set(store.keys())
        for entry in self.entries:
            # Of a plain file, what it holds is found by looking at the weights.
            entry.fresh = True
        for entry, keyed in self._keyed():
            if not saved or not saved.issuperset(keyed):
                continue
            for key, variable in keyed.items():
                array = np.asarray(store[key])
                if array.shape != tuple(variable.shape):
                    raise ValueError(
                        f"The file holds compression state of shape {array.shape} for "
                        f"{variable.path}, which has shape {tuple(variable.shape)}: it was "
                        "written for other targets."
                    )
                variable.assign(array)
            entry.fresh, entry.restored = False, True

    def _keyed(self):
        """Yields each entry with a dict from its keys in a file to its variables."""
        places = {id(variable): place for place, variable in enumerate(self.home.model.variables)}
        for entry in self.entries:
            # By the place of the variable, because automatic names differ from one process to the
            # next; by kind, because another process need not attach what is there from before.
            key = f"{entry.projection.kind}.{places[id(entry.variable)]}"
            yield entry, {f"{key}.{name}": v for name, v in entry.owned.items()}
