"""Pruning by sensitivity, gathered while a network trains.

Ehud D. Karnin, "A simple procedure for pruning back-propagation trained neural networks", IEEE
Transactions on Neural Networks 1(2), 1990.
"""

import keras
import numpy as np

from tfcomp.core.mask import Mask
from tfcomp.core.optimizers import accumulation_steps
from tfcomp.core.projection import check_weights, over_replicas
from tfcomp.methods.gradual_pruning import GradualPruning


def sensitivity(value, initial, gain):
    """`S = gain * w / (w - w_initial)`: an estimate of how the loss rises without a weight.

    Args:
        value: Array, the weights.
        initial: Array, the weights before the first step.
        gain: Array, the sum of `-gradient * change` over the steps.
    """
    value = value.astype(gain.dtype)
    change = value - initial
    # A weight that came back to where it was leaves the estimate undefined.
    least = 1e-6 * max(np.abs(value).max(), np.finfo(value.dtype).tiny)
    change = np.where(np.abs(change) < least, np.copysign(least, change), change)
    return gain * value / change


class SensitivityMask(Mask):
    """A mask, and the sum of `-gradient * change` of every weight.

    State: `mask`; `initial`, the values before the first step; `gain`, the sums; `gathered`, the
    sum of the gradients since the last update, where these are accumulated.

    Args:
        batches: Batches for one update, whose mean gradient it is made by.
        outputs: See `Mask`.
    """

    takes_rows = False

    def __init__(self, batches=1, outputs=None):
        super().__init__(outputs)
        self.batches = batches

    def init(self, value):
        zeros = np.zeros(value.shape, np.promote_types(value.dtype, np.float32))
        gathered = {"gathered": zeros} if self.batches > 1 else {}
        return {**super().init(value), "initial": np.array(value), "gain": zeros, **gathered}

    def adopt(self, value, state):
        return {**super().adopt(value, state), "initial": value}

    def before(self, gradient, value, state):
        seen, _, _ = super().before(gradient, value, state)
        gradient = over_replicas(gradient)
        if self.batches > 1:
            gathered = state["gathered"] + keras.ops.cast(gradient, state["gathered"].dtype)
            state = {**state, "gathered": gathered}
            gradient = gathered / self.batches
        return seen, value, {**state, "step": (gradient, value)}

    def after(self, value, state):
        if "step" in state:
            gradient, before = state["step"]
            gained = keras.ops.cast(gradient * (before - value), state["gain"].dtype)
            state = {**state, "gain": state["gain"] + gained}
            if self.batches > 1:
                state["gathered"] = keras.ops.zeros_like(gained)
        return super().after(value, state)


class SensitivityPruning(GradualPruning):
    """Zeroes the weights without which the loss would rise least, as training itself has shown.

    While the model trains, every weight sums up `-gradient * change` over the optimizer steps.
    Its sensitivity is that sum times `w / (w - w_initial)`: what the loss would rise by if the
    weight went back to zero, estimated from the path it came. At every point of the schedule those
    of least sensitivity are pruned; what was pruned stays so. No extra pass over the data is
    needed, and any optimizer will do: the sum takes the gradient itself, not `change**2 / rate`.

    Begin with the training of the model, from its initial weights, and let the schedule start
    after some epochs: before, there is nothing to judge by. `block_size=(None, 1)` prunes whole
    neurons by the mean of the sensitivities of their weights.

    Args:
        schedule: See `tfcomp.callbacks.GradualPruning`.
        targets: See `GradualPruning`.
        scope: See `GradualPruning`.
        block_size: See `GradualPruning`.
        block_pooling: See `GradualPruning`.
        vector_size: See `GradualPruning`.
        m_by_n: See `GradualPruning`.
        per_gate: See `GradualPruning`.
        verbose: See `GradualPruning`.
        optimizer: See `GradualPruning`.

    Raises:
        ValueError: As `GradualPruning`.

    Reference:
        Ehud D. Karnin, "A simple procedure for pruning back-propagation trained neural networks",
        IEEE Transactions on Neural Networks 1(2), 1990.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=4)
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.SensitivityPruning(schedule)],
    ... )
    >>> int(np.sum(model.layers[0].kernel.numpy() == 0))
    16
    """

    def make_projection(self, target):
        mask = super().make_projection(target)
        return SensitivityMask(accumulation_steps(self._optimizer), mask.outputs)

    def _begin_run(self, epoch):
        batches = accumulation_steps(self._optimizer)
        if any(entry.projection.batches != batches for entry in self._entries):
            raise ValueError(
                f"The optimizer makes an update of {batches} batches now, of another number when "
                "this SensitivityPruning was attached. Make a new one."
            )
        super()._begin_run(epoch)

    def score(self, path, value, state):
        check_weights(path, value)
        scores = sensitivity(value, state["initial"], state["gain"])
        if not np.isfinite(scores).all():
            raise ValueError(
                f"The sensitivities of {path!r} contain NaN or infinity: training has diverged. "
                "Lower the learning rate or go back to a checkpoint."
            )
        return scores
