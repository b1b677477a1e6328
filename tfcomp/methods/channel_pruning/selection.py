"""Chooses the channels of each group, and refits the weights that read them."""

import contextlib

import numpy as np

from tfcomp.core.entry import as_numpy
from tfcomp.methods.channel_pruning import normal_equations, scores
from tfcomp.methods.channel_pruning.gradients import gradient_products
from tfcomp.methods.channel_pruning.readers import Watch, readers_of
from tfcomp.methods.channel_pruning.readers import normal_equations as equations_of
from tfcomp.model.choice import Unsuited
from tfcomp.model.watching import call_order
from tfcomp.validation import invalid

FITTED = {"least_squares": normal_equations.block_obs, "lasso": normal_equations.lasso}
NAMES = ("least_squares", "lasso", "magnitude", "taylor", "bn_scale")


def taylor(model, dyes, groups, batches):
    """Squared first-order change of the loss without a channel, over batches.

    Returns:
        Dict from path of a group to an array.
    """
    if not getattr(model, "compiled", False):
        raise invalid("score", "taylor", "another score, or a compiled model, whose loss is known")
    total = {group.path: np.zeros(group.channels) for group in groups}
    places = {id(variable): number for number, variable in enumerate(dyes.variables)}

    def see(products):
        known = {places[key]: value for key, value in products.items() if key in places}
        for group in groups:
            made = [key for key in scores.keys_of(dyes, group)[0] if key[0] in known]
            change = sum(scores.by_channel(dyes, key, known[key[0]])[group.members] for key in made)
            total[group.path] += np.square(change)

    gradient_products(model, batches, see)
    return total


def given_scores(model, dyes, groups, score, batches=None):
    """The scores of the channels of some groups that need no refitting.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        groups: List of `Group`.
        score: `"magnitude"`, `"taylor"`, `"bn_scale"` or a function of a `Group`.
        batches: `Batches`, for `"taylor"`.

    Returns:
        Dict from path of a group to an array, and dict from path to why there is none.
    """
    if score == "taylor":
        return taylor(model, dyes, groups, batches), {}
    values, found, left = scores.Values(model, dyes), {}, {}
    for group in groups:
        try:
            if callable(score):
                found[group.path] = _checked(group, score(group))
            else:
                found[group.path] = getattr(scores, score)(dyes, group, values)
        except Unsuited as reason:
            left[group.path] = str(reason)
    return found, left


def _checked(group, score):
    score = np.asarray(score, np.float64)
    if score.shape != (group.channels,) or not np.isfinite(score).all():
        expected = f"a function that returns {group.channels} finite numbers for {group.path}"
        raise invalid("score", score, expected)
    return score


def best(members, score, cells, kept):
    """Boolean array, which channels are kept: those of each cell that score best.

    Args:
        members: Number of channels.
        score: Array of their scores.
        cells: Integer array, the cell of each.
        kept: Array with how many are kept of each cell.
    """
    keep = np.zeros(members, bool)
    for cell, number in enumerate(kept):
        own = np.flatnonzero(cells == cell)
        keep[own[np.argsort(-score[own], kind="stable")[:number]]] = True
    return keep


class Fitting:
    """Goes through a model's groups, and refits the weights that read what is left of each.

    The weights of the model are changed meanwhile; `restored` puts them back.

    Args:
        model: The model.
        dyes: Its `Dyes`.
        batches: `Batches`.
        positions: See `Watch`.
        damping: See `NormalEquations`.
        seed: Seed of the choice of positions.
    """

    def __init__(self, model, dyes, batches, positions, damping, seed):
        self.model, self.dyes, self.damping = model, dyes, damping
        self.watch = Watch(model, batches, positions, seed)
        self.order = call_order(model, batches.first())
        self._before = {}

    @contextlib.contextmanager
    def restored(self):
        """Context in which weights may change; afterwards they are what they were."""
        try:
            yield
        finally:
            for variable, value in self._before.values():
                variable.assign(value)

    @contextlib.contextmanager
    def _originals(self):
        now = [(variable, np.array(as_numpy(variable))) for variable, _ in self._before.values()]
        for variable, value in self._before.values():
            variable.assign(value)
        yield
        for variable, value in now:
            variable.assign(value)

    def in_order(self, groups):
        """Groups in the order in which the model reads them."""

        def place(group):
            readers, _ = readers_of(self.model, self.dyes, group)
            places = [self.order.get(id(r.linear.layer), len(self.order)) for r, _ in readers]
            return min(places, default=len(self.order))

        return sorted(groups, key=place)

    def fit(self, group, quotas, choose, reconstruct):
        """Chooses the channels of a group, and refits the weights that read them.

        Args:
            group: The `Group`.
            quotas: `normal_equations.Quotas`.
            choose: Function of the problems and the quotas, or the boolean array of those kept.
            reconstruct: Whether to refit.

        Returns:
            Boolean array of the channels kept, `None` where no layer that reads them can be looked
            at; the error of what the readers compute, relative; and pairs of path and reason of the
            readers that could not be looked at.
        """
        readers, left = readers_of(self.model, self.dyes, group)
        known = [pair for pair in readers if id(pair[0].linear.layer) in self.order]
        if not known:
            return (None if callable(choose) else choose), None, left
        problems = equations_of(self.watch, known, group, self._originals, self.damping)
        every = [problem for found in problems.values() for problem in found]
        kept = choose(every, quotas) if callable(choose) else choose
        error = self._assigned(problems, kept, reconstruct)
        return kept, error, left

    def _assigned(self, problems, kept, reconstruct):
        errors = []
        for reader, found in problems.items():
            self._before.setdefault(id(reader.variable), (reader.variable, reader.value()))
            new = []
            for problem in found:
                gone = (problem.owners >= 0) & ~np.append(kept, True)[problem.owners]
                alive = problem.alive & ~gone
                weight = problem.weight * alive[:, None]
                new.append(problem.refit(alive) if reconstruct else weight)
                errors.append((problem.error(new[-1]) * problem.power, problem.power))
            reader.assign(np.stack(new))
        lost, whole = map(sum, zip(*errors))
        return lost / whole if whole else 0.0
