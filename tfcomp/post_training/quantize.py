"""Quantizing the weights of a trained model as they are."""

import contextlib

import keras
import numpy as np

from tfcomp import quantizers
from tfcomp import targets as targets_lib
from tfcomp.core.projection import check_weights
from tfcomp.model.axes import output_axes
from tfcomp.model.data import batches
from tfcomp.model.watching import watching
from tfcomp.quantizers.base import applied
from tfcomp.validation import invalid


def quantize(model, quantizer, targets=None, data=None, batch_size=32, verbose=1):
    """Quantizes weights of a trained model in place, without training.

    With `data`, the statistics of every `BatchNormalization` are estimated anew afterwards, as
    ternary networks with fine-grained quantization need it (arXiv:1705.01462): they were those of
    the original weights.

    Args:
        model: A built `keras.Model` of any kind.
        quantizer: A name, an object such as `tfcomp.quantizers.FineGrainedTernary(4)`, or a
            function from tensor to tensor.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `quantizer` can be overridden.
        data: `None`, or inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset ...
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 1 for a progress bar over the data, 0 for silence.

    Returns:
        Dict from the path of each weight to the squared error relative to its squared norm.

    Raises:
        ValueError: For an argument that cannot be used, or a weight with NaN; nothing is changed.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> errors = tfcomp.quantize(model, "ternary")
    >>> len(np.unique(np.abs(model.layers[0].kernel.numpy())))
    2
    """
    targets_lib.check_built(model)
    chosen = []
    for target in targets_lib.find(model, targets):
        unknown = set(target.options) - {"quantizer"}
        if unknown:
            raise invalid(
                "targets", target.options, f"overrides for {target.path} among ['quantizer']"
            )
        function = quantizers.get(target.options.get("quantizer", quantizer), "quantizer")
        if function is None:
            raise invalid("quantizer", quantizer, "a quantizer")
        if isinstance(function, quantizers.Quantizer):
            function = function.for_kernel(output_axes(target.layer, target.variable.name))
        check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
        chosen.append((target, function))
    errors = {}
    with _all_or_nothing(model):
        for target, function in chosen:
            # By way of numpy: TensorFlow casts a variable to its own dtype by handing it back.
            before = keras.ops.convert_to_numpy(target.variable.value)
            before = keras.ops.cast(keras.ops.convert_to_tensor(before), "float32")
            after = keras.ops.cast(applied(function, before), "float32")
            target.variable.assign(after)
            whole = float(keras.ops.sum(before**2))
            error = float(keras.ops.sum((after - before) ** 2))
            errors[target.path] = error / whole if whole else 0.0
        if data is not None:
            _estimate_statistics(model, data, batch_size, verbose)
    return errors


@contextlib.contextmanager
def _all_or_nothing(model):
    """Gives all variables their values back where something goes wrong."""
    kept = [(v, np.array(keras.ops.convert_to_numpy(v.value))) for v in model.variables]
    try:
        yield
    except BaseException:
        for variable, value in kept:
            variable.assign(value)
        raise


def _estimate_statistics(model, data, batch_size, verbose):
    """Means and variances over all samples and calls; a batch is normalized by its own."""
    layers = [site.layer for site in targets_lib.layer_sites(model)]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        # One batch, to say what is wrong with data that are not needed.
        model(next(batches(data, batch_size))[0])
        return
    moments = [_Moments(layer) for layer in norms]
    bar = keras.utils.Progbar(None, verbose=verbose)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_settings(layers, norms))
        for each in moments:
            stack.enter_context(watching(each.layer, each.add))
        for batch, _ in batches(data, batch_size):
            model(batch, training=True)
            bar.add(1)
    for each in moments:
        each.assign()


class _Moments:
    """What a `BatchNormalization` sees."""

    def __init__(self, layer):
        self.layer = layer
        self.count, self.sum, self.squares = 0, 0.0, 0.0

    def add(self, args, kwargs):
        x = np.asarray(keras.ops.convert_to_numpy(args[0]), np.float64)
        x = np.moveaxis(x, self.layer.axis, -1)
        mask = kwargs.get("mask")
        if mask is not None:
            x = x[np.asarray(keras.ops.convert_to_numpy(mask), bool)]
        x = x.reshape(-1, x.shape[-1])
        self.count += len(x)
        self.sum, self.squares = self.sum + x.sum(0), self.squares + (x**2).sum(0)

    def assign(self):
        if not self.count:
            return
        mean = self.sum / self.count
        variance = np.maximum(self.squares / self.count - mean**2, 0)
        if not np.isfinite(mean + variance).all():
            raise invalid("data", "NaN or infinity", f"finite inputs of {self.layer.name!r}")
        self.layer.moving_mean.assign(mean)
        self.layer.moving_variance.assign(variance)


@contextlib.contextmanager
def _settings(layers, norms):
    """Normalization alone as in training, by the batch at hand, and no dropout."""
    drops = [layer for layer in layers if isinstance(getattr(layer, "rate", None), (int, float))]
    kept = [(layer, "rate", layer.rate) for layer in drops]
    kept += [(layer, "trainable", layer.trainable) for layer in norms]
    for layer in drops:
        layer.rate = 0.0
    for layer in norms:
        # A frozen one would go by its old statistics.
        layer.trainable = True
    try:
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)
