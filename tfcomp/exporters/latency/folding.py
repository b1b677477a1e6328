"""Finds the batch normalizations of a model, and the products that they can become part of."""

import keras

from tfcomp.exporters.latency.norms import Folded, Multiplied, Norm, behind
from tfcomp.model.choice import Unsuited
from tfcomp.model.result import LeftOut


def with_norms(units, left, flow, final, make):
    """Adds what batch normalizations can become.

    Args:
        units: List of `Unit` that are known.
        left: List of `LeftOut`.
        flow: Dict from number to `Seen`.
        final: The model's `FinalWeights`.
        make: Function of the numbers of calls, `flow`, candidates and a dict of why other kernels
            are none that returns a `Unit`.

    Returns:
        List of `Unit`, and list of `LeftOut`.
    """
    heads = {unit.numbers[0]: unit for unit in units}
    taken = {number for unit in units if len(unit.numbers) > 1 for number in unit.numbers}
    before = {seen.following: number for number, seen in flow.items()}
    left = list(left)
    for number, seen in flow.items():
        if number in taken or not isinstance(seen.layer, keras.layers.BatchNormalization):
            continue
        try:
            norm = Norm(seen, final)
        except Unsuited as reason:
            left.append(LeftOut(seen.layer.path, str(reason)))
            continue
        first = before.get(number)
        try:
            folded = Folded(_layer_before(first, flow), norm, final)
        except Unsuited:
            heads[number] = make([number], flow, [Multiplied(norm)])
            continue
        others, refused = [], {}
        if first in heads:
            others, refused = heads[first].candidates, heads[first].refused
        candidates = [folded, *behind(others, norm, folded)]
        heads[first] = make([first, number], flow, candidates, refused)
    paths = {unit.layers[0].path for unit in heads.values()}
    left = [each for each in left if each.path not in paths]
    return [heads[number] for number in sorted(heads)], left


def _layer_before(number, flow):
    if number is None:
        raise Unsuited("it is not alone in reading what comes before it")
    return flow[number].layer
