"""The shapes that every layer of a model sees, without computing anything."""

import contextlib
from typing import Any, NamedTuple

import keras

from tfcomp import keras_private, targets

# An axis of unknown size is tried with both; what differs between them is unknown.
_PROBES = (64, 96)


class Call(NamedTuple):
    """One call of a layer.

    Attributes:
        layer: The layer.
        inputs: Shape of the first argument, or a structure of shapes.
        others: Shapes of the further arguments, positional and by name.
        output: Shape of the output, or a structure of shapes.
        times: How often the call is made for one sample, by `TimeDistributed` for instance.
    """

    layer: Any
    inputs: Any
    others: tuple
    output: Any
    times: int


def _shapes(structure):
    def shape(leaf):
        return None if leaf is None or not hasattr(leaf, "shape") else tuple(leaf.shape)

    return keras.tree.map_structure(shape, structure, none_is_leaf=True)


class _Recorder:
    def __init__(self, model):
        self.calls = []
        self.layers = [site.layer for site in targets.layer_sites(model)] + [model]

    def _recorded(self, layer, call):
        def recorded(*args, **kwargs):
            first = len(self.calls)
            output = call(*args, **kwargs)
            named = tuple(_shapes(value) for value in kwargs.values() if hasattr(value, "shape"))
            inputs = _shapes(args[0]) if args else None
            others = tuple(_shapes(value) for value in args[1:]) + named
            if isinstance(layer, keras.layers.TimeDistributed):
                self._distribute(layer, first, args[0].shape[1])
            self.calls.append(Call(layer, inputs, others, _shapes(output), 1))
            return output

        return recorded

    def _distribute(self, wrapper, first, steps):
        # It calls its layer on every step, or on one of them and maps that over the others.
        inside = self.calls[first:]
        if sum(call.layer is wrapper.layer for call in inside) == 1:
            self.calls[first:] = [call._replace(times=call.times * steps) for call in inside]

    @contextlib.contextmanager
    def watching(self):
        names = ("call", "quantized_call")
        for layer in self.layers:
            for name in names:
                # Not by `setattr`, which tracks what a layer is given.
                object.__setattr__(layer, name, self._recorded(layer, getattr(layer, name)))
        try:
            yield
        finally:
            for layer in self.layers:
                for name in names:
                    object.__delattr__(layer, name)


class _Forward(keras.Operation):
    def __init__(self, model, recorder):
        super().__init__()
        self.model = model
        self.recorder = recorder

    def call(self, *args):
        # PyTorch's shapes come from further runs where the first one meets what has none.
        self.recorder.calls.clear()
        return self.model(*args)


def _trace(model, specs, probe):
    def tensor(spec):
        shape = tuple(probe if size is None else size for size in spec.shape[1:])
        return keras.KerasTensor((1, *shape), dtype=spec.dtype or keras.config.floatx())

    recorder = _Recorder(model)
    with recorder.watching():
        _Forward(model, recorder)(*keras.tree.map_structure(tensor, specs))
    return recorder.calls


def _specs(model, input_shape):
    if input_shape is None:
        return keras_private.input_signature(model)

    def spec(shape):
        return keras.InputSpec(shape=shape, dtype=model.input_dtype)

    return [keras.tree.map_shape_structure(spec, input_shape)]


def layer_calls(model, input_shape=None):
    """Lists the calls of all layers for one sample.

    Args:
        model: A built `keras.Model`.
        input_shape: Shape of the input with its batch axis, or a structure of shapes; needed only
            for a subclassed model that was never called.

    Returns:
        A list of pairs of `Call`, which differ where a shape depends on an axis of unknown size,
        or `None` where the model could not be traced.
    """
    try:
        specs = _specs(model, input_shape)
        first = _trace(model, specs, _PROBES[0])
        fixed = all(None not in spec.shape[1:] for spec in keras.tree.flatten(specs))
        second = first if fixed else _trace(model, specs, _PROBES[1])
    except Exception:
        # A model may do anything in its `call`; a report of its weights is still worth having.
        return None
    return list(zip(first, second)) if len(first) == len(second) else None
