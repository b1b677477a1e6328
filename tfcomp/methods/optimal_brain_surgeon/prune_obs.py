"""Optimal brain surgeon in one call, on a trained model and a few batches of data."""

import functools
from typing import NamedTuple

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core.projection import check_weights
from tfcomp.core.step import Projected
from tfcomp.methods.optimal_brain_surgeon import obs
from tfcomp.model import patterns
from tfcomp.model.choice import Unsuited, choose
from tfcomp.model.data import Batches
from tfcomp.model.linear import add_squares, linear_map
from tfcomp.model.memory import available_bytes
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.model.watching import call_order, watching
from tfcomp.validation import check_integer, check_number, check_verbose, invalid


class PrunedTarget(NamedTuple):
    """What `prune_obs` did to one weight.

    Attributes:
        path: Path of the weight.
        sparsity: Fraction of zeros.
        error: `|X w - X w'|**2 / |X w|**2`, over the inputs that the layer sees in the model as it
            is pruned so far.
        magnitude_error: The same, had the smallest weights been zeroed instead.
    """

    path: str
    sparsity: float
    error: float
    magnitude_error: float


_COLUMNS = {
    "Weight": "{0.path}",
    "Zeros": "{0.sparsity:.1%}",
    "Error": "{0.error:.3%}",
    "By magnitude": "{0.magnitude_error:.3%}",
}


def prune_obs(
    model,
    sparsity,
    data=None,
    targets=None,
    *,
    method="auto",
    damping=0.01,
    block=128,
    m_by_n=None,
    batch_size=32,
    verbose=1,
):
    """Prunes a trained model, without training: the weights left make up for those gone.

    Works in place.

    Layer after layer, in the order in which the model calls them, weights are removed so that the
    layer's output on `data` changes least, and the others are moved to the least-squares optimum
    (Hassibi and Stork's optimal brain surgeon, for the output of one layer). Inputs of a layer come
    from the model as pruned so far. A few hundred samples of training data are enough; labels are
    not used.

    Works on the kernels of `Dense`, `EinsumDense` (and so attention), `Conv1D` to `Conv3D`, their
    transposes, `DepthwiseConv1D`/`2D`, on both kernels of `SeparableConv1D`/`2D`, and on the input
    and recurrent kernels of `LSTM`, `GRU` and `SimpleRNN`; others, such as embeddings, are left
    out, and the result says so. Zeros stay zero. To keep them so in a later `fit` give it
    `tfcomp.callbacks.PreserveSparsity()`.

    Args:
        model: A built `keras.Model` of any kind.
        sparsity: Fraction of zeros in each weight, in [0, 1). Can be overridden in `targets`.
        data: Inputs of the model: an array, a tuple `(x, y)`, a dict, a `tf.data.Dataset`, ...
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for all those the
            method is defined for.
        method: `"greedy"` removes one weight at a time, always the one that costs least, with the
            inverse Hessian brought up to date every time; its time grows with the fourth
            power of the width of a layer. `"sweep"` goes over the inputs once (SparseGPT), for
            layers of thousands of units. `"auto"` chooses for each weight.
        damping: Fraction of the mean squared input that is added to all squared inputs.
        block: Inputs that `"sweep"` chooses together.
        m_by_n: `None`, or `(m, n)`: `m` zeros in every `n` consecutive weights along the inputs;
            `sparsity` must be `m / n`.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each weight.

    Returns:
        A `tfcomp.Result`: `rows` of `PrunedTarget`, in the order in which they were pruned, and
        what was `left_out`.

    Raises:
        ValueError: For an argument that cannot be used, before anything is changed; if the method
            is not defined for a weight that `targets` names, or its layer is never called.
        MemoryError: Before anything is changed, where a layer has more inputs than there is memory
            for: the square of their number in doubles, and once more to fit few weights anew.

    Reference:
        Babak Hassibi, David G. Stork, "Second order derivatives for network pruning: Optimal Brain
        Surgeon", NIPS 1992; layer by layer: Xin Dong, Shangyu Chen, Sinno Jialin Pan, "Learning to
        Prune Deep Neural Networks via Layer-wise Optimal Brain Surgeon", arXiv:1705.07565; Elias
        Frantar, Dan Alistarh, "SparseGPT", arXiv:2301.00774.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> x = np.random.default_rng(0).normal(size=(64, 8))
    >>> done = tfcomp.prune_obs(model, 0.5, x, verbose=0)
    >>> done[0].sparsity
    0.5
    >>> done[0].error < done[0].magnitude_error
    True
    """
    verbose = check_verbose(verbose)
    check_number("sparsity", sparsity, 0, below=1)
    check_number("damping", damping, 0)
    if method not in ("auto", "greedy", "sweep"):
        raise invalid("method", method, "'auto', 'greedy' or 'sweep'")
    block = check_integer("block", block, 1)
    if m_by_n is not None:
        pattern = patterns.MByN(m_by_n)
        m_by_n = (pattern.m, pattern.n)
        if method == "greedy":
            raise invalid("method", method, "'auto' or 'sweep' together with `m_by_n`")
    targets_lib.check_built(model)
    batches = Batches(model, data, batch_size)
    order = call_order(model, batches.first())
    prepare = functools.partial(_plan, targets_lib.layer_sites(model), order, sparsity, m_by_n)
    plans, left_out = choose(model, targets, prepare, ["sparsity"])
    plans.sort(key=lambda plan: order[id(plan[0].layer)])

    _check_memory(plans, method)

    rows, progress = [], Progress(len(plans), verbose, "weight")
    for linear, amount in plans:
        hessians = _hessians(model, batches, linear)
        rows.append(_prune(linear, hessians, amount, method, damping, block, m_by_n))
        progress.step()
        progress.line(f"{rows[-1].path}: {amount:.1%} pruned, error {rows[-1].error:.3%}")
    progress.left_out(left_out)
    return Result(model, rows, left_out, "Pruned by optimal brain surgeon", _COLUMNS)


def _plan(sites, order, sparsity, m_by_n, target):
    """The `LinearMap` of a target, and its sparsity."""
    linear = linear_map(target, sites)
    if id(linear.layer) not in order:
        raise Unsuited("the model does not call its layer")
    amount = target.options.get("sparsity", sparsity)
    check_number("sparsity", amount, 0, below=1)
    if m_by_n is not None and patterns.count(amount, m_by_n[1]) != m_by_n[0]:
        raise invalid("m_by_n", m_by_n, f"m / n equal to the sparsity {amount}")
    check_weights(target.path, keras.ops.convert_to_numpy(target.variable.value))
    _check_free(target)
    return linear, amount


def _masks(target):
    constraint = target.variable.constraint
    return constraint.entries if isinstance(constraint, Projected) else []


def _check_free(target):
    for entry in _masks(target):
        if entry.projection.kind != "mask" or entry.latent:
            raise ValueError(
                f"{target.path} is kept {entry.projection.kind!r} by a callback, so its weights "
                "cannot move. Call `tfcomp.release(model)` first."
            )


def _shape(linear):
    return linear.matrices(keras.ops.convert_to_numpy(linear.target.variable.value)).shape


def _check_memory(plans, method):
    """Raises where there is no memory for one of the plans, before any of them is carried out."""
    available = available_bytes()
    for linear, amount in plans if available is not None else ():
        groups, inputs, outputs = _shape(linear)
        needed = obs.needed_bytes(groups, inputs, outputs, amount, method)
        if needed > available:
            path = linear.target.path
            raise MemoryError(
                f"Pruning {path} takes {needed:,} bytes, {8 * groups * inputs**2:,} of them for "
                f"the {groups} x {inputs:,} x {inputs:,} second derivatives, and {available:,} are "
                f"available. Leave it out by `targets={{..., {path!r}: None}}`, or prune it by "
                "magnitude."
            )


def _hessians(model, batches, linear):
    """`X.T @ X` of every group of a linear map, over all of the data."""
    groups, inputs, _ = _shape(linear)
    total = np.zeros((groups, inputs, inputs))

    def see(args, kwargs):
        for samples in linear.samples(args, kwargs):
            add_squares(total, samples)

    with watching(linear.layer, see):
        for x in batches:
            model(x, training=False)
    # No number in it is larger than two on the diagonal.
    if not np.isfinite(np.einsum("gii->gi", total)).all():
        raise ValueError(f"The inputs of {linear.target.path} contain NaN or infinity on `data`.")
    return total


def _prune(linear, hessians, amount, method, damping, block, m_by_n):
    target = linear.target
    value = keras.ops.convert_to_numpy(target.variable.value)
    before = linear.matrices(value)
    # Exact in total, whatever the groups round to.
    ends = [patterns.count(amount, before[0].size * i) for i in range(len(before) + 1)]
    after, errors, plain = [], [], []
    for i, (weight, hessian) in enumerate(zip(before, hessians)):
        share = (ends[i + 1] - ends[i]) / weight.size
        new, _ = obs.prune(weight, hessian, share, method, damping, block, m_by_n)
        smallest = weight * patterns.keep_largest(np.abs(weight), np.count_nonzero(new))
        after.append(new)
        errors.append(obs.error(weight, new, hessian))
        plain.append(obs.error(weight, smallest, hessian))
    new = linear.assemble(np.stack(after))
    target.variable.assign(new)
    for entry in _masks(target):
        _, state = entry.read()
        entry.write_state({**state, "mask": state["mask"] & (new != 0)})
    return PrunedTarget(
        target.path, float(np.mean(new == 0)), float(np.mean(errors)), float(np.mean(plain))
    )
