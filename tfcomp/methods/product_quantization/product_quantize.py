"""Product quantization of a trained model, layer by layer, with error correction."""

import functools
import math
from typing import NamedTuple

import keras
import numpy as np

from tfcomp import surgery
from tfcomp import targets as targets_lib
from tfcomp.core.projection import check_weights
from tfcomp.methods.product_quantization import codebooks as pq
from tfcomp.methods.product_quantization.layers import (
    ProductQuantizedConv1D,
    ProductQuantizedConv2D,
    ProductQuantizedConv3D,
    ProductQuantizedDense,
    code_dtype,
)
from tfcomp.model.choice import Unsuited, choose, why_not_plain
from tfcomp.model.data import Batches
from tfcomp.model.linear import linear_map
from tfcomp.model.moments import moments
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.model.watching import call_order
from tfcomp.validation import check_integer, check_verbose

_CLASSES = {
    keras.layers.Dense: ProductQuantizedDense,
    keras.layers.Conv1D: ProductQuantizedConv1D,
    keras.layers.Conv2D: ProductQuantizedConv2D,
    keras.layers.Conv3D: ProductQuantizedConv3D,
}
_OPTIONS = ("subvector_size", "codewords", "lookup")


class ProductQuantizedTarget(NamedTuple):
    """What `product_quantize` made of one weight.

    Attributes:
        path: Path of the weight.
        subvector_size: Input channels in a sub-space.
        codewords: Sub-vectors in a codebook.
        kmeans_error: Squared error of the layer's outputs on `data` with the codebooks of k-means,
            relative to the squared outputs; `None` without data.
        error: The same after the correction.
    """

    path: str
    subvector_size: int
    codewords: int
    kmeans_error: float | None
    error: float | None


class _Plan(NamedTuple):
    """What is to become of one weight."""

    target: targets_lib.Target
    cls: type
    options: dict

    @property
    def blocks(self):
        """Groups, positions, channels and outputs in a group, and sub-vector size and number."""
        *window, channels, filters = self.target.variable.shape
        groups = getattr(self.target.layer, "groups", 1)
        size = min(self.options["subvector_size"], channels)
        return groups, math.prod(window), channels, filters // groups, size, -(-channels // size)

    def why_not(self):
        """Why the layer stays as it is, or `None`."""
        groups, positions, _, outputs, size, spaces = self.blocks
        codewords = self.options["codewords"]
        if codewords > positions * outputs:
            return f"{positions * outputs} sub-vectors in a sub-space for {codewords} codewords"
        bits = 32 * groups * spaces * codewords * size
        bits += groups * positions * spaces * outputs * math.ceil(math.log2(codewords))
        if bits >= 32 * math.prod(self.target.variable.shape):
            return "codebooks would take as much as the weights"
        return None


def product_quantize(
    model,
    subvector_size=4,
    codewords=32,
    data=None,
    targets=None,
    *,
    sweeps=2,
    lookup=False,
    seed=0,
    batch_size=32,
    verbose=1,
):
    """Returns a model whose dense and convolutional weights are codewords of small codebooks.

    Makes a new model; `model` is not changed.

    Layer after layer, in the order in which the model calls them, the input channels of a kernel
    are split in sub-spaces, and a codebook for each is found by k-means. With `data`, codebooks and
    codes are then corrected for the layer's error: so that its outputs, computed from what the
    quantized layers before it yield, come as close as they can to those of the original model.
    Labels are not used. Fine-tuning trains the codebooks.

    Works on `Dense` and `Conv1D` to `Conv3D`. Other layers, and those that would not become
    smaller, are left out, and the result says so.

    Args:
        model: A built Sequential or functional `keras.Model`, with nested models if need be.
        subvector_size: Input channels in a sub-space.
        codewords: Sub-vectors in a codebook.
        data: `None`, or inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset, ... A
            few hundred samples of training data.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for all those the
            method is defined for. `subvector_size`, `codewords` and `lookup` can be overridden.
        sweeps: How often the correction goes over all sub-spaces of a layer.
        lookup: As in `tfcomp.layers.ProductQuantizedDense`.
        seed: Seed of k-means.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each weight.

    Returns:
        A `tfcomp.Result`: the new `model`, compiled like `model`, in which
        `tfcomp.layers.ProductQuantized*` stand in place of the layers, `rows` of
        `ProductQuantizedTarget`, and what was `left_out`.

    Raises:
        ValueError: For an argument that cannot be used; or if a layer that `targets` names cannot
            become smaller this way.

    Reference:
        Jiaxiang Wu et al., "Quantized Convolutional Neural Networks for Mobile Devices",
        arXiv:1512.06473.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((16,)), keras.layers.Dense(64)])
    >>> x = np.random.default_rng(0).normal(size=(128, 16))
    >>> done = tfcomp.product_quantize(model, 2, 8, data=x, verbose=0)
    >>> small = done.model
    >>> [tuple(v.shape) for v in (small.layers[0].codebooks, small.layers[0].codes)]
    [(8, 8, 2), (8, 64)]
    """
    sweeps = check_integer("sweeps", sweeps, 1)
    seed = check_integer("seed", seed, 0, 2**31 - 1)
    verbose = check_verbose(verbose)
    targets_lib.check_built(model)
    options = {"subvector_size": subvector_size, "codewords": codewords, "lookup": lookup}
    batches = None if data is None else Batches(model, data, batch_size)
    order = None if batches is None else call_order(model, batches.first())
    prepare = functools.partial(_plan, order, options)
    plans, left_out = choose(model, targets, prepare, _OPTIONS)
    # A copy, in which quantized kernels take the place of the original ones one by one.
    work = surgery.swapped_copy(model, {...: None})
    if order is not None:
        plans.sort(key=lambda plan: order[id(plan.target.layer)])

    found, rows, progress = {}, [], Progress(len(plans), verbose, "weight")
    for plan in plans:
        books, codes, errors = _quantized(model, work, plan, batches, sweeps, seed)
        found[plan.target.path] = books, codes
        sizes = plan.options["subvector_size"], plan.options["codewords"]
        rows.append(ProductQuantizedTarget(plan.target.path, *sizes, *errors))
        progress.step()
        note = "" if data is None else f", error {errors[1]:.3%}"
        progress.line(f"{plan.target.path}: {sizes[1]} codewords of {sizes[0]}{note}")
    progress.left_out(left_out)
    columns = {
        "Weight": "{0.path}",
        "Sub-vectors": "{0.subvector_size}",
        "Codewords": "{0.codewords}",
    }
    if data is not None:
        columns |= {"Error by k-means": "{0.kmeans_error:.3%}", "Corrected": "{0.error:.3%}"}
    new = _swapped(model, plans, found, seed)
    return Result(new, rows, left_out, "Product quantization", columns)


def _plan(order, options, target):
    layer, chosen = target.layer, {**options, **target.options}
    cls = _CLASSES.get(type(layer))
    if cls is None or target.variable.name != "kernel":
        raise Unsuited(f"the {target.variable.name!r} of {type(layer).__name__}")
    reason = why_not_plain(layer)
    if reason:
        raise Unsuited(reason)
    if order is not None and id(layer) not in order:
        raise Unsuited("the model does not call its layer")
    # The layer says what it thinks of its arguments.
    arguments = {"filters": 1, "kernel_size": 1}
    cls(**({"units": 1} if "Dense" in cls.__name__ else arguments), **chosen)
    plan = _Plan(target, cls, chosen)
    if plan.why_not():
        raise Unsuited(plan.why_not())
    check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
    return plan


def _linear(model, plan):
    """The `LinearMap` of a plan's weight in a model that has it at the same path."""
    sites = targets_lib.variable_sites(model)
    site = next(site for site in sites if site.path == plan.target.path)
    target = targets_lib.Target(site.path, site.variable, site.layer, {})
    return linear_map(target, targets_lib.layer_sites(model))


def _quantized(model, work, plan, batches, sweeps, seed):
    """Codebooks and codes of one weight, and its errors before and after the correction."""
    groups, positions, channels, outputs, size, spaces = plan.blocks
    original, current = _linear(model, plan), _linear(work, plan)
    value = keras.ops.convert_to_numpy(plan.target.variable.value).astype(np.float64)
    matrices = original.matrices(value)
    missing = spaces * size - channels
    padded = matrices.reshape(groups, positions, channels, outputs)
    padded = np.pad(padded, [(0, 0), (0, 0), (0, missing), (0, 0)])
    padded = padded.reshape(groups, positions, spaces, size, outputs)
    books, codes, errors = [], [], np.zeros(3)
    statistics = None
    if batches is not None:
        runs = [functools.partial(whole, training=False) for whole in (model, work)]
        statistics = moments(runs, (original, current), matrices, batches)
    for group, weight in enumerate(padded):
        book, code = pq.cluster(weight, plan.options["codewords"], seed)
        if statistics is not None:
            gram, cross, energy = (part[group] for part in statistics[:3])
            gram, cross = _padded(gram, cross, positions, channels, missing)
            before = pq.error(pq.decode(book, code), gram, cross, energy)
            book, code = pq.correct(book, code, gram, cross, sweeps)
            errors += [energy, before, pq.error(pq.decode(book, code), gram, cross, energy)]
        books.append(book)
        codes.append(code)
    decoded = np.stack([pq.decode(book, code) for book, code in zip(books, codes)])
    decoded = decoded.reshape(groups, positions, spaces * size, outputs)[:, :, :channels]
    decoded = decoded.reshape(groups, positions * channels, outputs)
    current.target.variable.assign(current.assemble(decoded))
    relative = (None, None) if batches is None else tuple(errors[1:] / (errors[0] or 1.0))
    return np.concatenate(books), np.concatenate(codes, axis=-1), relative


def _padded(gram, cross, positions, channels, missing):
    """Statistics with inputs of zero where a last sub-vector is too long."""
    if not missing:
        return gram, cross
    shape, pad = (positions, channels), [(0, 0), (0, missing)]
    gram = np.pad(gram.reshape(*shape, *shape), pad + pad)
    size = positions * (channels + missing)
    cross = np.pad(cross.reshape(*shape, -1), [*pad, (0, 0)])
    return gram.reshape(size, size), cross.reshape(size, -1)


def _swapped(model, plans, found, seed):
    rules = {
        plan.target.layer: functools.partial(plan.cls, seed=seed, **plan.options) for plan in plans
    }
    swapped = surgery.swapped_copy(model, rules)
    sites = {site.path: site.layer for site in targets_lib.layer_sites(swapped)}
    for plan in plans:
        layer = sites[plan.target.path.rpartition("/")[0]]
        books, codes = found[plan.target.path]
        layer.codebooks.assign(books)
        shape = layer.codes.shape
        layer.codes.assign(codes.reshape(shape).astype(code_dtype(layer.codewords)))
    return swapped
