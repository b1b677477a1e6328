"""The protocol of a projection: what keeps a variable compressed at all times.

A projection is a small pure object, in the manner of an optax gradient transformation, around the
optimizer instead of before it. It holds the arguments of a method and no data; its state is a dict
of arrays, empty where the value tells all.
"""

import keras
import numpy as np

from tfcomp.targets import weight_quantizers
from tfcomp.validation import invalid


class Projection:
    """Base of all projections.

    A train step calls `before`, then the optimizer, then `after`; both are compiled with it and are
    written in `keras.ops`. `init`, `adopt` and `update` run on the host, in NumPy.

    Attributes:
        kind: What it does to a variable, `"mask"` for example. A variable has at most one
            projection of a kind; a second one of the same kind takes the place of the first.
        order: Where it stands among the projections of a variable, lowest first. Masks come last,
            so that what is pruned is zero whatever else is done.
        takes_rows: Whether `before` takes the gradient of an embedding as TensorFlow has it, as
            rows (`tf.IndexedSlices`), under an optimizer of Keras that updates each weight whatever
            the values of the others. Under other optimizers, and to other projections, it is given
            as a tensor.

    Example:

    >>> import keras, tfcomp
    >>> class Ball(tfcomp.projections.Projection):
    ...     "Keeps the norm of a weight at 1 or below."
    ...     kind = "ball"
    ...     def after(self, value, state):
    ...         return value / keras.ops.maximum(keras.ops.norm(value), 1.0), state
    """

    kind = None
    order = 0
    takes_rows = False

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

        Called before the first step, unless the state was restored from a file; and again when a
        run begins with a value that is not what `after` or `show` make of it and the state:
        somebody has set the weights.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays, as `init` made it or as it is by now.

        Returns:
            The new state.
        """
        return state

    def before(self, gradient, value, state):
        """Says what the optimizer is to see, and to update.

        Args:
            gradient: Backend tensor, of the loss of all replicas together as far as this one has
                seen it: what is kept of it in the state is to go through `over_replicas`.
            value: Backend tensor.
            state: Dict of backend tensors.

        Returns:
            The gradient, which depends on `gradient` by sums and constant factors alone, plus
            whatever does not depend on it, so batches and replicas can be added up afterwards; the
            value that is updated; and a dict for `after`: the state, and more where it is needed.
            A value that is the same object costs nothing. Where the optimizer accumulates the
            gradients of several batches, `before` runs for each of them and its state is kept;
            what `after` returns is kept where there is an update.
        """
        return gradient, value, state

    def after(self, value, state):
        """Compresses the value that an optimizer update left.

        It is also run by itself, where a value was set that is to be compressed: by an average over
        the steps or a restored epoch. What `before` leaves beside the state is not there then.

        Args:
            value: Backend tensor.
            state: Dict of backend tensors, as `before` left it.

        Returns:
            The new value, and the new state; an entry that did not change is the same object.
        """
        return value, state

    def update(self, value, state, amount):
        """Compresses further; runs on the host at the points of a schedule.

        A run that was broken off and is resumed comes by its last point once more, and this is to
        change nothing then.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays.
            amount: What the schedule says: a sparsity, a portion, in [0, 1].

        Returns:
            The new value and the new state.
        """
        return value, state


def is_rows(gradient):
    """Whether a gradient is rows of a tensor alone, TensorFlow's `tf.IndexedSlices`."""
    return hasattr(gradient, "dense_shape")


def whole(gradient):
    """A gradient as a tensor, also where it is rows: to `keras.ops` these are a tensor already."""
    if not is_rows(gradient):
        return gradient
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def over_replicas(tensor):
    """The mean of a tensor over the replicas of a TensorFlow strategy, in a step.

    Each has gradients of its own until the optimizer adds them up; state is to be the same on all.
    On other backends, and without a strategy, there is one replica.
    """
    if keras.backend.backend() != "tensorflow":
        return tensor
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return tensor
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, tensor)


def check_weights(path, value):
    """Raises unless an array can be compressed: floating point and without NaN or infinity."""
    if not np.issubdtype(value.dtype, np.floating) and value.dtype.name != "bfloat16":
        raise invalid("targets", path, f"a floating point weight, but {path} is {value.dtype}")
    if not np.isfinite(value.min(initial=0) + value.max(initial=0)):
        raise ValueError(
            f"The weight {path!r} contains NaN or infinity, so nothing can be ranked or rounded "
            "in it. Training has diverged; lower the learning rate or go back to a checkpoint."
        )


def check_zeros(target, projection):
    """Raises where a mask would prune weights that their layer turns into other values than zero.

    Args:
        target: A `tfcomp.targets.Target`.
        projection: The `Projection` it is to get.
    """
    if projection.kind != "mask":
        return
    for variable, quantizer in weight_quantizers(target.layer):
        if variable is target.variable and quantizer is not None:
            value = np.ones(tuple(variable.shape), "float32")
            value.flat[0] = 0
            used = keras.ops.convert_to_numpy(quantizer(keras.ops.convert_to_tensor(value)))
            if used.flat[0] != 0:
                raise invalid(
                    "targets",
                    target.path,
                    f"weights that can be zero; layer {target.layer.name!r} computes with "
                    f"{quantizer} of them, which makes another value of zero",
                )
