"""Fixed-point inputs for the layers of a trained model, with ranges found on data."""

import contextlib
import functools
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcomp import surgery
from tfcomp import targets as targets_lib
from tfcomp.layers import quantized as quantized_layers
from tfcomp.layers.base.quantized import QuantizedMixin
from tfcomp.model.choice import Unsuited, choose
from tfcomp.model.data import Batches
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.model.watching import call_order, watching
from tfcomp.quantizers.base import Quantizer
from tfcomp.quantizers.fixed_point import FixedPoint
from tfcomp.validation import check_integer, check_verbose, invalid

_COLUMNS = {
    "Layer": "{0.path}",
    "Smallest input": "{0.smallest:.4g}",
    "Largest": "{0.largest:.4g}",
    "Quantizer": "{0.quantizer!r}",
}


class QuantizedInputs(NamedTuple):
    """What `quantize_activations` did to one layer.

    Attributes:
        path: Path of the layer.
        smallest: The smallest input it sees on the data.
        largest: The largest.
        quantizer: Its input quantizer.
    """

    path: str
    smallest: float
    largest: float
    quantizer: Any


def quantize_activations(
    model, bits=8, first_bits=8, data=None, targets=None, *, batch_size=32, verbose=1
):
    """Returns a model like `model` whose layers quantize their inputs to dynamic fixed point.

    Makes a new model; `model` is not changed.

    Each layer gets the finest fixed-point format of so many bits that holds all the inputs it sees
    on `data`, signed where one of them is negative: a `tfcomp.quantizers.FixedPoint` of its own, as
    the `input_quantizer` of the `tfcomp.layers.Quantized*` layer that takes its place. Names,
    connections and weights stay. After `tfcomp.quantize(model, FineGrainedTernary(4), data=data)`
    it completes the conversion without training of ternary networks with fine-grained
    quantization.

    Layers that quantize their inputs already, and layers with kernels that have no `Quantized*`
    form or are made inside another layer, are left out, and the result says so.

    Args:
        model: A built Sequential or functional `keras.Model`.
        bits: Bits of a number, 2 to 16, the sign included; or a quantizer for the inputs of all
            layers, used as it is. Can be overridden in `targets`.
        first_bits: The same for the layer that is called first, 8 in the paper, unless `targets`
            overrides it; `None` for no exception.
        data: Inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset ...
        targets: Which layers: `None` for all that can be, or any other form that
            `tfcomp.targets.find` takes, callables as `layer -> bool`.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar over the data, 2 for a line for each layer.

    Returns:
        A `tfcomp.Result`: the new `model`, `rows` of `QuantizedInputs`, and what was `left_out`.

    Raises:
        ValueError: For an argument that cannot be used; if a layer that `targets` names cannot be
            done or is not called on `data`; or if inputs contain NaN or infinity.

    Reference:
        Naveen Mellempudi et al., "Ternary Neural Networks with Fine-Grained Quantization",
        arXiv:1705.01462.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> x = np.linspace(-3, 3, 80).reshape(10, 8)
    >>> done = tfcomp.quantize_activations(model, bits=4, first_bits=None, data=x, verbose=0)
    >>> done.model.layers[0].input_quantizer
    FixedPoint(integer_bits=2, fraction_bits=1, signed=True)
    """
    bits, first_bits = _check(bits, "bits"), _check(first_bits, "first_bits")
    if bits is None:
        raise invalid("bits", bits, "an integer from 2 to 16, or a quantizer")
    verbose = check_verbose(verbose)
    targets_lib.check_built(model)
    batches = Batches(model, data, batch_size)
    order = call_order(model, batches.first())
    prepare = functools.partial(_plan, order, bits)
    find = functools.partial(targets_lib.find_layers, suits=_takes_numbers)
    plans, left_out = choose(model, targets, prepare, ["bits"], find)
    plans.sort(key=lambda plan: order[id(plan[0].layer)])

    progress = Progress(None, verbose, "batch")
    ranges = _ranges(model, batches, [target.layer for target, _ in plans], progress)
    called = [t.layer for t in find(model, None) if id(t.layer) in order]
    first = min(called, key=lambda layer: order[id(layer)])
    rows, rules = [], {}
    for target, choice in plans:
        if target.layer is first and first_bits is not None and not target.options:
            choice = first_bits
        smallest, largest = ranges[id(target.layer)]
        if isinstance(choice, int):
            choice = FixedPoint.calibrated((smallest, largest), choice)
        cls = _quantized_class(target.layer)
        rules[target.layer] = functools.partial(cls, input_quantizer=choice)
        rows.append(QuantizedInputs(target.path, float(smallest), float(largest), choice))
        progress.line(f"{target.path}: {smallest:.4g} to {largest:.4g}, {choice!r}")
    progress.left_out(left_out)
    new = surgery.swapped_copy(model, rules)
    return Result(new, rows, left_out, f"Quantized inputs of {new.name}", _COLUMNS)


def _check(choice, argument):
    """Bits, a quantizer, or `None`."""
    if choice is None or isinstance(choice, Quantizer):
        return choice
    return check_integer(argument, choice, 2, 16)


def _quantized_class(layer):
    """The class that can quantize the inputs of a layer, or `None`."""
    if isinstance(layer, QuantizedMixin):
        # A layer may make its own quantizers.
        return None if "input_quantizer" in layer.refused_arguments else type(layer)
    found = getattr(quantized_layers, f"Quantized{type(layer).__name__}", None)
    return found if found is not None and type(layer) in found.__mro__ else None


def _takes_numbers(layer):
    """Whether a layer multiplies its inputs by a kernel of its own."""
    has_kernel = any(targets_lib.is_kernel(v) for v in targets_lib.own_variables(layer))
    return has_kernel and not isinstance(layer, keras.layers.Embedding)


def _plan(order, bits, target):
    """The target, and what its inputs become."""
    layer = target.layer
    if getattr(layer, "input_quantizer", None) is not None:
        raise Unsuited("it quantizes its inputs already")
    if _quantized_class(layer) is None:
        raise Unsuited(f"no `Quantized` form of {type(layer).__name__}")
    if id(layer) not in order:
        raise Unsuited("the model does not call it")
    choice = target.options.get("bits", bits)
    if choice is None:
        raise invalid("bits", choice, "an integer from 2 to 16, or a quantizer")
    return target, _check(choice, "bits")


def _ranges(model, batches, layers, progress):
    """Dict from `id(layer)` to the smallest and largest input."""
    found = {}

    def see(args, kwargs, layer):
        inputs = np.asarray(keras.ops.convert_to_numpy(args[0]), np.float32)
        low, high = found.get(id(layer), (np.inf, -np.inf))
        found[id(layer)] = (min(low, inputs.min()), max(high, inputs.max()))

    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(watching(layer, functools.partial(see, layer=layer)))
        for x in batches:
            model(x, training=False)
            progress.step()
    for layer in layers:
        if not np.isfinite(found[id(layer)]).all():
            raise ValueError(f"The inputs of {layer.name!r} contain NaN or infinity on `data`.")
    return found
