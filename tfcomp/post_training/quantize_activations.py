"""Fixed-point inputs for the layers of a trained model, with ranges found on data."""

import contextlib
import functools
import warnings

import keras
import numpy as np

from tfcomp import layers as layers_lib
from tfcomp import quantizers, surgery
from tfcomp import targets as targets_lib
from tfcomp.layers.base.quantized import QuantizedMixin
from tfcomp.model.data import batches
from tfcomp.model.watching import watching
from tfcomp.validation import invalid


def quantize_activations(model, data, bits=8, first_bits=8, batch_size=32, verbose=1):
    """Returns a model like `model` whose layers quantize their inputs to dynamic fixed point.

    Each layer gets the finest fixed-point format of so many bits that holds all the inputs it sees
    on `data`, signed where one of them is negative: a `tfcomp.quantizers.FixedPoint` of its own, as
    the `input_quantizer` of the `tfcomp.layers.Quantized*` layer that takes its place. Names,
    connections and weights stay. After `tfcomp.quantize(model, FineGrainedTernary(4), data=data)`
    it completes the conversion without training of ternary networks with fine-grained
    quantization.

    Layers that quantize their inputs already keep their quantizer. Where the inputs of a layer with
    kernels stay as they are, because it has no `Quantized*` form or is made inside another layer, a
    warning says so.

    Args:
        model: A built Sequential or functional `keras.Model`; it is not changed.
        data: Inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset ...
        bits: Bits of a number, 2 to 16, the sign included; a quantizer for the inputs of all
            layers, used as it is; or a dict from rule, in any form `tfcomp.swap_layers` takes, to
            either of these, or to `None` for inputs as they are. Layers that no rule of a dict
            covers have their inputs as they are.
        first_bits: The same for the layer that is called first, 8 in the paper; `None` for no
            exception.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 1 for a progress bar over the data, 0 for silence.

    Returns:
        The new model.

    Raises:
        ValueError: For an argument that cannot be used; if a layer is not called on `data`, or its
            inputs contain NaN or infinity.

    Reference:
        Naveen Mellempudi et al., "Ternary Neural Networks with Fine-Grained Quantization",
        arXiv:1705.01462.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> x = np.linspace(-3, 3, 80).reshape(10, 8)
    >>> small = tfcomp.quantize_activations(model, x, bits=4, verbose=0)
    >>> small.layers[0].input_quantizer
    FixedPoint(integer_bits=2, fraction_bits=5, signed=True)
    """
    targets_lib.check_built(model)
    chosen = _chosen(model, bits)
    first_bits = _check(first_bits, "first_bits")
    ranges = _ranges(model, data, [layer for layer, _ in chosen], batch_size, verbose)
    first = min(chosen, key=lambda pair: list(ranges).index(id(pair[0])))[0]
    rules = {}
    for layer, choice in chosen:
        if layer is first and first_bits is not None:
            choice = first_bits
        if isinstance(choice, int):
            choice = quantizers.FixedPoint.calibrated(ranges[id(layer)], choice)
        rules[layer] = functools.partial(_quantized_class(layer), input_quantizer=choice)
    return surgery.swap_layers(model, rules)


def _check(choice, argument):
    """Bits, a quantizer, or `None`."""
    if choice is None or isinstance(choice, quantizers.Quantizer):
        return choice
    if type(choice) is not int or not 2 <= choice <= 16:
        raise invalid(argument, choice, "an integer from 2 to 16, or a quantizer")
    return choice


def _quantized_class(layer):
    """The class that can quantize the inputs of a layer, or `None`."""
    if isinstance(layer, QuantizedMixin):
        # A DoReFa layer makes its own quantizers.
        return None if hasattr(layer, "activation_bits") else type(layer)
    found = getattr(layers_lib, f"Quantized{type(layer).__name__}", None)
    return found if found is not None and type(layer) in found.__mro__ else None


def _chosen(model, bits):
    """Pairs of a layer and what its inputs become."""
    sites = targets_lib.layer_sites(model)
    known = [site for site in sites if _can_change(site)]
    rules = bits if isinstance(bits, dict) else {...: bits}
    if not known:
        raise invalid("model", model.name, "a model with a layer that has a `Quantized*` form")
    chosen = targets_lib.best_rules(rules, known, "bits")
    pairs = [(known[i].layer, _check(value, "bits")) for i, value in sorted(chosen.items())]
    pairs = [(layer, value) for layer, value in pairs if value is not None]
    if not pairs:
        raise invalid("bits", bits, "bits for one layer at least")
    left = [site.path for site in sites if _is_left(site, known)]
    if left:
        warnings.warn(
            f"quantize_activations: the inputs of {', '.join(left)} stay as they are.", stacklevel=3
        )
    return pairs


def _can_change(site):
    quantizes = getattr(site.layer, "input_quantizer", None) is not None
    inside = any(not isinstance(layer, keras.Model) for layer in site.chain[:-1])
    return _quantized_class(site.layer) is not None and not quantizes and not inside


def _is_left(site, known):
    layer = site.layer
    if isinstance(layer, keras.layers.Embedding) or getattr(layer, "input_quantizer", None):
        return False
    has_kernel = any(targets_lib.is_kernel(v) for v in targets_lib.own_variables(layer))
    return has_kernel and all(other.layer is not layer for other in known)


def _ranges(model, data, layers, batch_size, verbose):
    """Dict from `id(layer)` to the smallest and largest input, in the order of the first calls."""
    found = {}

    def see(args, kwargs, layer):
        inputs = np.asarray(keras.ops.convert_to_numpy(args[0]), np.float32)
        low, high = found.get(id(layer), (np.inf, -np.inf))
        found[id(layer)] = (min(low, inputs.min()), max(high, inputs.max()))

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(watching(layer, functools.partial(see, layer=layer)))
        bar = keras.utils.Progbar(None, verbose=verbose, unit_name="batch")
        for batch, _ in batches(data, batch_size):
            model(batch, training=False)
            bar.add(1)
    for layer in layers:
        if id(layer) not in found:
            raise invalid("bits", layer.name, "layers that the model calls on `data`")
        if not np.isfinite(found[id(layer)]).all():
            raise ValueError(f"The inputs of {layer.name!r} contain NaN or infinity on `data`.")
    return found
