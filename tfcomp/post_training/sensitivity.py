"""How much each weight can be pruned before a model notices."""

import itertools
from typing import NamedTuple

import keras
import numpy as np
from rich.table import Table

from tfcomp import targets as targets_lib
from tfcomp.core.mask import magnitude
from tfcomp.methods.gradual_pruning import choose_masks
from tfcomp.model import patterns
from tfcomp.model.data import batches, keywords
from tfcomp.validation import check_number, invalid

GRID = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


class Scanned(NamedTuple):
    """One measurement of a `Sensitivity`.

    Attributes:
        path: Path of the weight, the only one that was pruned.
        sparsity: Fraction of zeros in it.
        deviations: The threshold in standard deviations of the weight: the `quality` of
            `tfcomp.callbacks.MagnitudePruning` that leads there.
        value: The metric.
    """

    path: str
    sparsity: float
    deviations: float
    value: float


class Sensitivity:
    """What `tfcomp.sensitivity` measured.

    Attributes:
        metric: Name of the metric.
        baseline: Its value with no weight pruned.
        rows: List of `Scanned`.
    """

    def __init__(self, metric, baseline, rows):
        self.metric, self.baseline, self.rows = metric, baseline, rows

    def within(self, drop):
        """The largest measured sparsity of each weight that costs at most `drop`.

        Larger sparsities count only where all smaller ones cost no more than `drop`, too.

        Args:
            drop: By how much the metric may be worse than the baseline: below it, or above it for
                a metric that is better when smaller.

        Returns:
            Dict from path to `Scanned`; a weight of which no measurement is good enough is not
            in it.
        """
        better_when_smaller = _smaller_is_better(self.metric)
        found, over = {}, set()
        for row in self.rows:
            loss = row.value - self.baseline if better_when_smaller else self.baseline - row.value
            if not loss <= drop:
                over.add(row.path)
            elif row.path not in over:
                found[row.path] = row
        return found

    def targets(self, drop, make=lambda row: {"sparsity": row.sparsity}):
        """Overrides for the `targets` of a callback or of `tfcomp.prune_obs`.

        Args:
            drop: See `within`.
            make: Function from a `Scanned` to a dict of overrides, such as
                `lambda row: {"quality": row.deviations}` for `MagnitudePruning`.

        Returns:
            Dict from path to overrides; `None`, which leaves it out, for a weight that cannot be
            pruned at all.
        """
        good = self.within(drop)
        paths = dict.fromkeys(row.path for row in self.rows)
        return {path: make(good[path]) if path in good else None for path in paths}

    def plot(self, path=None):
        """Draws the metric over the sparsity, one line for each weight.

        Args:
            path: File to write, or `None`.

        Returns:
            The `matplotlib.figure.Figure`.

        Raises:
            ImportError: If matplotlib is not installed (`pip install tfcomp[viz]`).
        """
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        axes = figure.subplots()
        for name in dict.fromkeys(row.path for row in self.rows):
            rows = [row for row in self.rows if row.path == name]
            sparsities, values = [r.sparsity for r in rows], [r.value for r in rows]
            axes.plot([0, *sparsities], [self.baseline, *values], marker=".", label=name)
        axes.set(xlabel="sparsity of one weight", ylabel=self.metric)
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure

    def table(self):
        """Returns a `rich.table.Table`, one row for each weight."""
        columns = list(dict.fromkeys(round(row.sparsity, 2) for row in self.rows))
        table = Table(title=f"{self.metric}, {self.baseline:.4f} with nothing pruned")
        table.add_column("Pruned")
        for sparsity in columns:
            table.add_column(f"{sparsity:.0%}", justify="right")
        for name in dict.fromkeys(row.path for row in self.rows):
            cells = {round(r.sparsity, 2): f"{r.value:.4f}" for r in self.rows if r.path == name}
            table.add_row(name, *(cells.get(sparsity, "") for sparsity in columns))
        return table

    def __repr__(self):
        weights = len({row.path for row in self.rows})
        return f"Sensitivity({self.metric!r}: {len(self.rows)} measurements of {weights} weights)"


def _smaller_is_better(metric):
    return "loss" in metric or "error" in metric or metric in ("mae", "mse", "mape", "msle")


def sensitivity(
    model,
    data,
    sparsities=GRID,
    targets=None,
    metric=None,
    batch_size=32,
    verbose=1,
):
    """Prunes each weight by itself to a grid of sparsities and evaluates the model each time.

    The scan that Han et al. choose their thresholds by: magnitude pruning, without retraining.
    Nothing of it stays; the model is as before when the function returns or raises.

    Args:
        model: A built and compiled `keras.Model`.
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays or structures of arrays, or
            a dataset of batches, for validation. Never the test set, if you choose anything by it.
        sparsities: Sparsities in [0, 1), rising.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight.
        metric: Name of a compiled metric, or `"loss"`; `None` for the first metric there is.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 1 for a progress bar, 0 for silence.

    Returns:
        A `Sensitivity`, which makes a table, overrides for `targets`, and a plot.

    Raises:
        ValueError: For an argument that cannot be used, or a model that is not compiled.

    Source: Song Han, Jeff Pool, John Tran, William J. Dally, "Learning both Weights and Connections
    for Efficient Neural Networks", arXiv:1506.02626.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> model.compile("sgd", "mse")
    >>> data = np.ones((16, 8)), np.ones((16, 4))
    >>> scan = tfcomp.sensitivity(model, data, sparsities=(0.25, 0.5), verbose=0)
    >>> scan.metric, [row.sparsity for row in scan.rows]
    ('loss', [0.25, 0.5])
    """
    if not getattr(model, "compiled", False):
        raise ValueError("`tfcomp.sensitivity` evaluates the model: call `compile` on it first.")
    sparsities = list(sparsities)
    for amount in sparsities:
        check_number("sparsities", amount, 0, below=1)
    if not sparsities or any(a >= b for a, b in itertools.pairwise(sparsities)):
        raise invalid("sparsities", sparsities, "at least one number, rising")
    found = targets_lib.find(model, targets)
    for target in found:
        magnitude(target.path, _numpy(target.variable))
    next(iter(batches(data, batch_size)))

    names, baseline = _evaluate(model, data, batch_size)
    if metric is None:
        metric = next((name for name in names if name != "loss"), "loss")
    if metric not in names:
        raise invalid("metric", metric, f"one of {names}")

    rows = []
    bar = keras.utils.Progbar(len(found) * len(sparsities), verbose=verbose, unit_name="evaluation")
    for target in found:
        before = _numpy(target.variable).copy()
        try:
            for amount in sparsities:
                value, threshold = _pruned(target.path, before, amount)
                target.variable.assign(value)
                _, measured = _evaluate(model, data, batch_size)
                deviation = float(np.std(before.astype(np.float64))) or 1.0
                zeros = float(np.mean(value == 0))
                rows.append(Scanned(target.path, zeros, threshold / deviation, measured[metric]))
                bar.update(len(rows))
        finally:
            target.variable.assign(before)
    return Sensitivity(metric, baseline[metric], rows)


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def _pruned(path, value, amount):
    """The value without its smallest weights, and a threshold between these and the others."""
    scores, pattern = [magnitude(path, value)], [patterns.Unstructured()]
    size = scores[0].copy()
    (mask,) = choose_masks(scores, [value != 0], pattern, amount)
    # Between the two, for rounding not to matter.
    return value * mask, float(size[mask].min() + size[~mask].max(initial=0)) / 2


def _evaluate(model, data, batch_size):
    measured = model.evaluate(**keywords(data, batch_size), verbose=0, return_dict=True)
    return list(measured), measured
