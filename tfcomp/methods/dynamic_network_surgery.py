"""Dynamic network surgery.

Yiwen Guo, Anbang Yao, Yurong Chen, "Dynamic Network Surgery for Efficient DNNs", arXiv:1608.04493.
"""

import keras
import numpy as np

from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods._splice import Splice
from tfcomp.validation import check_number, invalid


class DynamicNetworkSurgery(ProjectionCallback):
    """Prunes weights while `fit` runs, and splices back those that turn out to matter.

    Every weight keeps a hidden full-precision value that goes on training, also while it is
    pruned. A weight is pruned when its hidden magnitude falls below `a`, comes back when it
    reaches `b`, and stays as it is in between: `a = (1 - slack) * t` and `b = (1 + slack) * t` with
    `t = max(mean + c * std, 0)` over the non-zero magnitudes of its tensor when `fit` begins.
    Decisions are taken in a step with probability `(1 + gamma * iteration) ** -power`. `logs` gets
    `sparsity` and `sparsity/<path>`.

    Start from a trained model. The paper prunes convolutions and dense layers one after the
    other: either two runs with their own `targets`, or overrides of `begin_step` and `end_step`.
    When `fit` ends the masks stand still, and a later `fit` keeps them.

    A killed run resumed by `keras.callbacks.BackupAndRestore` goes on bit for bit. A `.keras` file
    holds what the model computes with, so pruned weights loaded from one begin at zero again.
    Weight decay acts on the weights the model computes with, not on the hidden ones of pruned
    weights. Step counts are those of this callback, not of the optimizer.

    Args:
        c: How many standard deviations over the mean the thresholds lie; larger prunes more.
        gamma: How fast decisions become rare; 0 takes one in every step.
        power: See `gamma`.
        begin_step: Step from which decisions are taken.
        end_step: Step from which masks stand still; `None` for the end of `fit`.
        slack: Half the relative distance between the thresholds, 0.1 in the paper's code.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `c`, `begin_step` and `end_step` can be overridden.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, if a weight contains NaN, or if `c`
            would prune every weight of a tensor.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.DynamicNetworkSurgery(c=0.0)],
    ... )
    >>> 0 < history.history["sparsity"][-1] < 1
    True
    """

    overrides = ("c", "begin_step", "end_step")

    def __init__(
        self, c=1.0, gamma=1e-4, power=1.0, begin_step=0, end_step=None, slack=0.1, targets=None
    ):
        super().__init__(targets=targets)
        check_number("gamma", gamma, 0)
        check_number("power", power, 0)
        check_number("slack", slack, 0, below=1)
        self._options = {"c": c, "begin_step": begin_step, "end_step": end_step}
        self._shared = {"gamma": gamma, "power": power, "slack": slack}
        self._splice({})

    def _splice(self, options):
        chosen = {**self._options, **options}
        check_number("c", chosen["c"])
        check_number("begin_step", chosen["begin_step"], 0)
        if chosen["end_step"] is not None:
            check_number("end_step", chosen["end_step"], chosen["begin_step"])
        return Splice(**chosen, **self._shared)

    def make_projection(self, target):
        splice = self._splice(target.options)
        value = keras.ops.convert_to_numpy(target.variable.value)
        low, _ = splice.thresholds(value)
        if low > 0 and np.abs(value).max() < low:
            raise invalid("c", splice.c, f"a smaller number: all of {target.path} would be pruned")
        return splice

    def _begin_run(self, epoch):
        super()._begin_run(epoch)
        self._set_active(True)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._set_active(False)

    def _set_active(self, active):
        for entry in self._entries:
            entry.state["active"].assign(active)

    def measure(self, value, state):
        return np.mean(value == 0)
