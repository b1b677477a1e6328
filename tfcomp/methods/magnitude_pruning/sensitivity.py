"""How much each weight can be pruned before a model notices."""

import itertools
from typing import NamedTuple

import keras
import numpy as np
from rich.table import Table

from tfcomp.core.mask import magnitude
from tfcomp.methods.gradual_pruning import choose_masks
from tfcomp.model import patterns
from tfcomp.model.choice import choose
from tfcomp.model.data import Batches
from tfcomp.model.progress import Progress
from tfcomp.model.result import Result
from tfcomp.validation import check_number, check_verbose, invalid

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


class Sensitivity(Result):
    """What `tfcomp.sensitivity` measured; see `tfcomp.Result`.

    `scan["dense/kernel"]` is the list of all rows of that weight.

    Attributes:
        metric: Name of the metric.
        baseline: Its value with no weight pruned.
        rows: List of `Scanned`.
    """

    def __init__(self, model, metric, baseline, rows, left_out=()):
        title = f"{metric}, {baseline:.4f} with nothing pruned"
        super().__init__(model, rows, left_out, title)
        self.metric, self.baseline = metric, baseline

    def __getitem__(self, key):
        found = super().__getitem__(key)
        return [row for row in self.rows if row.path == key] if isinstance(key, str) else found

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
        table = Table(title=self.title, title_justify="left")
        table.add_column("Pruned", overflow="fold")
        for sparsity in columns:
            table.add_column(f"{sparsity:.0%}", justify="right")
        for name in dict.fromkeys(row.path for row in self.rows):
            cells = {round(r.sparsity, 2): f"{r.value:.4f}" for r in self.rows if r.path == name}
            table.add_row(name, *(cells.get(sparsity, "") for sparsity in columns))
        return self.with_left_out(table)


def _smaller_is_better(metric):
    return "loss" in metric or "error" in metric or metric in ("mae", "mse", "mape", "msle")


def sensitivity(
    model,
    sparsities=GRID,
    data=None,
    targets=None,
    *,
    metric=None,
    batch_size=32,
    verbose=1,
):
    """Prunes each weight by itself to a grid of sparsities and evaluates the model each time.

    Changes nothing for good: the model is as before when the function returns or raises. In between
    its weights are pruned, one at a time: where other threads go on predicting or training with the
    model, scan a copy, from `keras.models.clone_model` and `set_weights`.

    The scan that Han et al. choose their thresholds by: magnitude pruning, without retraining.

    Args:
        model: A built and compiled `keras.Model`.
        sparsities: Sparsities in [0, 1), rising.
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays or structures of arrays, or
            a dataset of batches, for validation. Never the test set, if you choose anything by it.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight.
        metric: Name of a compiled metric, or `"loss"`; `None` for the first metric there is.
        batch_size: Samples in a batch, where `data` are arrays.
        verbose: 0 for silence, 1 for a progress bar, 2 for a line for each measurement.

    Returns:
        A `Sensitivity`: a `tfcomp.Result` that makes overrides for `targets` and a plot, too.

    Raises:
        ValueError: For an argument that cannot be used, or a model that is not compiled.

    Reference:
        Song Han, Jeff Pool, John Tran, William J. Dally, "Learning both Weights and Connections for
        Efficient Neural Networks", arXiv:1506.02626.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> model.compile("sgd", "mse")
    >>> data = np.ones((16, 8)), np.ones((16, 4))
    >>> scan = tfcomp.sensitivity(model, (0.25, 0.5), data, verbose=0)
    >>> scan.metric, [row.sparsity for row in scan.rows]
    ('loss', [0.25, 0.5])
    """
    if not getattr(model, "compiled", False):
        raise ValueError("`tfcomp.sensitivity` evaluates the model: call `compile` on it first.")
    verbose = check_verbose(verbose)
    sparsities = list(sparsities)
    for amount in sparsities:
        check_number("sparsities", amount, 0, below=1)
    if not sparsities or any(a >= b for a, b in itertools.pairwise(sparsities)):
        raise invalid("sparsities", sparsities, "at least one number, rising")
    found, left_out = choose(model, targets)
    for target in found:
        magnitude(target.path, _numpy(target.variable))
    data = Batches(model, data, batch_size)
    data.first()

    names, baseline = _evaluate(model, data)
    if metric is None:
        metric = next((name for name in names if name != "loss"), "loss")
    if metric not in names:
        raise invalid("metric", metric, f"one of {names}")

    rows, progress = [], Progress(len(found) * len(sparsities), verbose, "evaluation")
    for target in found:
        before = _numpy(target.variable).copy()
        try:
            for amount in sparsities:
                value, threshold = _pruned(target.path, before, amount)
                target.variable.assign(value)
                _, measured = _evaluate(model, data)
                deviation = float(np.std(before.astype(np.float64))) or 1.0
                zeros = float(np.mean(value == 0))
                rows.append(Scanned(target.path, zeros, threshold / deviation, measured[metric]))
                progress.step()
                progress.line(f"{target.path}: {zeros:.1%} pruned, {metric} {rows[-1].value:.4f}")
        finally:
            target.variable.assign(before)
    progress.left_out(left_out)
    return Sensitivity(model, metric, baseline[metric], rows, left_out)


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def _pruned(path, value, amount):
    """The value without its smallest weights, and a threshold between these and the others."""
    scores, pattern = [magnitude(path, value)], [patterns.Unstructured()]
    size = scores[0].copy()
    (mask,) = choose_masks(scores, [value != 0], pattern, amount)
    # Between the two, for rounding not to matter.
    return value * mask, float(size[mask].min() + size[~mask].max(initial=0)) / 2


def _evaluate(model, data):
    measured = model.evaluate(**data.keywords(), verbose=0, return_dict=True)
    return list(measured), measured
