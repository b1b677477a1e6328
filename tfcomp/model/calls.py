"""The shapes that every layer and operation of a model sees, without computing anything."""

import contextlib
import inspect
from typing import Any, NamedTuple

import keras

from tfcomp import keras_private, targets
from tfcomp.model import macs
from tfcomp.model.data import Batches
from tfcomp.model.holding import holding, method_of
from tfcomp.model.operations import own_operations, sizes_of_calls, symbolic_tensors
from tfcomp.validation import invalid

# An axis of unknown size is tried with both; what differs between them is unknown.
_PROBES = (64, 96)


class Call(NamedTuple):
    """One call of a layer, or of an operation such as `keras.ops.matmul`.

    Shapes have the batch axis, which is as long as `batch`.

    Attributes:
        layer: The layer or operation.
        inputs: Shape of the first argument, or a structure of shapes.
        arguments: Dict of all arguments that were given, by name, with shapes in place of tensors.
        output: Shape of the output, or a structure of shapes.
        dtype: Dtype of the output, of its first part where it has several.
        times: How often the call is made, by `TimeDistributed` for instance.
        batch: Number of samples that the call is for.
        operations: List of `Call`, the operations that the layer makes beside its sublayers, where
            nothing else tells its MACs, and they could be seen; else `None`.
    """

    layer: Any
    inputs: Any
    arguments: dict
    output: Any
    dtype: str
    times: int = 1
    batch: int = 1
    operations: list | None = None


def _shapes(structure):
    def shape(leaf):
        return tuple(leaf.shape) if hasattr(leaf, "shape") else leaf

    return keras.tree.map_structure(shape, structure, none_is_leaf=True)


def _named(layer, args, kwargs):
    """Dict of arguments by name, as far as they have names that can be known."""
    try:
        # What is called may be `quantized_call`, which takes whatever `call` does.
        bound = inspect.signature(type(layer).call).bind(layer, *args, **kwargs).arguments
    except (TypeError, ValueError):
        return kwargs
    return dict(list(bound.items())[1:])


def _call(layer, args, kwargs, output, **others):
    arguments = {name: _shapes(value) for name, value in _named(layer, args, kwargs).items()}
    first = next((leaf for leaf in keras.tree.flatten(output) if hasattr(leaf, "dtype")), None)
    dtype = "float32" if first is None else keras.backend.standardize_dtype(first.dtype)
    inputs = _shapes(args[0]) if args else next(iter(arguments.values()), None)
    return Call(layer, inputs, arguments, _shapes(output), dtype, **others)


class _Recorder:
    def __init__(self, model, batch):
        self.calls = []
        self.batch = batch
        self.layers = [site.layer for site in targets.layer_sites(model)] + [model]
        self.looking_at = None

    @property
    def watched(self):
        """The layers, and the operations that functional models have among them."""
        found = {id(layer): layer for layer in self.layers}
        for model in filter(keras_private.is_functional, self.layers):
            found.update({id(part): part for part in getattr(model, "operations", ())})
        return list(found.values())

    def _recorded(self, layer, call):
        def recorded(*args, **kwargs):
            if self.looking_at is not None:
                # A layer whose `call` is called, and not itself, is a layer all the same.
                within = layer is not self.looking_at and symbolic_tensors((args, kwargs))
                return layer(*args, **kwargs) if within else call(*args, **kwargs)
            first = len(self.calls)
            operations = self._made_by(layer, call, args, kwargs)
            output = call(*args, **kwargs)
            made = _call(layer, args, kwargs, output, batch=self.batch, operations=operations)
            if isinstance(layer, keras.layers.TimeDistributed):
                self._distribute(layer, first, made.inputs[1])
            elif isinstance(layer, keras.layers.RNN):
                # How often its cell is called cannot be seen; its own rule knows.
                del self.calls[first:]
            self.calls.append(made)
            return output

        return recorded

    def _made_by(self, layer, call, args, kwargs):
        if not macs.only_operations_tell(layer):
            return None
        self.looking_at = layer
        try:
            found = own_operations(self.layers, call, args, kwargs)
        finally:
            self.looking_at = None
        return found and [
            _call(operation, *others, batch=self.batch) for operation, *others in found
        ]

    def _distribute(self, wrapper, first, steps):
        # It calls its layer on every step, or on one of them and maps that over the others.
        inside = self.calls[first:]
        if sum(call.layer is wrapper.layer for call in inside) == 1:
            self.calls[first:] = [call._replace(times=call.times * steps) for call in inside]

    @contextlib.contextmanager
    def watching(self):
        names = ("call", "quantized_call")
        with contextlib.ExitStack() as stack:
            for layer in self.watched:
                recorded = {name: self._recorded(layer, method_of(layer, name)) for name in names}
                stack.enter_context(holding(layer, **recorded))
            for layer in self.layers:
                spec = sizes_of_calls(layer, lambda: self.looking_at is not None)
                stack.enter_context(holding(layer, compute_output_spec=spec))
            yield


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
    # One sample, unless the model was made for batches of one size.
    known = [*keras.tree.flatten(specs), *(getattr(model, "inputs", None) or ())]
    batch = next((spec.shape[0] for spec in known if spec.shape[0]), 1)

    def tensor(spec):
        shape = tuple(probe if size is None else size for size in spec.shape[1:])
        return keras.KerasTensor((batch, *shape), dtype=spec.dtype or keras.config.floatx())

    recorder = _Recorder(model, batch)
    with recorder.watching():
        _Forward(model, recorder)(*keras.tree.map_structure(tensor, specs))
    return recorder.calls


def _specs(model, input_shape):
    if input_shape is None:
        return keras_private.input_signature(model)

    def spec(shape):
        return keras.InputSpec(shape=shape, dtype=model.input_dtype)

    return [keras.tree.map_shape_structure(spec, input_shape)]


def _specs_of(model, data):
    def spec(array):
        dtype = keras.backend.standardize_dtype(array.dtype)
        return keras.InputSpec(shape=tuple(array.shape), dtype=dtype)

    return [keras.tree.map_structure(spec, Batches(model, data, batch_size=1).first())]


def layer_calls(model, input_shape=None, data=None):
    """Lists the calls of all layers, and of the operations among them.

    Args:
        model: A built `keras.Model`.
        input_shape: Shape of the input with its batch axis, or a structure of shapes; needed only
            for a subclassed model that was never called, or to fix axes of unknown size.
        data: Data to take the shapes of all inputs from instead, as `Batches` takes them.

    Returns:
        A list of pairs of `Call`, which differ where a shape depends on an axis of unknown size,
        or `None` where the model could not be traced.

    Raises:
        ValueError: For data of no known form, or both data and a shape.
    """
    if data is not None and input_shape is not None:
        raise invalid("input_shape", input_shape, "no shape beside `data`")
    known = None if data is None else _specs_of(model, data)
    try:
        specs = known or _specs(model, input_shape)
        first = _trace(model, specs, _PROBES[0])
        fixed = all(None not in spec.shape[1:] for spec in keras.tree.flatten(specs))
        second = first if fixed else _trace(model, specs, _PROBES[1])
    except Exception:
        # A model may do anything in its `call`; a report of its weights is still worth having.
        return None
    return list(zip(first, second)) if len(first) == len(second) else None
