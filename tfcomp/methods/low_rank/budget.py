"""Ranks that bring a model to a number of multiplications."""

import itertools
import math
import operator

from tfcomp.model.budget import budget_of, multiplications
from tfcomp.model.calls import layer_calls
from tfcomp.validation import invalid

# Halvings of the range that the energy lies in.
_STEPS = 48


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


def meet(cost, plans, macs):
    """Gives plans the ranks of the largest energy that a budget allows.

    Args:
        cost: A `Cost`.
        plans: List of plans, some of which have no ranks yet.
        macs: The budget, as `tfcomp.decompose` takes it.

    Returns:
        The plans that save something by their ranks, and those that do not.

    Raises:
        ValueError: If the budget cannot be met.
    """
    budget = budget_of("macs", macs, cost.whole)
    free = [plan for plan in plans if not plan.ranks]
    fixed = cost.whole - sum(map(cost.of_layer, plans))
    fixed += sum(cost.of_chain(plan, plan.ranks) for plan in plans if plan.ranks)

    def of(plan, energy):
        return min(cost.of_layer(plan), cost.of_chain(plan, plan.ranks_of(energy)))

    def total(energy):
        return fixed + sum(of(plan, energy) for plan in free)

    low, high = 0.0, 1.0
    if total(low) > budget:
        expected = f"a budget that can be met: of rank 1 the model has {total(low):,.0f}"
        raise invalid("macs", macs, expected)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if total(middle) <= budget else (low, middle)
    for plan in free:
        plan.ranks.extend(plan.ranks_of(low))
    saves = [cost.of_chain(plan, plan.ranks) < cost.of_layer(plan) for plan in plans]
    return [list(itertools.compress(plans, which)) for which in (saves, map(operator.not_, saves))]
