"""One projection on one variable, and what the host sees of it."""

from dataclasses import dataclass

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core.latent import Latent


@dataclass(eq=False)
class Entry:
    """One projection on one variable.

    Attributes:
        target: The `tfcomp.targets.Target`.
        projection: The `Projection`.
        state: Dict from name to `keras.Variable`.
        run: `keras.Variable`, the optimizer steps at which the current run began and will end.
        average: `keras.Variable`, the optimizer's average of a latent value, or `None`.
        home: The `Home` of the optimizer that tracks these variables.
        fresh: Whether the state says nothing yet about the value it belongs to.
        restored: Whether state and run have just come from a file.
        complete: Whether the variable is compressed as far as it is going to be.
        followed: Whether a callback is going to see to it when the run that is due begins.
    """

    target: targets_lib.Target
    projection: object
    state: dict
    run: object
    average: object
    home: object
    fresh: bool = True
    restored: bool = False
    complete: bool = False
    followed: bool = False

    @property
    def variable(self):
        """The variable that is kept compressed."""
        return self.target.variable

    @property
    def is_attached(self):
        """Whether it is in force still: a user may have released it."""
        return self in getattr(self.variable.constraint, "entries", ())

    @property
    def owned(self):
        """Dict of all variables that belong to this entry."""
        average = {} if self.average is None else {"average": self.average}
        return {**self.state, "run": self.run, **average}

    def tensors(self):
        """Returns the state as backend tensors."""
        return {name: as_tensor(variable) for name, variable in self.state.items()}

    def keep(self, new, old):
        """Assigns what changed in the state, of which only the entries made by `init` last."""
        for name, variable in self.state.items():
            if new[name] is not old[name]:
                variable.assign(new[name])

    def read(self):
        """Returns value and state as numpy arrays, to look at and not to write into."""
        state = {name: as_numpy(variable) for name, variable in self.state.items()}
        return as_numpy(self.variable), state

    def write(self, value, state):
        """Assigns value and state."""
        self.variable.assign(value)
        self.write_state(state)

    def write_state(self, state):
        """Assigns the state."""
        for name, array in state.items():
            self.state[name].assign(array)

    def project(self):
        """Puts the variable through `after` where it is, by way of the device."""
        self.variable.assign(self.compressed(keras.ops.convert_to_tensor(self.variable)))

    @property
    def latent(self):
        """Whether another value is trained than the one that is shown."""
        return isinstance(self.projection, Latent)

    @property
    def is_stale(self):
        """Whether the state does not go with the value: somebody has set it."""
        value = as_numpy(self.variable)
        shown = self.settled(value)
        if not self.latent:
            return differ(value, shown)
        # What a random quantizer shows tells nothing.
        return shown is not value and not differ(shown, self.settled(shown))

    def adopt(self):
        """Makes a state that goes with the value of the variable."""
        value, state = self.read()
        if self.average is not None:
            # Where an average over the steps was put into the variable, its latent one is known.
            averaged = keras.ops.convert_to_tensor(self.average)
            shown = keras.ops.convert_to_numpy(self.compressed(averaged))
            value = value if differ(value, shown) else as_numpy(self.average)
        self.write_state(self.projection.adopt(value, state))
        self.fresh = False

    def compressed(self, value):
        """What becomes of a value, a tensor, without a step."""
        if self.latent:
            return self.projection.show(value, self.tensors())
        return self.projection.after(value, self.tensors())[0]

    def settled(self, value):
        """A value that was set, a numpy array, as the projection has it."""
        if self.latent:
            shown = keras.ops.convert_to_numpy(self.compressed(self.tensors()["latent"]))
            return shown if differ(value, shown) else value
        return keras.ops.convert_to_numpy(self.compressed(keras.ops.convert_to_tensor(value)))


def as_tensor(variable):
    """The value that a `keras.Variable` has now as a backend tensor.

    TensorFlow takes a variable for a tensor, which is read late and which `keras.ops.cond` refuses.
    """
    return keras.ops.reshape(variable, variable.shape)


def as_numpy(variable):
    """The value of a `keras.Variable` as a numpy array to look at."""
    if keras.backend.backend() == "tensorflow":
        # Keras copies; the memory of a tensor, unlike that of a variable, can be looked at as is.
        return np.asarray(as_tensor(variable))
    return keras.ops.convert_to_numpy(variable.value)


def differ(value, shown):
    """Whether two arrays have other values, whatever compiler computed them.

    What is zero in the first may be pruned, and a few in a thousand may be at a threshold to the
    last bit.
    """
    value, shown = (array.astype(np.promote_types(array.dtype, "f4")) for array in (value, shown))
    far = np.abs(value - shown) > 1e-4 * np.max(np.abs(shown), initial=0)
    return np.count_nonzero(far & (value != 0)) > 1e-3 * value.size
