"""Continuation from smooth codes to signs.

Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.
"""

import keras

from tfcomp import targets
from tfcomp.core.optimizers import current_step
from tfcomp.methods.hashnet.layer import HashCode
from tfcomp.validation import check_integer, check_number, check_verbose, invalid


class HashContinuation(keras.callbacks.Callback):
    """Raises `beta` of all `HashCode` layers while a model trains, to infinity when `fit` ends.

    After `t` optimizer steps `β = (1 + γ t)**power`; or `stages` are gone through, each for
    `steps_per_stage` steps, the last until the end. When `fit` ends, `β` becomes infinite: outputs
    in training are then the codes themselves. `β` follows from `optimizer.iterations`, so a run
    that was killed and resumed goes on as it would have, and a further `fit` with the callback
    takes up where the step count is.

    Args:
        gamma: `γ`.
        power: Exponent; 0.5 for the paper's square root.
        stages: `None`, or rising positive numbers, each a `β`.
        steps_per_stage: Optimizer steps for each stage.
        verbose: 1 for a line whenever a stage begins.

    Raises:
        ValueError: If an argument is out of range, or the model has no `HashCode` layer.

    Reference:
        Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), tfcomp.layers.HashCode(16)])
    >>> model.compile("adam", tfcomp.losses.WeightedPairwise())
    >>> x, y = np.random.default_rng(0).normal(size=(32, 8)), np.arange(32) % 3
    >>> continuation = tfcomp.callbacks.HashContinuation(gamma=0.1)
    >>> _ = model.fit(x, y, callbacks=[continuation], verbose=0)
    >>> float(model.layers[0].beta)
    inf
    """

    def __init__(self, gamma=0.005, power=0.5, stages=None, steps_per_stage=None, verbose=0):
        super().__init__()
        check_number("gamma", gamma, 0)
        check_number("power", power, 0)
        if stages is not None:
            stages = tuple(stages)
            for stage in stages:
                check_number("stages", stage, 0)
            rising = all(a < b for a, b in zip((0, *stages), stages))
            if not stages or not rising:
                raise invalid("stages", stages, "rising positive numbers")
            steps_per_stage = check_integer("steps_per_stage", steps_per_stage, 1)
        elif steps_per_stage is not None:
            raise invalid("steps_per_stage", steps_per_stage, "None where there are no `stages`")
        self.gamma, self.power = gamma, power
        self.stages, self.steps_per_stage = stages, steps_per_stage
        self.verbose = check_verbose(verbose)
        self._layers = []
        self._beta = None

    def beta(self, step):
        """`β` after a number of optimizer steps."""
        if self.stages is None:
            return (1 + self.gamma * step) ** self.power
        return self.stages[min(step // self.steps_per_stage, len(self.stages) - 1)]

    def set_model(self, model):
        super().set_model(model)
        if getattr(model, "optimizer", None) is None:
            raise ValueError("HashContinuation needs a compiled model: call `compile` first.")
        found = [site.layer for site in targets.layer_sites(model) if not site.aside]
        self._layers = [layer for layer in found if isinstance(layer, HashCode)]
        if not self._layers:
            raise ValueError(
                f"Model {model.name!r} has no `tfcomp.layers.HashCode` layer that HashContinuation "
                "could train."
            )

    def on_epoch_begin(self, epoch, logs=None):
        # Other callbacks may have restored a checkpoint just before.
        self._beta = None
        self._follow()

    def on_train_batch_end(self, batch, logs=None):
        self._follow()

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["beta"] = self._beta

    def on_train_end(self, logs=None):
        # Asking for the model brings its variables up to date on JAX.
        _ = self.model
        self._assign(float("inf"))

    def _follow(self):
        value = float(self.beta(current_step(self.model.optimizer)))
        if value != self._beta:
            self._assign(value)
            if self.verbose and self.stages is not None:
                print(f"\nHashContinuation: beta {value:g}")

    def _assign(self, value):
        self._beta = value
        for layer in self._layers:
            layer.beta.assign(value)
