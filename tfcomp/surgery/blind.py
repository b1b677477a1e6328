"""Layers that take signs of numbers that are never negative, and so see nothing of their inputs.

All such signs are +1. The model's code is run once, on symbolic tensors; those that cannot be
negative carry what made them so.
"""

import warnings
from typing import Any, NamedTuple

import keras
import numpy as np

from tfcomp import keras_private, targets
from tfcomp.surgery.channels.answering import answering
from tfcomp.surgery.channels.tensors import flat, is_symbolic
from tfcomp.surgery.channels.trace import FREE_SIZES, arguments_of, symbols

# Operations that may give numbers of which none is negative, whatever they get: they are tried.
_MAKERS = """Absolute Clip Exp Exp2 Fabs HardSigmoid Maximum ReLU Relu Relu6 Sigmoid Softmax
    Softplus Sparsemax SparsePlus SparseSigmoid Square Squareplus Threshold"""
# Those that give none where they get none.
_KEEPERS = """AdaptiveAveragePool AdaptiveMaxPool Amax Amin ArraySplit AveragePool BroadcastTo Cast
    Cbrt Ceil Concatenate ConvertToTensor Copy CropImages Cumsum DepthToSpace ExpandDims Flip Floor
    GetItem Hsplit Hstack Log1p Max MaxPool Mean Median Min Moveaxis Pad PadImages Prod Ravel
    Repeat Reshape Roll Rot90 Round SaturateCast Slice Sort SpaceToDepth Split Sqrt Squeeze Stack
    StopGradient Sum Swapaxes Take Tile Transpose Unstack Vsplit Vstack"""
# Those that give none where all their numbers are none, and not only those of the model.
_ARITHMETIC = "Add Average Divide DivideNoNan Multiply Minimum TrueDivide"
_RULES = {
    name: rule
    for rule, names in (("makes", _MAKERS), ("keeps", _KEEPERS), ("computes", _ARITHMETIC))
    for name in names.split()
}
_TRIED = np.concatenate([-np.logspace(3, -3, 25), [0], np.logspace(-3, 3, 25)])
# Layers of which the activation comes last.
_WITH_ACTIVATION = (keras.layers.Dense, keras.layers.EinsumDense, *targets.CONVOLUTIONS)


class Blind(NamedTuple):
    """A layer that sees no negative number.

    Attributes:
        layer: The layer.
        source: What its inputs come from, in words.
    """

    layer: Any
    source: str


def warn_blind(model, x=None, among=None):
    """Warns the caller's caller of the layers that `blind_layers` finds.

    Args:
        model: A `keras.Model`.
        x: Some of its inputs, if there are any.
        among: List of the layers that count, with those inside; `None` for all.
    """
    if among is not None:
        among = {id(part) for layer in among for part in _parts(layer)}
    for layer, source in blind_layers(model, x):
        if among is None or id(layer) in among:
            warnings.warn(
                f"Layer {layer.name!r} takes the signs of its inputs, and these come from "
                f"{source}, so none is negative: {_what_it_sees(layer)}. Let it follow a "
                "BatchNormalization, with nothing between them that makes numbers positive, such "
                "as a ReLU; or give it `input_quantizer=None` for real inputs.",
                stacklevel=3,
            )


def blind_layers(model, x=None):
    """Lists the layers of a model that take signs of numbers of which none can be negative.

    Args:
        model: A `keras.Model`.
        x: Some of its inputs; those count as never negative that have no negative number.

    Returns:
        List of `Blind`. Empty where the model's code cannot be run on symbolic tensors.
    """
    if not any(map(_takes_signs, _parts(model))):
        return []
    for size in FREE_SIZES:
        try:
            specs = arguments_of(model)
            return _Tracer().traced(model, symbols(specs, size), x)
        except Exception:
            # It may do anything with its inputs, or was never called.
            continue
    return []


def _parts(layer):
    return [layer, *(site.layer for site in targets.layer_sites(layer))]


def _takes_signs(layer):
    """Whether what quantizes a layer's inputs makes one sign of all that are not negative."""
    quantizer = getattr(layer, "input_quantizer", None)
    if quantizer is None:
        return False
    # One sample: a scale is a mean over some axes, and differs between samples.
    tried = np.abs(_TRIED).astype("float32")[None]
    found = keras.ops.convert_to_numpy(quantizer(keras.ops.convert_to_tensor(tried)))
    return np.ptp(found) == 0 or getattr(quantizer, "order", 0) > 1


def _what_it_sees(layer):
    order = getattr(layer.input_quantizer, "order", 1)
    if order > 1:
        return f"the first of its {order} signs is always +1"
    return "all signs are +1, and say nothing of the inputs"


class _Tracer:
    """Answers the calls of layers and operations while a model's code runs."""

    def __init__(self):
        # By id: the symbolic tensor, and what made it so that none of its numbers is negative.
        self._sources, self._within, self._found = {}, [], {}

    def traced(self, model, symbolic, x):
        if x is not None:
            self._mark_inputs(symbolic, x)
        with answering(self.layer, self.operation):
            model.call(*symbolic)
        return list(self._found.values())

    def _mark_inputs(self, symbolic, x):
        arrays = flat(x)
        tensors = flat(symbolic)
        for tensor, array in zip(tensors, arrays) if len(tensors) == len(arrays) else ():
            if _has_none_negative(array):
                self._mark(tensor, "the model's inputs")

    def _mark(self, outputs, source):
        for tensor in filter(is_symbolic, flat(outputs)):
            self._sources[id(tensor)] = tensor, source
        return outputs

    def source(self, x):
        """What made a tensor so, or `None`."""
        return self._sources.get(id(x), (None, None))[1]

    # ---- layers

    def layer(self, layer, args, kwargs):
        """Answers a call of a layer."""
        self._within.append(layer)
        try:
            return self._answered(layer, args, kwargs)
        finally:
            self._within.pop()

    def _answered(self, layer, args, kwargs):
        inputs = [x for x in flat((args, kwargs)) if is_symbolic(x)]
        source = self.source(inputs[0]) if inputs else None
        if source is not None and _takes_signs(layer):
            self._found[id(layer)] = Blind(layer, source)
        if isinstance(layer, _WITH_ACTIVATION):
            return self._activated(layer, _spec(layer, inputs[:1], {}))
        if isinstance(layer, keras.layers.TimeDistributed):
            return self._distributed(layer, inputs[0], args, kwargs)
        if isinstance(layer, keras.layers.RNN):
            return _spec(layer, args, kwargs)
        try:
            return layer.call(*args, **kwargs)
        except Exception:
            # What refuses symbolic tensors may make negative numbers.
            return _spec(layer, args, kwargs)

    def _activated(self, layer, output):
        activation = getattr(layer, "activation", None)
        try:
            return output if activation is None else activation(output)
        except Exception:
            # Code of a user's own, or a quantizer.
            return output

    def _distributed(self, layer, inputs, args, kwargs):
        """Its layer is called on each step alike."""
        step = keras.KerasTensor((inputs.shape[0], *inputs.shape[2:]), inputs.dtype)
        if self.source(inputs) is not None:
            self._mark(step, self.source(inputs))
        output = _spec(layer, args, kwargs)
        source = self.source(layer.layer(step))
        return output if source is None else self._mark(output, source)

    # ---- operations

    def operation(self, op, args, kwargs):
        """Answers a symbolic call of an operation."""
        output = op.compute_output_spec(*args, **kwargs)
        source = self._source_after(op, args, kwargs)
        return output if source is None else self._mark(output, source)

    def _source_after(self, op, args, kwargs):
        name, leaves = type(op).__name__, flat((args, kwargs))
        rule = _RULES.get(name)
        if rule is None or not keras_private.home(op).startswith(("ops.", "activations.")):
            return None
        sources = [self.source(x) for x in leaves if is_symbolic(x)]
        known = [source for source in sources if source is not None]
        kept = len(known) == len(sources)
        if known and rule == "keeps" and kept and (kwargs.get("constant_values") or 0) >= 0:
            return known[0]
        if known and rule == "computes" and kept and all(map(self._is_positive, leaves)):
            return known[0]
        if known and name == "Maximum":
            return known[0]
        if rule == "makes" and len(sources) == 1 and _makes(op, args, kwargs):
            where = repr(self._within[-1].name) if self._within else "the model's own code"
            return f"{name.lower()} in {where}"
        return None

    def _is_positive(self, x):
        """Whether a number of an operation is one, or a tensor has none that is negative."""
        if is_symbolic(x):
            return self.source(x) is not None
        constant = self._within and not self._within[-1].variables
        if isinstance(x, keras.Variable) or (keras.ops.is_tensor(x) and not constant):
            # What is a variable, or may have been computed of one, changes in training.
            return False
        return _has_none_negative(x)


def _has_none_negative(x):
    try:
        return bool(np.min(keras.ops.convert_to_numpy(x), initial=0) >= 0)
    except Exception:
        # A name or another thing that is no number.
        return False


def _spec(layer, args, kwargs):
    with answering():
        return layer.compute_output_spec(*args, **kwargs)


def _makes(op, args, kwargs):
    """Whether an operation makes none of all numbers negative."""

    def number(x):
        if not is_symbolic(x):
            return x
        return keras.ops.convert_to_tensor(_TRIED.reshape(-1, *[1] * (len(x.shape) - 1)), x.dtype)

    try:
        args, kwargs = keras.tree.map_structure(number, (tuple(args), dict(kwargs)))
        with answering():
            return bool(np.min(keras.ops.convert_to_numpy(op.call(*args, **kwargs))) >= 0)
    except Exception:
        return False
