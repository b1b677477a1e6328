"""Which layers a model calls one after the other, with nothing between them."""

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfcomp.exporters.trace import Substitution
from tfcomp.keras_private import mask_of
from tfcomp.model.intercepting import intercepting


class Seen(NamedTuple):
    """One call of a layer that calls no others.

    Attributes:
        number: Place among all calls of layers, in the order in which they begin.
        layer: The layer.
        shape: Shape of its input, `None` for sizes that are free.
        dtype: Dtype of its input.
        following: Number of the call that takes the output, and is all that does; or `None`.
    """

    number: int
    layer: Any
    shape: tuple
    dtype: str
    following: int | None


def is_one_call(layer):
    """Whether the calls that a layer makes do not count: a recurrent one calls its cell."""
    return isinstance(layer, keras.layers.RNN)


class _Call:
    def __init__(self, number, layer, begin):
        self.number, self.layer, self.begin = number, layer, begin
        self.end = self.input = self.output = None
        self.is_leaf = True


class _Recorder:
    """Sees the calls in one graph, and which operations each of them makes."""

    def __init__(self, graph):
        self.graph, self.calls, self.open, self.number = graph, [], [], 0

    def __call__(self, layer, call, args, kwargs):
        if self.open and is_one_call(self.open[-1].layer):
            return call(*args, **kwargs)
        number = self.number
        self.number += 1
        if tf.compat.v1.get_default_graph() is not self.graph:
            return call(*args, **kwargs)
        seen = _Call(number, layer, self.graph.version)
        if self.open:
            self.open[-1].is_leaf = False
        self.open.append(seen)
        try:
            output = call(*args, **kwargs)
        finally:
            self.open.pop()
        seen.end = self.graph.version
        seen.input, seen.output = _alone(args, kwargs), output
        # A layer that hands its input on, as dropout does, is none between two others.
        alone = seen.is_leaf and seen.input is not None and isinstance(output, tf.Tensor)
        if alone and output is not seen.input:
            self.calls.append(seen)
        return output


def _alone(args, kwargs):
    """The one tensor that a layer is called with, or `None` if there is not one alone.

    Nor if it has a mask, which kernels would not pass on.
    """
    tensors = [x for x in keras.tree.flatten([args, kwargs]) if isinstance(x, tf.Tensor)]
    alone = len(tensors) == 1 and args and args[0] is tensors[0] and mask_of(tensors[0]) is None
    return tensors[0] if alone else None


def layer_flow(traced, specs, scope, changed=()):
    """Traces a model and tells its calls of layers.

    Args:
        traced: Callable that computes a model from as many arguments as there are `specs`.
        specs: List of structures of `tf.TensorSpec`, one for each argument.
        scope: Callable that opens the scope to call the model in.
        changed: Ids of variables that other code changes.

    Returns:
        Dict from number to `Seen`, of the calls of layers with one input, without a mask, and one
        output, that call no other layers and whose variables nothing changes.
    """
    found, substitution = [], Substitution({})

    def forward(*args):
        found.append(_Recorder(tf.compat.v1.get_default_graph()))
        with scope(), substitution, intercepting(found[-1]):
            return traced(*args)

    function = tf.function(forward, input_signature=specs, autograph=False)
    graph = function.get_concrete_function().graph
    recorder = found[-1]
    places = {op.name: place for place, op in enumerate(graph.get_operations())}
    takers = {}
    # What is changed is no number that a kernel could be made of.
    changed = substitution.updated.union(changed)
    recorder.calls = [
        call for call in recorder.calls if changed.isdisjoint(map(id, call.layer.variables))
    ]
    for call in recorder.calls:
        takers.setdefault(call.input.name, []).append(call)
    return {
        call.number: Seen(
            call.number,
            call.layer,
            tuple(call.input.shape),
            call.input.dtype.name,
            _following(call.output, takers, places),
        )
        for call in recorder.calls
    }


def _following(output, takers, places):
    taking = takers.get(output.name, [])
    if len(taking) != 1:
        return None
    (call,) = taking
    # A tensor that the model answers with is used by an operation outside of all calls, too.
    uses = [places[op.name] for op in output.consumers()]
    return call.number if all(call.begin <= place < call.end for place in uses) else None
