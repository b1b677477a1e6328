"""Layers of a trained model as products of smaller ones, with reconstruction from data.

Max Jaderberg et al., arXiv:1405.3866; Xiangyu Zhang et al., arXiv:1505.06798; Yong-Deok Kim et al.,
arXiv:1511.06530.
"""

import contextlib
import functools
import math
from typing import NamedTuple

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.core.projection import check_weights
from tfcomp.methods.low_rank import budget, factors
from tfcomp.methods.low_rank.layers import stacked
from tfcomp.model.choice import Unsuited, choose, why_not_plain
from tfcomp.model.data import Batches
from tfcomp.model.linear import LinearMap, linear_map
from tfcomp.model.moments import moments
from tfcomp.model.progress import Progress
from tfcomp.model.result import LeftOut, Result
from tfcomp.model.watching import call_order
from tfcomp.surgery.swap import swap_layers
from tfcomp.validation import check_integer, check_number, check_verbose, invalid

# Only these classes themselves: a subclass may do anything else with its kernel.
_SUITED = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_METHODS = ("svd", "spatial", "tucker")
_SPARED = "the budget leaves it as it is"


class DecomposedTarget(NamedTuple):
    """What `decompose` made of one weight.

    Attributes:
        path: Path of the weight.
        method: `"svd"`, `"spatial"` or `"tucker"`.
        rank: The rank; with `"tucker"` the pair of those of inputs and outputs.
        before: Numbers in the weight.
        after: Numbers in the kernels that stand for it.
        energy: Share of the weight's squares that is kept: one minus the squared error of the
            product of these kernels, relative to the squared weight.
        error: Squared error of the layer's outputs on `data`, relative to the squared outputs
            without bias; `None` without data.
    """

    path: str
    method: str
    rank: int | tuple
    before: int
    after: int
    energy: float
    error: float | None


class _Plan(NamedTuple):
    """What is to become of one weight.

    Attributes:
        ranks: The ranks; empty until a budget decides on them.
        squares: List of the squared singular values of each unfolding, for a budget.
    """

    target: targets_lib.Target
    linear: LinearMap
    method: str
    ranks: list
    squares: list

    @property
    def layer(self):
        return self.target.layer

    @property
    def axes(self):
        """The axes of the window that each kernel of the chain covers."""
        return factors.covered(self.method, len(self.target.variable.shape) - 2)

    @property
    def axes_so_far(self):
        """The axes that each kernel of the chain and those before it cover."""
        return [sum(self.axes[: i + 1], ()) for i in range(len(self.axes))]

    def ranks_of(self, energy):
        """The smallest ranks that keep an energy."""
        shares = factors.shares(energy, self.method)
        return [factors.rank_of(share, squares) for share, squares in zip(shares, self.squares)]

    def numbers(self, ranks):
        """Numbers in each kernel of the chain, of all groups."""
        *window, inputs, outputs = self.target.variable.shape
        groups = getattr(self.layer, "groups", 1)
        sizes = [inputs, *ranks, outputs // groups]
        covered = [math.prod(window[axis] for axis in axes) for axes in self.axes]
        return [groups * a * b * c for a, b, c in zip(covered, sizes, sizes[1:])]


def decompose(
    model,
    energy=0.9,
    rank=None,
    method="svd",
    data=None,
    targets=None,
    *,
    macs=None,
    damping=0.001,
    batch_size=32,
    verbose=1,
):
    """Returns a model whose dense and convolutional layers are products of smaller ones.

    Makes a new model; `model` is not changed. A subclassed model alone is changed in place.

    A layer becomes a `keras.Sequential` of its name, of two or three layers of its own class: plain
    Keras, saved and loaded without tfcomp. `Dense` and convolutions of one position are split by a
    singular value decomposition; other convolutions as `method` says:

        `"svd"`: fewer filters, then a convolution 1×1 that combines them;
        `"spatial"`: along the first axis of the window, then along the others;
        `"tucker"`: 1×1 to fewer channels, the whole window, 1×1 to all channels.

    Strides, dilation, padding, groups, biases and activations stay what they were.

    With `data`, layer after layer in the order of their calls, factors are fitted so that the
    outputs, computed from what the decomposed layers before yield, come as close as they can to
    those of the original model: with `"svd"` the best of this rank, else the last factor alone. A
    bias is fitted, too. Labels are not used.

    Layers of other kinds, and those that would not become smaller, are left out, and the result
    says so.

    Args:
        model: A built `keras.Model` of any kind.
        energy: Share of a weight's squares that the product has to keep, in (0, 1]; the smallest
            rank that does is taken. It can be overridden in `targets`.
        rank: The rank instead: an integer, or a float, a part of the largest rank; with `"tucker"`
            a pair of these for inputs and outputs, or one for both. A dict from a rule, as in
            `targets`, to the rank of what it covers leaves `energy` to decide on others. It can be
            overridden in `targets`.
        method: `"svd"`, `"spatial"` or `"tucker"`. It can be overridden in `targets`.
        data: `None`, or inputs of the model: an array, a tuple `(x, y)`, a dict, a dataset, ... A
            few hundred samples of training data.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for all that become
            smaller.
        macs: Multiply-accumulate operations of the new model for one sample at most, a part of
            those there are (a float up to 1) or a number. In place of `energy`, layers without a
            rank or energy of their own get the ranks by which the product of what all of them keep
            is largest (Zhang et al.).
        damping: How strongly fitted weights are held near what they were, as a fraction of the mean
            squared input.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each weight.

    Returns:
        A `tfcomp.Result`: the new `model`, compiled as `model` is, with a fresh optimizer, `rows`
        of `DecomposedTarget`, and what was `left_out`.

    Raises:
        ValueError: For an argument that cannot be used; if a weight that `targets` or `rank`
            names cannot become smaller this way; or if a budget cannot be met.

    Reference:
        Max Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank Expansions",
        arXiv:1405.3866; Xiangyu Zhang et al., "Accelerating Very Deep Convolutional Networks for
        Classification and Detection", arXiv:1505.06798; Yong-Deok Kim et al., "Compression of Deep
        Convolutional Neural Networks for Fast and Low Power Mobile Applications", arXiv:1511.06530.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential([keras.Input((32,)), keras.layers.Dense(64, name="dense")])
    >>> small = tfcomp.decompose(model, rank=4, verbose=0).model
    >>> [(layer.name, layer.units) for layer in small.get_layer("dense").layers]
    [('dense_basis', 4), ('dense_combine', 64)]
    """
    verbose = check_verbose(verbose)
    check_number("damping", damping, 0)
    targets_lib.check_built(model)
    options = {"energy": energy, "rank": rank, "method": method}
    if macs is not None and rank is not None and not isinstance(rank, dict):
        raise invalid("macs", macs, "None together with one `rank` for all")
    cost = None if macs is None else budget.Cost(model)
    if isinstance(rank, dict):
        options["rank"], targets = None, _with_ranks(targets, rank)
    batches = None if data is None else Batches(model, data, batch_size)
    order = None if batches is None else call_order(model, batches.first())
    sites = targets_lib.layer_sites(model)
    prepare = functools.partial(_plan, order, sites, options, cost is not None)
    plans, left_out = choose(model, targets, prepare, list(options))
    if cost is not None:
        plans, spared = budget.meet(cost, plans, macs)
        left_out += [LeftOut(plan.target.path, _SPARED) for plan in spared]
    if order is not None:
        plans.sort(key=lambda plan: order[id(plan.layer)])

    rules, rows, changed, progress = {}, [], [], Progress(len(plans), verbose, "weight")
    for plan in plans:
        chains, bias, row = _decomposed(model, plan, changed, batches, damping)
        chain = [np.concatenate(kernels, axis=-1) for kernels in zip(*chains)]
        rules[plan.layer] = functools.partial(_stacked, plan, chain, bias)
        rows.append(row)
        progress.step()
        note = "" if data is None else f", error {row.error:.3%}"
        progress.line(f"{row.path}: rank {row.rank}, {row.energy:.2%} kept{note}")
    progress.left_out(left_out)
    columns = {
        "Weight": "{0.path}",
        "Method": "{0.method}",
        "Rank": "{0.rank}",
        "Numbers": "{0.before:,}",
        "now": "{0.after:,}",
        "Energy": "{0.energy:.2%}",
    }
    if data is not None:
        columns["Error"] = "{0.error:.3%}"
    new = swap_layers(model, rules)
    return Result(new, rows, left_out, f"Decomposed layers of {new.name}", columns)


def _with_ranks(targets, ranks):
    """The `targets` in which rules have these ranks, too."""
    if targets is not None and not isinstance(targets, dict):
        raise invalid("rank", ranks, "no dict where `targets` is none")
    merged = dict(targets or {})
    for rule, rank in ranks.items():
        merged[rule] = None if rank is None else {**(merged.get(rule) or {}), "rank": rank}
    return merged


def _plan(order, sites, options, has_budget, target):
    layer, variable = target.layer, target.variable
    chosen = {**options, **target.options}
    if "energy" in target.options and "rank" not in target.options:
        chosen["rank"] = None
    method = _method(chosen["method"], layer)
    check_number("energy", chosen["energy"], above=0)
    if chosen["energy"] > 1:
        raise invalid("energy", chosen["energy"], "a number in (0, 1]")
    if type(layer) not in _SUITED or variable.name != "kernel":
        raise Unsuited(f"the {variable.name!r} of {type(layer).__name__}")
    if layer.kernel_constraint is not None:
        raise Unsuited("its layer has a kernel constraint, which factors cannot keep to")
    reason = why_not_plain(layer)
    if reason:
        raise Unsuited(reason)
    if order is not None and id(layer) not in order:
        raise Unsuited("the model does not call its layer")
    plan = _Plan(target, linear_map(target, sites), method, [], [])
    check_weights(target.path, keras.ops.convert_to_numpy(variable.value))
    kernels = _kernels(plan)
    if chosen["rank"] is None:
        plan.squares.extend(_squares(kernels, method))
        if has_budget and "energy" not in target.options:
            return plan
        plan.ranks.extend(plan.ranks_of(chosen["energy"]))
    else:
        plan.ranks.extend(_ranks(kernels, method, chosen["rank"]))
    before, after = math.prod(variable.shape), sum(plan.numbers(plan.ranks))
    if after >= before:
        raise Unsuited(
            f"at rank {_shown(plan.ranks)} it would have {after:,} numbers, not {before:,}"
        )
    return plan


def _method(method, layer):
    """The method itself, or `"svd"` where a layer has no window to split."""
    if method not in _METHODS:
        raise invalid("method", method, f"one of {list(_METHODS)}")
    positions = np.prod(getattr(layer, "kernel_size", ()))
    return "svd" if positions == 1 else method


def _kernels(plan):
    """Arrays `(*window, inputs, outputs)`, one for each group."""
    value = keras.ops.convert_to_numpy(plan.target.variable.value).astype(np.float64)
    matrices = plan.linear.matrices(value)
    return [matrix.reshape(*value.shape[:-1], -1) for matrix in matrices]


def _squares(kernels, method):
    """Squared singular values of each unfolding, by groups."""
    unfolded = [factors.unfoldings(kernel, method) for kernel in kernels]
    return [np.stack(list(map(factors.spectrum, matrices))) for matrices in zip(*unfolded)]


def _ranks(kernels, method, rank):
    unfolded = factors.unfoldings(kernels[0], method)
    pair = isinstance(rank, (tuple, list))
    given = list(rank) if pair else [rank] * len(unfolded)
    if len(given) != len(unfolded):
        raise invalid("rank", rank, f"{len(unfolded)} for a weight split by {method!r}")
    return [_rank(each, min(matrix.shape)) for each, matrix in zip(given, unfolded)]


def _rank(rank, largest):
    if isinstance(rank, (float, np.floating)):
        check_number("rank", rank, above=0)
        rank = max(1, round(rank * largest))
    return min(check_integer("rank", rank, 1), largest)


def _shown(ranks):
    return ranks[0] if len(ranks) == 1 else tuple(ranks)


def _decomposed(model, plan, changed, batches, damping):
    """The chain of each group, the bias, and the row of one weight.

    From then on the model in which `changed` is assigned has it.
    """
    kernels, bias, error = _kernels(plan), None, None
    chains = [factors.chain_of(kernel, plan.method, plan.ranks) for kernel in kernels]
    if batches is not None:
        chains, bias, error = _fitted(model, plan, kernels, chains, changed, batches, damping)
    products = [factors.product(chain) for chain in chains]
    matrices = np.stack([kernel.reshape(-1, kernel.shape[-1]) for kernel in products])
    changed.append((plan.target.variable, plan.linear.assemble(matrices)))
    if bias is not None:
        changed.append((plan.layer.bias, bias))
    whole = sum(np.sum(kernel**2) for kernel in kernels) or 1.0
    lost = sum(np.sum((a - b) ** 2) for a, b in zip(kernels, products)) / whole
    before, after = sum(k.size for k in kernels), sum(k.size for chain in chains for k in chain)
    rank = _shown(plan.ranks)
    row = DecomposedTarget(plan.target.path, plan.method, rank, before, after, 1 - lost, error)
    return chains, bias, row


def _fitted(model, plan, kernels, chains, changed, batches, damping):
    """Chains and bias that fit data, and the error that is left."""
    run = functools.partial(model, training=False)

    def run_changed(x):
        with _assigned(changed):
            run(x)

    matrices = np.stack([kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels])
    linears = (plan.linear, plan.linear)
    seen = moments((run, run_changed), linears, matrices, batches)
    x, y = seen.inputs / seen.count, seen.outputs / seen.count
    gram, cross, energy = seen.gram, seen.cross, seen.energy
    if plan.layer.use_bias:
        # The bias sees to means.
        gram = gram - seen.count * x[:, :, None] * x[:, None]
        cross = cross - seen.count * x[:, :, None] * y[:, None]
        energy = energy - seen.count * np.sum(y**2, axis=1)
    chains = [
        factors.fitted(chain, kernel, plan.method, *sums, damping)
        for chain, kernel, *sums in zip(chains, kernels, gram, cross)
    ]
    products = [factors.product(chain) for chain in chains]
    error = sum(map(factors.error, products, gram, cross, energy))
    bias = None
    if plan.layer.use_bias:
        shifts = [b - a @ kernel.reshape(len(a), -1) for a, b, kernel in zip(x, y, products)]
        bias = keras.ops.convert_to_numpy(plan.layer.bias) + np.concatenate(shifts)
    return chains, bias, error / (np.sum(seen.energy) or 1.0)


@contextlib.contextmanager
def _assigned(pairs):
    """Context in which variables have other values."""
    # Copies: PyTorch would show the values that are assigned.
    before = [(v, np.array(keras.ops.convert_to_numpy(v.value))) for v, _ in pairs]
    try:
        for variable, value in pairs:
            variable.assign(value)
        yield
    finally:
        for variable, value in before:
            variable.assign(value)


def _stacked(plan, chain, bias, layer):
    stack = stacked(layer, chain, plan.method, plan.axes)
    if bias is not None:
        stack.layers[-1].bias.assign(bias)
    return stack
