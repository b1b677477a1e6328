"""The protocol of a projection: what keeps a variable compressed at all times.

A projection is a small pure object, in the manner of an optax gradient transformation. It holds the
arguments of a method and no data; its state is a dict of arrays, empty where the value tells all.
"""

import numpy as np

from tfcomp.validation import invalid


class Projection:
    """Base of all projections.

    Attributes:
        kind: What it does to a variable, `"mask"` for example. A variable has at most one
            projection of a kind; a second one of the same kind takes the place of the first.
        order: Where it stands among the projections of a variable, lowest first. Masks come last,
            so that what is pruned is zero whatever else is done.
        needs_gradient: Whether `transform_gradient`, `trained` and `observe` are to be called in
            every step.
        compilable: Whether XLA knows everything that is done in the train step.
    """

    kind = None
    order = 0
    needs_gradient = False
    compilable = True

    def init(self, value):
        """Makes the state of a variable that nothing was done to yet.

        Args:
            value: Numpy array, the value of the variable.

        Returns:
            Dict of numpy arrays, whose shapes and dtypes stay as they are here.
        """
        return {}

    def adopt(self, value, state):
        """Finds in `value` what an earlier run has done to it, so that it is not undone.

        Called once, before the first step, unless the state was restored from a file.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays, as `init` made it.

        Returns:
            The new state.
        """
        return state

    def transform_gradient(self, gradient, value, state):
        """Says what the optimizer is to see as the gradient; part of the compiled train step.

        Args:
            gradient: Backend tensor, of the loss of all replicas together.
            value: Backend tensor, the value before the optimizer update.
            state: Dict of backend tensors.

        Returns:
            The new gradient, which depends on `gradient` by sums and constant factors alone, plus
            whatever does not depend on it; so batches and replicas can be added up afterwards.
        """
        return gradient

    def trained(self, value, state):
        """Says what the optimizer is to update, where that is not the compressed value.

        Called after `transform_gradient`; part of the compiled train step. `observe` gets the
        updated one.

        Args:
            value: Backend tensor, the value before the optimizer update.
            state: Dict of backend tensors.

        Returns:
            A backend tensor of the same shape and dtype.
        """
        return value

    def observe(self, before, gradient, value, state):
        """Learns from a step, ahead of `__call__`; part of the compiled train step.

        Args:
            before: Backend tensor, the value before the optimizer update.
            gradient: Backend tensor, as no projection has transformed it.
            value: Backend tensor, the value after it.
            state: Dict of backend tensors.

        Returns:
            The new state; an entry that did not change is the same object.
        """
        return state

    def __call__(self, value, state):
        """Compresses the value that an optimizer update left; part of the compiled train step.

        Args:
            value: Backend tensor.
            state: Dict of backend tensors.

        Returns:
            The new value, and the new state; an entry that did not change is the same object.
        """
        return value, state

    def update(self, value, state, amount):
        """Compresses further; runs on the host at the points of a schedule.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays.
            amount: What the schedule says: a sparsity, a portion, in [0, 1].

        Returns:
            The new value and the new state.
        """
        return value, state

    def settle(self, value, state):
        """The host's version of `__call__`: the value as the projection would leave it."""
        return value

    def is_stale(self, value, state):
        """Whether the state belongs to another value: somebody has set the weights since.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays.
        """
        return False


def check_weights(path, value):
    """Raises unless an array can be compressed: floating point and without NaN or infinity."""
    if not np.issubdtype(value.dtype, np.floating) and value.dtype.name != "bfloat16":
        raise invalid("targets", path, f"a floating point weight, but {path} is {value.dtype}")
    if not np.isfinite(value.min(initial=0) + value.max(initial=0)):
        raise ValueError(
            f"The weight {path!r} contains NaN or infinity, so nothing can be ranked or rounded "
            "in it. Training has diverged; lower the learning rate or go back to a checkpoint."
        )
