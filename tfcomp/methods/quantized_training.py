"""Training of weights that are quantized in every step, in any layer and model.

Matthieu Courbariaux, Yoshua Bengio, Jean-Pierre David, "BinaryConnect", arXiv:1511.00363, for
binary weights; the papers of the quantizers for others.
"""

from tfcomp import quantizers, schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.latent import Latent
from tfcomp.model.axes import output_axes
from tfcomp.validation import invalid


class QuantizedTraining(ProjectionCallback):
    """Keeps weights quantized while `fit` runs, and trains latent ones of full precision behind.

    The model computes with `quantizer(latent)` in every step; the gradient at these values moves
    the latent weights (straight through). Unlike the quantized layers it needs no other layers, so
    LSTM, attention, and subclassed models train to binary, ternary or k-bit weights as they are.
    `logs` gets `quantized` and `quantized/<path>`, which is 1.

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

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN.

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

    def __init__(self, quantizer, targets=None, verbose=0):
        super().__init__(targets=targets, verbose=verbose)
        self.quantizer = self._get(quantizer)
        self._always = schedules.StepPortions([0], [1.0])

    def _get(self, identifier):
        quantizer = quantizers.get(identifier, "quantizer")
        if quantizer is None:
            raise invalid("quantizer", identifier, "a quantizer")
        if isinstance(quantizer, quantizers.TrainedTernary):
            raise invalid(
                "quantizer",
                identifier,
                "one without trained scales; those belong to a layer: swap in "
                "`tfcomp.layers.TrainedTernaryDense` and its like",
            )
        return quantizer

    def projection(self, quantizer, clip):
        """Returns the projection for a quantizer."""
        return Latent(quantizer, clip)

    def make_projection(self, target):
        quantizer = self._get(target.options.get("quantizer", self.quantizer))
        if isinstance(quantizer, quantizers.Quantizer):
            quantizer = quantizer.for_kernel(output_axes(target.layer, target.variable.name))
        return self.projection(quantizer, getattr(quantizer, "clip_value", None))

    def make_schedule(self, target, run):
        return self._always

    def measure(self, value, state):
        return float(state["share"])
