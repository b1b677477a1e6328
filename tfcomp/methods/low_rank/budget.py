"""Ranks that bring a model to a number of multiplications.

Xiangyu Zhang et al., "Accelerating Very Deep Convolutional Networks for Classification and
Detection", arXiv:1505.06798: those by which the product of the energies that all layers keep is
largest.
"""

import math

import numpy as np

from tfcomp.model.budget import budget_of, multiplications
from tfcomp.model.calls import layer_calls
from tfcomp.validation import invalid

# Powers of two of what a multiplication may cost, and halvings of their range.
_EXPONENTS, _STEPS = (-40.0, 60.0), 48
# As much energy has what has none.
_NOTHING = 1e-30
_ROUNDING = 1e-9


class Cost:
    """Multiply-accumulate operations of a model, and of its layers as chains of kernels.

    Args:
        model: A built `keras.Model`.

    Raises:
        ValueError: Where they are not known.
    """

    def __init__(self, model):
        self._terms = multiplications(model)
        self.whole = sum(number for *_, number in self._terms)
        self._shapes = {}
        for call, _ in layer_calls(model):
            self._shapes.setdefault(id(call.layer), []).append((call.inputs, call.output))

    def of_layer(self, plan):
        """Those of a layer as it is."""
        return sum(n for _, v, n in self._terms if v is plan.target.variable)

    def of_chain(self, plan, ranks):
        """Those of its chain of kernels, of some ranks."""
        parts, shapes = plan.numbers(ranks), self._shapes[id(plan.layer)]
        chain = sum(
            math.prod(output) * part * _positions(plan.layer, inputs, output, axes)
            for inputs, output in shapes
            for part, axes in zip(parts, plan.axes_so_far)
        )
        layer = math.prod(plan.target.variable.shape) * sum(math.prod(each) for _, each in shapes)
        return self.of_layer(plan) * chain / layer


def _positions(layer, inputs, output, axes):
    """Positions where a kernel is applied that has these axes of the window behind it, or covers
    them, over those of the outputs.
    """
    first = 2 if getattr(layer, "data_format", None) == "channels_first" else 1
    others = set(range(len(getattr(layer, "kernel_size", ())))) - set(axes)
    return math.prod(inputs[first + axis] / output[first + axis] for axis in others)


class _Choice:
    """The ranks that a layer could have, or `None` for the layer as it is.

    Attributes:
        costs: Array, for each, of what it multiplies.
        losses: Array, for each, of minus the logarithm of the energy that it keeps.
    """

    def __init__(self, plan, cost):
        kept = [_energies(squares) for squares in plan.squares]
        grid = np.meshgrid(*(1 + np.arange(len(each)) for each in kept), indexing="ij")
        losses = [-np.log(np.maximum(e[r - 1], _NOTHING)) for e, r in zip(kept, grid)]
        costs = cost.of_chain(plan, grid)
        self._ranks = [*zip(*(each.ravel().tolist() for each in grid)), None]
        self.costs = np.append(costs, cost.of_layer(plan))
        self.losses = np.append(sum(losses), 0.0)
        self.place = -1

    @property
    def cost(self):
        return self.costs[self.place]

    @property
    def ranks(self):
        return self._ranks[self.place]

    def weigh(self, price):
        """Chooses, where a multiplication costs so much of the loss."""
        self.place = int(np.argmin(self.losses + price * self.costs))

    def spend(self, spare):
        """Chooses the best that multiplies so much more at most."""
        fits = self.costs <= self.cost + spare
        self.place = int(np.argmin(np.where(fits, self.losses, np.inf)))


def _energies(squares):
    kept = np.cumsum(squares.reshape(-1, squares.shape[-1]).sum(axis=0))
    kept = kept / kept[-1] if kept[-1] else np.ones_like(kept)
    # What rounding leaves of zero singular values is worth no multiplication.
    return np.where(kept > 1 - _ROUNDING, 1.0, kept)


def meet(cost, plans, macs):
    """Gives plans the ranks of the largest product of energies that a budget allows.

    Args:
        cost: A `Cost`.
        plans: List of plans, some of which have no ranks yet.
        macs: The budget, as `tfcomp.decompose` takes it.

    Returns:
        The plans that save something by their ranks, and those that are left as they are.

    Raises:
        ValueError: If the budget cannot be met.
    """
    budget = budget_of("macs", macs, cost.whole)
    free = {id(plan): _Choice(plan, cost) for plan in plans if not plan.ranks}
    fixed = cost.whole - sum(map(cost.of_layer, plans))
    fixed += sum(cost.of_chain(plan, plan.ranks) for plan in plans if plan.ranks)
    least = fixed + sum(choice.costs.min() for choice in free.values())
    if least > budget:
        expected = f"a budget that can be met: of rank 1 the model has {least:,.0f}"
        raise invalid("macs", macs, expected)

    def total(exponent):
        for choice in free.values():
            choice.weigh(2.0**exponent / cost.whole)
        return fixed + sum(choice.cost for choice in free.values())

    low, high = _EXPONENTS
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if total(middle) <= budget else (middle, high)
    spent = total(high)
    for choice in free.values():
        before = choice.cost
        choice.spend(budget - spent)
        spent += choice.cost - before
    for plan in plans:
        if id(plan) in free:
            plan.ranks.extend(free[id(plan)].ranks or ())
    return [p for p in plans if p.ranks], [p for p in plans if not p.ranks]
