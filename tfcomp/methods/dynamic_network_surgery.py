"""Dynamic network surgery.

Yiwen Guo, Anbang Yao, Yurong Chen, "Dynamic Network Surgery for Efficient DNNs", arXiv:1608.04493.
"""

import keras
import numpy as np

from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.core.latent import Latent
from tfcomp.core.mask import Mask
from tfcomp.core.options import options_of
from tfcomp.validation import check_integer, check_number, invalid


def thresholds(value, c, slack):
    """`a = (1 - slack) t` and `b = (1 + slack) t` with `t = max(μ + c σ, 0)`.

    μ and σ are mean and standard deviation of the magnitudes of the weights that are not zero.
    """
    magnitudes = np.abs(value[value != 0].astype(np.float64))
    if not magnitudes.size:
        return 0.0, 0.0
    centre = max(magnitudes.mean() + c * magnitudes.std(), 0.0)
    return (1 - slack) * centre, (1 + slack) * centre


# Park and Miller's generator, "Random number generators: good ones are hard to find", 1988. It
# needs 32 bits alone and gives the same numbers on every backend, device and replica.
_MULTIPLIER, _MODULUS = 16807, 2**31 - 1
_QUOTIENT, _REMAINDER = divmod(_MODULUS, _MULTIPLIER)


def next_random(number):
    """The number after an integer from 1 to `2**31 - 2`, by Schrage's method, without overflow."""
    high, low = number // _QUOTIENT, number % _QUOTIENT
    following = _MULTIPLIER * low - _REMAINDER * high
    return keras.ops.where(following > 0, following, following + _MODULUS)


class Surgery(Latent):
    """The variable is `W ⊙ T`: `W` is trained everywhere, by the gradient at the variable.

    `T` becomes 0 where `|W| < a` and 1 where `|W| >= b`, and stays as it is in between. All takes
    place inside the compiled step.

    State: `latent`, which is `W`; `mask`, which is `T`; `low` and `high`, which are a and b;
    `iteration`, the steps seen while active; `random`, from which the next decision is drawn;
    `active`, whether masks may change at all.

    Args:
        c: See `thresholds`.
        gamma: Masks change with probability `(1 + gamma * iteration) ** -power` in a step.
        power: See `gamma`.
        begin_step: Iteration at which masks begin to change.
        end_step: Iteration at which they cease to, or `None`.
        slack: See `thresholds`.
        seed: Integer or list of integers, the seed of the decisions.
    """

    # In the place of any other mask.
    kind, order = Mask.kind, Mask.order

    def __init__(self, c, gamma, power, begin_step, end_step, slack, seed):
        self.c, self.slack = c, slack
        self.gamma, self.power = gamma, power
        self.begin_step, self.end_step = begin_step, end_step
        self.seed = seed

    def init(self, value):
        zero = np.zeros((), np.float32)
        return {
            **super().init(value),
            "mask": np.ones(value.shape, bool),
            "low": zero,
            "high": zero,
            "iteration": np.zeros((), np.int32),
            "random": np.random.default_rng(self.seed).integers(1, _MODULUS, dtype=np.int32),
            "active": np.zeros((), bool),
        }

    def adopt(self, value, state):
        low, high = thresholds(value, self.c, self.slack)
        fresh = {**self.init(value), "low": np.float32(low), "high": np.float32(high)}
        alive = value != 0
        mask = state["mask"] & alive if alive.any() else state["mask"]
        return {**fresh, "mask": mask, "active": state["active"]}

    def show(self, latent, state):
        return keras.ops.where(state["mask"], latent, 0.0)

    def after(self, value, state):
        ops = keras.ops
        mask, active, iteration = state["mask"], state["active"], state["iteration"]
        drawn = next_random(state["random"])
        chance = (1.0 + self.gamma * ops.cast(iteration, "float32")) ** -self.power
        due = ops.logical_and(active, ops.cast(drawn, "float32") / _MODULUS < chance)
        due = ops.logical_and(due, iteration >= self.begin_step)
        if self.end_step is not None:
            due = ops.logical_and(due, iteration < self.end_step)
        size = ops.cast(ops.abs(value), "float32")
        keep = ops.logical_and(mask, size >= state["low"])
        new = {
            **state,
            "mask": ops.where(due, ops.logical_or(keep, size >= state["high"]), mask),
            "iteration": iteration + ops.cast(active, "int32"),
            "random": ops.where(active, drawn, state["random"]),
        }
        return super().after(value, new)


class DynamicNetworkSurgery(ProjectionCallback):
    """Prunes weights while `fit` runs, and splices back those that turn out to matter.

    Every weight keeps a hidden value, of the variable's precision, that goes on training, also
    while it is pruned. A weight is pruned when its hidden magnitude falls below `a`, comes back
    when it reaches `b`, and stays as it is in between: `a = (1 - slack) * t` and
    `b = (1 + slack) * t` with `t = max(mean + c * std, 0)` over the non-zero magnitudes of its
    tensor when `fit` begins. Decisions are taken in a step with probability
    `(1 + gamma * iteration) ** -power`. `logs` gets `sparsity` and `sparsity/<path>`.

    Start from a trained model. The paper prunes convolutions and dense layers one after the
    other: either two runs with their own `targets`, or overrides of `begin_step` and `end_step`.
    When `fit` ends the masks stand still, and a later `fit` keeps them.

    A killed run resumed by `keras.callbacks.BackupAndRestore` goes on bit for bit. A `.keras` file
    holds what the model computes with, so pruned weights loaded from one begin at zero again.
    Weight decay acts on the hidden weights, those of pruned ones included. Step counts are those of
    this callback, not of the optimizer.

    Args:
        c: How many standard deviations over the mean the thresholds lie; larger prunes more.
        gamma: How fast decisions become rare; 0 takes one in every step.
        power: See `gamma`.
        begin_step: Step from which decisions are taken.
        end_step: Step from which masks stand still; `None` for the end of `fit`.
        slack: Half the relative distance between the thresholds, 0.1 in the paper's code.
        seed: Seed of the decisions; each weight tensor draws its own.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `c`, `begin_step` and `end_step` can be overridden.
        verbose: 1 to print a line at the end of every epoch.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, if a weight contains NaN, or if `c`
            would prune every weight of a tensor.

    Reference:
        Yiwen Guo, Anbang Yao, Yurong Chen, "Dynamic Network Surgery for Efficient DNNs",
        arXiv:1608.04493.

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
        self,
        c=1.0,
        gamma=1e-4,
        power=1.0,
        begin_step=0,
        end_step=None,
        slack=0.1,
        seed=0,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, verbose=verbose, optimizer=optimizer)
        check_number("gamma", gamma, 0)
        check_number("power", power, 0)
        check_number("slack", slack, 0, below=1)
        self.c, self.begin_step, self.end_step = c, begin_step, end_step
        self.gamma, self.power, self.slack = gamma, power, slack
        self.seed = check_integer("seed", seed, 0)
        self._made = 0
        self._surgery({})

    def _surgery(self, options):
        chosen = options_of(self, options)
        check_number("c", chosen["c"])
        check_integer("begin_step", chosen["begin_step"], 0)
        if chosen["end_step"] is not None:
            check_integer("end_step", chosen["end_step"], chosen["begin_step"])
        seed = [self.seed, self._made]
        return Surgery(**chosen, gamma=self.gamma, power=self.power, slack=self.slack, seed=seed)

    def make_projection(self, target):
        surgery = self._surgery(target.options)
        value = as_numpy(target.variable)
        low, _ = thresholds(value, surgery.c, surgery.slack)
        if low > 0 and np.abs(value).max() < low:
            raise invalid("c", surgery.c, f"a smaller number: all of {target.path} would be pruned")
        self._made += 1
        return surgery

    def _begin_run(self, epoch):
        super()._begin_run(epoch)
        self._set_active(True)

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        if self.verbose and self._entries:
            sparsity = self.report()["sparsity"]
            print(f"\nDynamicNetworkSurgery: epoch {epoch + 1}: sparsity {sparsity:.4f}")

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        self._set_active(False)

    def _set_active(self, active):
        for entry in self._entries:
            entry.state["active"].assign(active)
