"""Gradual magnitude pruning.

Michael Zhu, Suyog Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model
compression", arXiv:1710.01878.
"""

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.core.mask import Mask, magnitude
from tfcomp.core.options import options_of
from tfcomp.model import patterns
from tfcomp.model.axes import as_matrix, from_matrix, is_depthwise, output_axes
from tfcomp.model.vector_wise import Outputs, Vectors
from tfcomp.validation import invalid

# How many matrices, side by side, the kernels of a cell consist of.
_GATES = {keras.layers.LSTMCell: 4, keras.layers.GRUCell: 3}


class GradualPruning(ProjectionCallback):
    """Zeroes the weights of smallest magnitude, more and more of them while `fit` runs.

    At every point of the schedule the mask of a weight is chosen anew: exactly the scheduled
    fraction, of its weights or blocks, is zero, and what was pruned once stays so. Between the
    points masked weights are held at zero, after every optimizer update. `logs` gets `sparsity` and
    `sparsity/<path>` of each target at the end of an epoch; a callback that reads them, such as
    `TensorBoard`, comes after this one in the list.

    Args:
        schedule: `tfcomp.schedules.PolynomialDecay`, `ConstantSparsity`, `StepPortions`, or any
            tfmot `PruningSchedule`.
        scope: `"layer"` brings each weight to the scheduled sparsity by itself; `"global"` ranks
            all weights that share a schedule together, so that layers end at different
            sparsities. Each keeps at least one weight.
        block_size: `None`, or `(rows, columns)`: blocks of a kernel, seen as the matrix of its
            inputs by its outputs, are pruned together. `None` for either stands for all of them:
            `(None, 1)` prunes all that leads to one output: filters, neurons, rows of embeddings,
            and in recurrent layers single gates of a unit. Biases stay.
        block_pooling: `"mean"`, `"rms"` (root of the mean square) or `"max"` of the magnitudes in
            a block or vector; `None` for the mean of blocks and the root mean square of vectors.
        vector_size: `None`, or how many outputs keep the same inputs: the vector-wise pattern, by
            which `tfcomp.export(optimize="latency")` saves most. What one input, at one position of
            a filter, has for the outputs of a group is pruned together. Groups are of outputs that
            want the same inputs, in any order, and are made anew whenever more is pruned: weights
            that were pruned may come back then, from zero. 8 to 64 is of use; the last group may
            be smaller. Depthwise kernels have no inputs in common.
        m_by_n: `None`, or `(m, n)`: `m` zeros in every `n` consecutive weights along the inputs;
            `(2, 4)` is what sparse tensor cores take. The schedule must end at `m / n`.
        per_gate: Brings each gate of LSTM and GRU kernels to the sparsity by itself.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `schedule`, `block_size`, `block_pooling`, `m_by_n`
            and `per_gate` can be overridden.
        verbose: 1 to print a line at every update.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, if a weight contains NaN, or if it has
            too few blocks or groups for the sparsity.

    Reference:
        Michael Zhu, Suyog Gupta, "To prune, or not to prune: exploring the efficacy of pruning for
        model compression", arXiv:1710.01878. Vectors: Guyue Huang et al., "Shfl-BW: Accelerating
        Deep Neural Network Inference with Tensor-Core Aware Weight Pruning", arXiv:2203.05016;
        Yijun Tan et al., "Accelerating Sparse Convolution with Column Vector-Wise Sparsity",
        NeurIPS 2022.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> schedule = tfcomp.schedules.PolynomialDecay(0, 0.75, begin_step=0, end_step=4, frequency=1)
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 4)), batch_size=2, verbose=0,
    ...     callbacks=[tfcomp.callbacks.GradualPruning(schedule)],
    ... )
    >>> int(np.sum(model.layers[0].kernel.numpy() == 0))
    24

    Two outputs at a time that keep the same inputs:

    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    >>> model.compile("sgd", "mse")
    >>> pairs = tfcomp.callbacks.GradualPruning(schedule, vector_size=2)
    >>> x, y = np.ones((16, 8)), np.ones((16, 4))
    >>> _ = model.fit(x, y, batch_size=2, verbose=0, callbacks=[pairs])
    >>> kept = model.layers[0].kernel.numpy() != 0
    >>> len(np.unique(kept, axis=1).T), int(kept.sum())
    (2, 8)
    """

    overrides = ("schedule", "block_size", "block_pooling", "vector_size", "m_by_n", "per_gate")

    def __init__(
        self,
        schedule,
        scope="layer",
        block_size=None,
        block_pooling=None,
        vector_size=None,
        m_by_n=None,
        per_gate=False,
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, optimizer=optimizer, verbose=verbose)
        if scope not in ("layer", "global"):
            raise invalid("scope", scope, "'layer' or 'global'")
        self.schedule, self.scope = schedule, scope
        self.block_size, self.block_pooling = block_size, block_pooling
        self.vector_size, self.m_by_n, self.per_gate = vector_size, m_by_n, per_gate
        self._schedules = {}
        self._pattern({})

    def _schedule(self, schedule):
        # One object for one schedule, also behind a tfmot adapter: what shares it is one group.
        if id(schedule) not in self._schedules:
            self._schedules[id(schedule)] = schedules.get_share(schedule)
        return self._schedules[id(schedule)]

    def _pattern(self, options):
        chosen = options_of(self, options)
        if chosen["per_gate"] not in (True, False):
            raise invalid("per_gate", chosen["per_gate"], "True or False")
        if chosen["per_gate"] and self.scope == "global":
            raise invalid("scope", self.scope, "'layer' together with `per_gate`")
        final = self._schedule(chosen["schedule"]).final_value
        given = [n for n in ("block_size", "vector_size", "m_by_n") if chosen[n] is not None]
        if len(given) > 1:
            raise invalid(given[0], chosen[given[0]], f"None together with `{given[1]}`")
        if chosen["vector_size"] is not None:
            return Vectors(chosen["vector_size"], chosen["block_pooling"] or "rms")
        if chosen["m_by_n"] is not None:
            if self.scope == "global":
                raise invalid("scope", self.scope, "'layer' together with `m_by_n`")
            pattern = patterns.MByN(chosen["m_by_n"])
            if final is not None and patterns.count(final, pattern.n) != pattern.m:
                raise invalid(
                    "m_by_n", chosen["m_by_n"], f"m / n equal to the schedule's final {final}"
                )
            return pattern
        if chosen["block_size"] is not None:
            return patterns.Blocks(chosen["block_size"], chosen["block_pooling"] or "mean")
        return patterns.Unstructured()

    def make_projection(self, target):
        pattern = self._pattern(target.options)
        final = self._schedule(target.options.get("schedule", self.schedule)).final_value
        if self.scope == "layer" and final is not None:
            shape = _matrix(target, pattern, as_numpy(target.variable)).shape
            pattern.check_reach(target.path, shape, final)
        if not isinstance(pattern, Vectors):
            return Mask()
        if is_depthwise(target.layer, target.variable.name):
            raise invalid(
                "vector_size",
                pattern.size,
                f"None for {target.path}: each output of a depthwise convolution reads a channel "
                "of its own, so none share inputs. In `targets`, leave such layers out "
                "(`{keras.layers.DepthwiseConv2D: None}`) or give them `vector_size` None",
            )
        return Mask(Outputs(_axes(target), self._parts(target, pattern)))

    def make_schedule(self, target, run):
        return self._schedule(target.options.get("schedule", self.schedule))

    def compress(self, entries, amount):
        groups = [entries] if self.scope == "global" else [[entry] for entry in entries]
        for group in groups:
            self._prune(group, amount)

    def score(self, path, value, state):
        """What a weight is worth; made anew, since it is used up.

        Args:
            path: Path of the weight, for error messages.
            value: Numpy array.
            state: Dict of numpy arrays.

        Returns:
            Array of floats.
        """
        return magnitude(path, value)

    def _prune(self, group, amount):
        seen = [self._look(entry) for entry in group]
        parts = [part for each in seen for part in each.parts()]
        # Negative stands for dead from here on; only the order matters.
        if min(part.scores.min() for part in parts) < 0:
            low = min(part.scores.min(where=part.alive, initial=0) for part in parts)
            for part in parts:
                part.scores -= low
        for some in [parts] if self.scope == "global" else [[part] for part in parts]:
            _choose(some, amount)
        parts = iter(parts)
        for each in seen:
            each.prune(list(itertools.islice(parts, len(each.scores))))

    def _look(self, entry):
        value, state = entry.read()
        target, pattern = entry.target, self._pattern(entry.target.options)
        arrays = self.score(target.path, value, state), state["mask"]
        parts = self._parts(target, pattern)
        split = (np.split(_matrix(target, pattern, array), parts, axis=-1) for array in arrays)
        final = self._schedule(target.options.get("schedule", self.schedule)).final_value
        return _Seen(entry, pattern, state, *split, final or 0.0)

    def _parts(self, target, pattern):
        """How many matrices, side by side, are pruned each by itself."""
        name, layer = target.variable.name, target.layer
        if isinstance(pattern, Vectors) and name == "kernel" and getattr(layer, "groups", 1) > 1:
            # Each group of a convolution has inputs of its own.
            return layer.groups
        if not target.options.get("per_gate", self.per_gate):
            return 1
        gates = next((n for cell, n in _GATES.items() if isinstance(layer, cell)), 1)
        return gates if name in ("kernel", "recurrent_kernel") else 1


class _Seen(NamedTuple):
    """A weight that is about to be pruned.

    Attributes:
        entry: Its `Entry`.
        pattern: The pattern it is pruned in.
        state: Dict of arrays.
        scores: List of arrays, the scores of each of its parts as the pattern sees them.
        alive: List of boolean arrays, the masks so far.
        final: The sparsity that it will come to, 0 where that is not known.
    """

    entry: Any
    pattern: Any
    state: dict
    scores: list
    alive: list
    final: float

    def parts(self):
        """The parts that are pruned each by itself."""
        shapes = [self.pattern] * len(self.scores)
        if isinstance(self.pattern, Vectors):
            orders = np.split(self.state["order"], len(shapes))
            shapes = [Vectors(self.pattern.size, self.pattern.pooling, o) for o in orders]
        return [_Part(*part, self.final) for part in zip(self.scores, self.alive, shapes)]

    def prune(self, parts):
        """Applies the masks of the parts."""
        mask = parts[0].mask
        if len(parts) > 1:
            mask = np.concatenate([part.mask for part in parts], axis=-1)
        if not _is_unstructured(self.pattern):
            mask = from_matrix(mask, self.state["mask"].shape, _axes(self.entry.target))
        state = {"mask": mask}
        if isinstance(self.pattern, Vectors):
            state["order"] = np.concatenate([part.shape.order for part in parts])
        self.entry.write_state(state)
        self.entry.project()


@dataclass
class _Part:
    """A matrix that is pruned by itself.

    Attributes:
        scores: Array of floats, used up.
        alive: Boolean array, the mask so far.
        shape: The pattern.
        final: The sparsity that it will come to.
        mask: Boolean array, the new mask.
    """

    scores: np.ndarray
    alive: np.ndarray
    shape: Any
    final: float
    mask: Any = None


def _choose(parts, amount):
    """Chooses the masks of parts that compete with each other."""
    if any(isinstance(part.shape, Vectors) for part in parts) and _is_due(parts, amount):
        for part in parts:
            if isinstance(part.shape, Vectors):
                most = max(amount, part.final)
                part.shape = part.shape.renewed(part.scores, part.alive, most)
    lists = ([getattr(part, name) for part in parts] for name in ("scores", "alive", "shape"))
    for part, mask in zip(parts, choose_masks(*lists, amount)):
        # In new groups, weights that were pruned may come back, from zero.
        is_new = isinstance(part.shape, Vectors) and part.shape.is_new
        part.mask = mask if is_new else mask & part.alive


def _is_due(parts, amount):
    """Whether there is more to prune than has been: else groups stay, in a run resumed, too."""
    units = [part.shape.units(part.scores.copy(), part.alive) for part in parts]
    dead = sum(np.count_nonzero(each < 0) for each in units)
    return dead < patterns.count(amount, sum(each.size for each in units))


def _axes(target):
    return output_axes(target.layer, target.variable.name)


def _is_unstructured(pattern):
    return isinstance(pattern, patterns.Unstructured)


def _matrix(target, pattern, array):
    """An array of the shape of a weight as its pattern sees it."""
    return array if _is_unstructured(pattern) else as_matrix(array, _axes(target))


def choose_masks(scores, alive, shapes, amount):
    """Chooses the masks that leave `1 - amount` of all units, the ones of largest score.

    Args:
        scores: List of arrays of non-negative floats, which compete with each other; they are
            used up.
        alive: List of boolean arrays, the masks so far; what is dead stays dead.
        shapes: List of patterns from `tfcomp.model.patterns`.
        amount: Sparsity in [0, 1).

    Returns:
        List of boolean arrays, true where a weight is kept; at least one unit of each.
    """
    if isinstance(shapes[0], patterns.MByN):
        return [p.mask(s, a, amount) for s, a, p in zip(scores, alive, shapes)]
    units = [pattern.units(s, a) for s, a, pattern in zip(scores, alive, shapes)]
    for unit in units:
        unit.flat[np.argmax(unit)] = np.inf
    pool = units[0].ravel() if len(units) == 1 else np.concatenate([u.ravel() for u in units])
    dead = np.count_nonzero(pool < 0)
    pruned = max(patterns.count(amount, pool.size), dead)
    kept = patterns.keep_largest(pool, max(pool.size - pruned, len(units)))
    ends = np.cumsum([unit.size for unit in units])[:-1]
    parts = np.split(kept, ends)
    return [
        pattern.expand(part.reshape(unit.shape), s.shape)
        for pattern, part, unit, s in zip(shapes, parts, units, scores)
    ]
