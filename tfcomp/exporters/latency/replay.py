"""Calls a model with kernels in the place of some of its layers."""

import contextlib

import tensorflow as tf

from tfcomp.exporters.latency.flow import is_one_call
from tfcomp.model.intercepting import intercepting


class _Replay:
    """Answers the calls of a trace as the plan says, call by call as they were seen."""

    def __init__(self, flow, chosen, tensors):
        self.flow, self.tensors = flow, tensors
        self.heads = {unit.numbers[0]: (unit, candidate) for unit, candidate in chosen}
        self.within = {n: unit for unit, _ in chosen for n in unit.numbers}
        self.answers, self.number, self.is_within = {}, 0, False

    def __call__(self, layer, call, args, kwargs):
        if self.is_within:
            return call(*args, **kwargs)
        number = self.number
        self.number += 1
        unit = self.within.get(number)
        if unit is None:
            self.is_within = is_one_call(layer)
            try:
                return call(*args, **kwargs)
            finally:
                self.is_within = False
        if self.flow[number].layer is not layer:
            raise RuntimeError(
                f"The model called its layers in another order than before: {layer.path!r} where "
                f"{self.flow[number].layer.path!r} was expected. Its code must not depend on the "
                "batch size."
            )
        if number in self.heads:
            candidate = self.heads[number][1]
            outputs = candidate.compute(args[0], self.tensors[id(candidate)])
            self.answers[unit.numbers[-1]] = outputs
        if number == unit.numbers[-1]:
            return self.answers[number]
        # Nothing reads this: the last call of the unit has its answer already.
        following = self.flow[self.flow[number].following]
        shape = [1 if size is None else size for size in following.shape[1:]]
        return tf.zeros([tf.shape(args[0])[0], *shape], following.dtype)


@contextlib.contextmanager
def replaying(flow, chosen, tensors):
    """Context in which a model's calls are computed by kernels.

    Args:
        flow: What `layer_flow` returned for the model.
        chosen: List of pairs of `Unit` and `Candidate`.
        tensors: Dict from `id(candidate)` to the tensors of its arrays.
    """
    with intercepting(_Replay(flow, chosen, tensors)):
        yield
