"""Gradual magnitude pruning.

Michael Zhu, Suyog Gupta, "To prune, or not to prune: exploring the efficacy of pruning for model
compression", arXiv:1710.01878.
"""

import itertools

import keras
import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.core.mask import Mask, magnitude
from tfcomp.core.options import options_of
from tfcomp.model import patterns
from tfcomp.model.axes import as_matrix, from_matrix, output_axes
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
        block_pooling: `"mean"` or `"max"` of the magnitudes in a block.
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
        model compression", arXiv:1710.01878.

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
    """

    overrides = ("schedule", "block_size", "block_pooling", "m_by_n", "per_gate")

    def __init__(
        self,
        schedule,
        scope="layer",
        block_size=None,
        block_pooling="mean",
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
        self.m_by_n, self.per_gate = m_by_n, per_gate
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
        if chosen["m_by_n"] is not None:
            if chosen["block_size"] is not None:
                raise invalid("block_size", chosen["block_size"], "None together with `m_by_n`")
            if self.scope == "global":
                raise invalid("scope", self.scope, "'layer' together with `m_by_n`")
            pattern = patterns.MByN(chosen["m_by_n"])
            if final is not None and patterns.count(final, pattern.n) != pattern.m:
                raise invalid(
                    "m_by_n", chosen["m_by_n"], f"m / n equal to the schedule's final {final}"
                )
            return pattern
        if chosen["block_size"] is not None:
            return patterns.Blocks(chosen["block_size"], chosen["block_pooling"])
        return patterns.Unstructured()

    def make_projection(self, target):
        pattern = self._pattern(target.options)
        final = self._schedule(target.options.get("schedule", self.schedule)).final_value
        if self.scope == "layer" and final is not None:
            shape = _matrix(target, pattern, as_numpy(target.variable)).shape
            pattern.check_reach(target.path, shape, final)
        return Mask()

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
        items, scores, alive, shapes = [], [], [], []
        for entry in group:
            value, state = entry.read()
            target, gates = entry.target, self._gates(entry.target)
            pattern = self._pattern(target.options)
            score = self.score(target.path, value, state)
            items.append((entry, pattern, state["mask"], gates))
            scores += np.split(_matrix(target, pattern, score), gates, axis=-1)
            alive += np.split(_matrix(target, pattern, state["mask"]), gates, axis=-1)
            shapes += [pattern] * gates
        # Negative stands for dead from here on; only the order matters.
        if min(score.min() for score in scores) < 0:
            low = min(score.min(where=a, initial=0) for score, a in zip(scores, alive))
            scores = [score - low for score in scores]
        if self.scope == "global":
            masks = choose_masks(scores, alive, shapes, amount)
        else:
            chosen = zip(scores, alive, shapes)
            masks = [choose_masks([s], [a], [p], amount)[0] for s, a, p in chosen]
        masks = iter(masks)
        for entry, pattern, before, gates in items:
            parts = list(itertools.islice(masks, gates))
            mask = parts[0] if gates == 1 else np.concatenate(parts, axis=-1)
            if not _is_unstructured(pattern):
                mask = from_matrix(mask, before.shape, _axes(entry.target))
            entry.write_state({"mask": mask & before})
            entry.project()

    def _gates(self, target):
        if not target.options.get("per_gate", self.per_gate):
            return 1
        gates = next((n for cell, n in _GATES.items() if isinstance(target.layer, cell)), 1)
        return gates if target.variable.name in ("kernel", "recurrent_kernel") else 1


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
