"""Keeps zeros zero, in a model that was loaded from a file for example."""

from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.mask import Mask


class PreserveSparsity(ProjectionCallback):
    """Holds the weights that are exactly zero when `fit` begins at zero.

    A file of a pruned model is plain: it holds zeros and no mask. In the process that pruned a
    model the mask stays in force by itself; after loading, this callback restores it. A weight
    that is zero everywhere is left alone: it has not been trained yet.

    Args:
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight.
        verbose: 1 to print a line when `fit` begins.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: While attaching, if the model is not built and compiled, if `targets` matches
            nothing, or if a weight contains NaN.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, use_bias=False)])
    >>> model.set_weights([np.array([[1.0, 0.0], [0.0, 1.0]])])
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(
    ...     np.ones((4, 2)), np.ones((4, 2)) * 3, verbose=0,
    ...     callbacks=[tfcomp.callbacks.PreserveSparsity()],
    ... )
    >>> model.layers[0].kernel.numpy() != 0
    array([[ True, False],
           [False,  True]])
    """

    def make_projection(self, target):
        return Mask()

    def _begin_run(self, epoch):
        super()._begin_run(epoch)
        if self.verbose:
            print(f"\nPreserveSparsity: sparsity {self.report()['sparsity']:.4f}")
