"""Quantizing the weights of a trained model as they are."""

import contextlib

import keras

from tfcomp import quantizers
from tfcomp import targets as targets_lib
from tfcomp.axes import output_axes
from tfcomp.posttraining.data import batches
from tfcomp.projections.base import check_weights
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
        function = quantizers.get(target.options.get("quantizer", quantizer))
        if function is None:
            raise invalid("quantizer", quantizer, "a quantizer")
        if isinstance(function, quantizers.Quantizer):
            function = function.for_kernel(output_axes(target.layer, target.variable.name))
        check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
        chosen.append((target, function))
    if data is not None:
        next(batches(data, batch_size))
    errors = {}
    for target, function in chosen:
        # By way of numpy, since TensorFlow casts a variable to its own dtype by handing it back.
        before = keras.ops.convert_to_tensor(keras.ops.convert_to_numpy(target.variable.value))
        before = keras.ops.cast(before, "float32")
        after = keras.ops.cast(function(before), "float32")
        target.variable.assign(after)
        whole = float(keras.ops.sum(before**2))
        errors[target.path] = float(keras.ops.sum((after - before) ** 2)) / whole if whole else 0.0
    if data is not None:
        _estimate_statistics(model, data, batch_size, verbose)
    return errors


def _estimate_statistics(model, data, batch_size, verbose):
    layers = [site.layer for site in targets_lib.layer_sites(model)]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    with _settings(layers, norms):
        bar = keras.utils.Progbar(None, verbose=verbose)
        for seen, (batch, _) in enumerate(batches(data, batch_size)):
            for layer in norms:
                # The mean over the batches so far.
                layer.momentum = seen / (seen + 1)
            model(batch, training=True)
            bar.add(1)


@contextlib.contextmanager
def _settings(layers, norms):
    """Trains normalization alone: no dropout, and momentum comes back afterwards."""
    drops = [layer for layer in layers if isinstance(getattr(layer, "rate", None), (int, float))]
    kept = [(layer, "rate", layer.rate) for layer in drops]
    kept += [(layer, "momentum", layer.momentum) for layer in norms]
    for layer in drops:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, name, value in kept:
            setattr(layer, name, value)
