"""Training of weights that are quantized in every step, in any layer and model.

Matthieu Courbariaux, Yoshua Bengio, Jean-Pierre David, "BinaryConnect", arXiv:1511.00363, for
binary weights; the papers of the quantizers for others.
"""

import keras
import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.latent import Latent
from tfcomp.methods.trained_ternary.quantizer import TrainedTernary
from tfcomp.model.axes import output_axes
from tfcomp.quantizers.base import Quantizer, applied, get
from tfcomp.validation import invalid


class Quantized(Latent):
    """The variable is `quantizer(y)`, and `y` is trained by the gradient at the variable.

    State: `latent`, which is `y`; `share`, 1 from the first update on.

    Args:
        quantizer: Function from tensor to tensor of the same shape.
        clip: Largest magnitude of `y`, or `None`.
    """

    def __init__(self, quantizer, clip=None):
        self.quantizer = quantizer
        self.clip = clip

    def init(self, value):
        return {**super().init(value), "share": np.zeros((), np.float32)}

    def after(self, value, state):
        if self.clip is not None:
            value = keras.ops.clip(value, -self.clip, self.clip)
        return super().after(value, state)

    def show(self, latent, state):
        quantized = applied(self.quantizer, latent)
        free = self.free(latent, quantized, state["share"])
        return keras.ops.where(state["share"] >= 1, quantized, free)

    def free(self, latent, quantized, share):
        """What is shown while the share is less than 1: the latent value as it is."""
        return latent

    def update(self, value, state, amount):
        """Shows `amount` of the quantized value from here on; 1 for nothing else."""
        if state["share"] >= amount:
            return value, state
        state = {**state, "share": np.float32(amount)}
        tensors = {name: keras.ops.convert_to_tensor(array) for name, array in state.items()}
        return keras.ops.convert_to_numpy(self.show(tensors["latent"], tensors)), state


class QuantizedTraining(ProjectionCallback):
    """Keeps weights quantized while `fit` runs, and trains latent ones behind.

    The model computes with `quantizer(latent)` in every step; the gradient at these values moves
    the latent weights (straight through), which have the precision of the variable. Unlike the
    quantized layers it needs no other layers, so LSTM, attention, and subclassed models train to
    binary, ternary or k-bit weights as they are. `logs` gets `quantized` and `quantized/<path>`,
    which is 1.

    Latent weights of a quantizer with a `clip_value`, such as `"binary"`, are clipped to it.
    When `fit` ends the weights are quantized to the last bit, and a later `fit` keeps them so.
    A killed run resumed by `keras.callbacks.BackupAndRestore` goes on bit for bit. A `.keras`
    file holds the quantized weights alone: training that goes on from one begins at these.
    What a pruning callback has zeroed stays zero.

    Args:
        quantizer: A name such as `"binary"` or `"ternary"`, an object such as
            `tfcomp.quantizers.DoReFa(2)`, or any function from tensor to tensor.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `quantizer` can be overridden.
        verbose: 1 to print a line when weights are quantized.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN.

    Reference:
        Matthieu Courbariaux, Yoshua Bengio, Jean-Pierre David, "BinaryConnect: Training Deep Neural
        Networks with binary weights during propagations", arXiv:1511.00363.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8, 2)), keras.layers.LSTM(4)])
    >>> model.compile("sgd", "mse")
    >>> _ = model.fit(
    ...     np.ones((16, 8, 2)), np.ones((16, 4)), verbose=0,
    ...     callbacks=[tfcomp.callbacks.QuantizedTraining("binary")],
    ... )
    >>> np.unique(model.layers[0].cell.recurrent_kernel.numpy()).tolist()
    [-1.0, 1.0]
    """

    overrides = ("quantizer",)
    measures = "quantized"
    compresses_at_once = True

    def __init__(self, quantizer, targets=None, verbose=0, optimizer=None):
        super().__init__(targets=targets, optimizer=optimizer, verbose=verbose)
        self.quantizer = self._get(quantizer)
        self._always = schedules.StepPortions([0], [1.0])

    def _get(self, identifier):
        quantizer = get(identifier, "quantizer")
        if quantizer is None:
            raise invalid("quantizer", identifier, "a quantizer")
        if isinstance(quantizer, TrainedTernary):
            raise invalid(
                "quantizer",
                identifier,
                "one without trained scales; those belong to a layer: swap in "
                "`tfcomp.layers.TrainedTernaryDense` and its like",
            )
        return quantizer

    def projection(self, quantizer):
        """Returns the projection for a quantizer."""
        return Quantized(quantizer, getattr(quantizer, "clip_value", None))

    def make_projection(self, target):
        quantizer = self._get(target.options.get("quantizer", self.quantizer))
        if isinstance(quantizer, Quantizer):
            quantizer = quantizer.for_kernel(output_axes(target.layer, target.variable.name))
        return self.projection(quantizer)

    def make_schedule(self, target, run):
        return self._always

    def measure(self, value, state):
        return float(state["share"])
