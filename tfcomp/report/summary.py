"""A table of what each layer weighs and costs."""

import concurrent.futures
import os
from typing import NamedTuple

import keras
import numpy as np
from rich.table import Table

from tfcomp import targets
from tfcomp.console import READABLE, paths, show
from tfcomp.model import macs
from tfcomp.model.calls import layer_calls
from tfcomp.model.final_weights import FinalWeights
from tfcomp.storage.estimate import about_distinct, estimate
from tfcomp.storage.patterns import bit_patterns, sorted_distinct


class LayerSummary(NamedTuple):
    """One row of a `Summary`.

    Attributes:
        name: Name of the layer.
        type: Name of its class.
        path: Names of the layers around it and its own, `"outer/inner"`.
        weights: Number of weights.
        bits_per_weight: Bits per weight in the smallest form.
        sparsity: Share of zeros among its kernels, or among all its weights if it has no kernel.
        distinct: Number of distinct values of the same.
        bytes_float32: Bytes of the weights in single precision.
        bytes_coded: Bytes of the weights, each variable in its smallest form.
        macs: Dict from `(weight bits, input bits)` to multiply-accumulate operations for one
            sample, or `None` where they are not known: a total is then more than what it says.
        is_estimate: Whether `bytes_coded`, `bits_per_weight` and `distinct` are estimates, from a
            part of a large weight whose values hardly repeat. Elsewhere they are exact.
    """

    name: str
    type: str
    path: str
    weights: int
    bits_per_weight: float
    sparsity: float
    distinct: int
    bytes_float32: int
    bytes_coded: int
    macs: dict | None
    is_estimate: bool = False


def _add(total, part):
    for key, number in part.items():
        total[key] = total.get(key, 0) + number


class Summary:
    """What each layer of a model weighs and costs.

    Attributes:
        name: Name of the model.
        layers: List of `LayerSummary`, one for each layer with weights, or with MACs or unknown
            ones, and for each operation of a functional model with these.
    """

    def __init__(self, name, layers):
        self.name = name
        self.layers = layers

    @property
    def weights(self):
        """Number of weights."""
        return sum(row.weights for row in self.layers)

    @property
    def bytes_float32(self):
        """Bytes of all weights in single precision."""
        return 4 * self.weights

    @property
    def bytes_coded(self):
        """Bytes of all weights, each variable in its smallest form."""
        return sum(row.bytes_coded for row in self.layers)

    @property
    def bits_per_weight(self):
        """Bits per weight in the smallest form."""
        return 8 * self.bytes_coded / self.weights if self.weights else 0.0

    @property
    def sparsity(self):
        """Share of zeros, of the layers' sparsities weighed by their numbers of weights."""
        zeros = sum(row.sparsity * row.weights for row in self.layers)
        return zeros / self.weights if self.weights else 0.0

    @property
    def macs(self):
        """Dict from `(weight bits, input bits)` to the MACs that are known.

        A lower bound, unless `macs_complete`.
        """
        total = {}
        for row in self.layers:
            _add(total, row.macs or {})
        return total

    @property
    def macs_complete(self):
        """Whether the MACs of every layer are known."""
        return all(row.macs is not None for row in self.layers)

    @property
    def is_estimate(self):
        """Whether the coded bytes of a layer are an estimate, and so their total."""
        return any(row.is_estimate for row in self.layers)

    def to_dict(self):
        """Returns everything as plain dicts and lists, the keys of MACs as `"1x32"`."""

        def plain(counted):
            return counted and {f"{w}x{x}": number for (w, x), number in counted.items()}

        totals = ("weights", "bits_per_weight", "sparsity", "bytes_float32", "bytes_coded")
        return {
            "name": self.name,
            "layers": [{**row._asdict(), "macs": plain(row.macs)} for row in self.layers],
            **{name: getattr(self, name) for name in totals},
            "macs": plain(self.macs),
            "macs_complete": self.macs_complete,
            "is_estimate": self.is_estimate,
        }

    def table(self):
        """Returns a `rich.table.Table`."""
        table = Table(title=f"{self.name}", show_footer=True, title_justify="left")
        total_macs = _macs(self.macs, "" if self.macs_complete else "≥ ")
        about = "~" if self.is_estimate else ""
        columns = [
            ("Layer", "left", "Total"),
            ("Type", "left", ""),
            ("Weights", "right", f"{self.weights:,}"),
            ("Bits/weight", "right", f"{about}{self.bits_per_weight:.2f}"),
            ("Zeros", "right", f"{self.sparsity:.1%}"),
            ("Values", "right", ""),
            ("float32 kB", "right", f"{self.bytes_float32 / 1000:,.1f}"),
            ("Coded kB", "right", f"{about}{self.bytes_coded / 1000:,.1f}"),
            ("MACs (bits)", "right", total_macs),
        ]
        for header, justify, footer in columns:
            table.add_column(header, footer, justify=justify)
        cells = paths([row.path for row in self.layers])
        table.columns[0].min_width = READABLE
        for row, path in zip(self.layers, cells):
            about = "~" if row.is_estimate else ""
            table.add_row(
                path,
                row.type,
                f"{row.weights:,}",
                f"{about}{row.bits_per_weight:.2f}" if row.weights else "",
                f"{row.sparsity:.1%}" if row.weights else "",
                f"{about}{row.distinct:,}" if row.weights else "",
                f"{row.bytes_float32 / 1000:,.1f}" if row.weights else "",
                f"{about}{row.bytes_coded / 1000:,.1f}" if row.weights else "",
                "unknown" if row.macs is None else _macs(row.macs),
            )
        return table

    def __repr__(self):
        return (
            f"Summary({self.name!r}: {self.weights:,} weights, {self.bytes_float32:,} bytes in "
            f"float32, {self.bytes_coded:,} coded)"
        )


def _macs(counted, bound=""):
    lines = [f"{bound}{number:,} ({w}x{x})" for (w, x), number in sorted(counted.items())]
    return "\n".join(lines) or (bound and f"{bound}0")


def _bits(dtype):
    # tfcomp.storage has taught numpy bfloat16 and float8.
    return 8 * np.dtype(keras.backend.standardize_dtype(dtype)).itemsize


class _Operands:
    """How many bits a layer's weights and inputs have when they are multiplied."""

    def __init__(self, call):
        layer = call.layer
        # An operation computes in the dtype of its tensors.
        self.compute = _bits(getattr(layer, "compute_dtype", call.dtype) or "float32")
        quantizers = targets.weight_quantizers(layer)
        self.quantizers = {id(variable): quantizer for variable, quantizer in quantizers}
        quantizer = getattr(layer, "input_quantizer", None)
        # Keras's own quantized layers quantize their inputs as they come.
        dynamic = getattr(layer, "quantization_mode", None) in ("int8", "int4")
        self.input = getattr(quantizer, "bits", None) or (8 if dynamic else self.compute)

    def key(self, variable):
        if variable is None:
            return self.compute, self.compute
        bits = getattr(self.quantizers.get(id(variable)), "bits", None)
        stored = _bits(variable.dtype)
        return bits or min(stored, self.compute), self.input


def _row_layer(site):
    """The layer in whose row a weight belongs: its own, but a recurrent layer is one row."""
    for layer in site.chain:
        if isinstance(layer, keras.layers.RNN):
            return layer
    own = [layer for layer in site.chain if not targets.is_part(layer)]
    return own[-1] if own else site.layer


def _owned(model, sites):
    """Maps `id(layer)` to the weights in its row, each weight once."""
    # Seeds and metrics are variables, and no weights.
    left = {id(variable) for variable in model.weights}
    owned = {}
    for site in sites:
        for variable in targets.own_variables(site.layer):
            if id(variable) in left:
                left.remove(id(variable))
                owned.setdefault(id(_row_layer(site)), []).append(variable)
    return owned


def _numbers(counted):
    return [number for _, number in counted]


def _macs_by_layer(model, input_shape, data):
    """Maps `id(layer)` to a layer or operation and its MACs by operand bits, or `None`.

    `None` itself for an untraced model.
    """
    pairs = layer_calls(model, input_shape, data)
    if pairs is None:
        return None
    found = {}
    for first, second in pairs:
        layer = first.layer
        counted, again = macs.count(first), macs.count(second)
        if counted is None or again is None or _numbers(counted) != _numbers(again):
            found[id(layer)] = (layer, None)
        elif found.setdefault(id(layer), (layer, {}))[1] is not None:
            operands = _Operands(first)
            for variable, number in counted:
                _add(found[id(layer)][1], {operands.key(variable): number})
    return found


def _described(variables, final):
    """Maps the `id` of each weight to its `Description`."""
    # Sorting and zlib let other threads run.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        described = pool.map(lambda variable: estimate(final.value(variable)), variables)
        return dict(zip(map(id, variables), described))


def _distinct(kernels, final, descriptions):
    if len(kernels) == 1:
        return descriptions[0].distinct
    values = map(final.value, kernels)
    if any(described.is_estimate for described in descriptions):
        return about_distinct(values)
    return len(sorted_distinct(np.concatenate([bit_patterns(value) for value in values])))


def _weigh(variables, final, descriptions):
    """What a row says of the values of its weights, as arguments of `LayerSummary`."""
    if not variables:
        return {"bytes_coded": 0, "bits_per_weight": 0.0, "sparsity": 0.0, "distinct": 0}
    every = [descriptions[id(variable)] for variable in variables]
    kernels = [v for v in variables if targets.is_kernel(v)] or variables
    chosen = [descriptions[id(kernel)] for kernel in kernels]
    size = sum(described.size for described in chosen)
    zeros = size - sum(described.nonzeros for described in chosen)
    coded = sum(described.coded_bytes for described in every)
    return {
        "bytes_coded": coded,
        "bits_per_weight": 8 * coded / max(sum(described.size for described in every), 1),
        "sparsity": zeros / size if size else 0.0,
        "distinct": _distinct(kernels, final, chosen),
        "is_estimate": any(described.is_estimate for described in every),
    }


def summarize(model, input_shape=None, data=None):
    """Returns the `Summary` that `tfcomp.summary` prints."""
    targets.check_built(model, weights=False)
    final = FinalWeights(model)
    sites = targets.layer_sites(model)
    whole = targets.Site(model.name, (model,))
    owned = _owned(model, [*sites, whole])
    counted = _macs_by_layer(model, input_shape, data)
    descriptions = _described([v for part in owned.values() for v in part], final)
    layers = {id(site.layer) for site in [*sites, whole]}
    operations = [
        targets.Site(operation.name, (operation,))
        for key, (operation, _) in (counted or {}).items()
        if key not in layers
    ]

    rows = []
    for site in [*sites, *operations, whole]:
        layer, variables = site.layer, owned.get(id(site.layer), [])
        if counted is not None:
            # A layer that was not called does nothing.
            known = counted.get(id(layer), (layer, {}))[1]
        else:
            kernels = any(map(targets.is_kernel, variables))
            known = None if kernels or layer is model else {}
        if not variables and known == {}:
            continue
        size = sum(int(np.prod(variable.shape)) for variable in variables)
        rows.append(
            LayerSummary(
                name=layer.name,
                type=type(layer).__name__,
                path=site.path,
                weights=size,
                bytes_float32=4 * size,
                macs=known,
                **_weigh(variables, final, descriptions),
            )
        )
    return Summary(model.name, rows)


def summary(model, print_table=True, console=None, input_shape=None, data=None):
    """Sums up how far a model is compressed and what a prediction costs, layer by layer.

    Weights that a layer quantizes in its forward pass are counted as quantized. Shared layers
    are weighed once; their multiplications count as often as they are called.

    Everything is exact but the coded bytes and the number of values of large weights in which
    hardly a value repeats, as those of a network that was not compressed: these are estimated from
    a part of them, to about a per cent, and marked by "~" and `is_estimate`.

    Multiply-accumulate operations (MACs) are those of layers and of operations such as
    `keras.ops.matmul`. Where their number depends on an axis of unknown size, or the layer is of a
    kind that tfcomp does not know, it is shown as unknown, and the total as a lower bound. A layer
    of your own can say its MACs in a method `count_macs`; see `tfcomp.model.macs`.

    Args:
        model: A built `keras.Model` of any kind.
        print_table: Whether to print the table.
        console: Optional `rich.console.Console` to print to.
        input_shape: Shape of the input with its batch axis, or a structure of shapes, for a
            subclassed model that was never called or one with axes of unknown size.
        data: Inputs to take the shapes from instead: arrays, or a dataset of batches.

    Returns:
        A `Summary`, with the rows in `layers`.

    Raises:
        ValueError: If the model is not built, for data of no known form, or both data and a shape.

    Example:

    >>> import keras
    >>> from tfcomp.report import summary
    >>> dense = keras.layers.Dense(4, kernel_initializer="zeros")
    >>> model = keras.Sequential([keras.Input((8,)), dense])
    >>> summed = summary(model, print_table=False)
    >>> summed.weights, summed.layers[0].sparsity, summed.macs
    (36, 1.0, {(32, 32): 32})
    """
    summed = summarize(model, input_shape, data)
    if print_table:
        show(summed.table(), console)
    return summed
