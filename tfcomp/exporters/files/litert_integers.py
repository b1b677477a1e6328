"""Weights of LiteRT files as integers of four and eight bits.

LiteRT multiplies integer weights by inputs that it quantizes to eight bits on the fly, each sample
by the range of its own values: outputs move, even where inputs are signs. What a kernel computes is
compared with that of the same operator in floats, given what inputs become.
"""

from typing import NamedTuple

import numpy as np

from tfcomp.exporters.files import flatbuffer
from tfcomp.exporters.kernels.grids import integers
from tfcomp.model.choice import Unsuited
from tfcomp.model.result import LeftOut

# The axis of the outputs in the weights of each operator that has a kernel of integers.
_AXES = {"FULLY_CONNECTED": 0, "CONV_2D": 0, "DEPTHWISE_CONV_2D": 3}
_MOST = {4: 7, 8: 127}
_SAMPLES = 3
# By how much sums in another order may differ, as a share of the largest output.
_SUMS = 1e-5


class Whole(NamedTuple):
    """An operator whose weights are integers.

    Attributes:
        path: Name of the weights in the file.
        graph: Number of the subgraph.
        operator: Number of the operator.
        axis: Axis of the outputs in the weights.
        bits: List of bits that the integers may have, 4 and 8.
        codes: int8 array of the shape of the weights.
        scale: float32 array, one for each output.
    """

    path: str
    graph: int
    operator: int
    axis: int
    bits: list
    codes: np.ndarray
    scale: np.ndarray


def find_whole(model):
    """Finds the operators of a file whose weights are integers.

    Args:
        model: What `flatbuffer.read` returned.

    Returns:
        List of `Whole`, and list of `LeftOut`, of others with constant weights of floats.
    """
    found, left = [], []
    for number, graph in enumerate(model.subgraphs):
        for place, operator in enumerate(graph.operators):
            axis = _AXES.get(flatbuffer.kind_of(model, operator))
            if axis is None:
                continue
            tensor = graph.tensors[operator.inputs[1]]
            name = tensor.name.decode()
            try:
                codes, scale = _codes(model, graph, operator, axis)
            except Unsuited as reason:
                left.append(LeftOut(name, str(reason)))
                continue
            small = np.abs(codes).max() <= _MOST[4] and axis == 0
            bits = [4, 8] if small else [8]
            found.append(Whole(name, number, place, axis, bits, codes, scale))
    return found, left


def _codes(model, graph, operator, axis):
    place = operator.inputs[1]
    values = flatbuffer.values_of(model, graph.tensors[place])
    if values is None:
        raise Unsuited("its weights are no constant floats")
    if not flatbuffer.is_float(graph.tensors[operator.inputs[0]]):
        raise Unsuited("its inputs are no floats")
    if sum(place in other.inputs for other in graph.operators) > 1:
        raise Unsuited("its weights are used more than once")
    rows = np.moveaxis(values, axis, -1)
    found = integers(rows.reshape(-1, rows.shape[-1]), _MOST[8])
    if found is None:
        raise Unsuited("its weights are not integers of 8 bits times a scale")
    codes = np.moveaxis(found[0].astype(np.int8).reshape(rows.shape), -1, axis)
    return np.ascontiguousarray(codes), found[1]


def change(model, whole, bits):
    """Stores the weights of an operator as integers.

    Args:
        model: What `flatbuffer.read` returned; changed.
        whole: A `Whole` of it.
        bits: 4 or 8.
    """
    graph = model.subgraphs[whole.graph]
    tensor = graph.tensors[graph.operators[whole.operator].inputs[1]]
    data = whole.codes.reshape(-1).view(np.uint8)
    if bits == 4:
        data = np.pad(data & 15, (0, len(data) % 2))
        data = data[::2] | data[1::2] << 4
    flatbuffer.store(model, tensor, data, f"INT{bits}", whole.scale, whole.axis)


def check(model, changed, whole, run):
    """Compares an operator of integers with that of floats on what inputs become.

    Args:
        model: What `flatbuffer.read` returned.
        changed: The same with the weights of an operator as integers.
        whole: That operator.
        run: Function of the bytes of a file and an array that computes the output.

    Raises:
        Unsuited: If it computes something else, or nothing.
    """
    inputs = draw(model, whole, _SAMPLES)
    plain = single(model, whole)
    try:
        actual = run(single(changed, whole), inputs)
    except (RuntimeError, ValueError) as error:
        raise Unsuited(str(error).strip().split("\n")[0][:200]) from error
    samples = tuple(range(1, inputs.ndim))
    nearest = np.inf
    for axes in (samples, samples[-1:]):
        for way in WAYS:
            expected = run(plain, quantized(inputs, axes, way))
            largest = np.max(np.abs(expected), initial=0)
            off = np.max(np.abs(actual - expected), initial=0) / max(largest, 1e-30)
            nearest = min(nearest, off)
            if nearest <= _SUMS:
                return
    raise Unsuited(f"its kernel computes what no way to quantize inputs does, {nearest:.1e} off")


def single(model, whole):
    """The bytes of a file of one operator."""
    graph = model.subgraphs[whole.graph]
    return flatbuffer.alone(model, graph, graph.operators[whole.operator])


def draw(model, whole, batch, traced=1):
    """Inputs of an operator: normal numbers, signs, and numbers that are not negative.

    Args:
        model: What `flatbuffer.read` returned.
        whole: A `Whole` of it.
        batch: Samples of the model.
        traced: Samples of the model where its tensors have the shapes that the file says.
    """
    graph = model.subgraphs[whole.graph]
    first, *rest = graph.tensors[graph.operators[whole.operator].inputs[0]].shape
    shape = (max(first // traced, 1) * batch, *rest)
    inputs = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    inputs[1::3], inputs[2::3] = np.sign(inputs[1::3]), np.abs(inputs[2::3])
    return inputs


# ---- what inputs become

# As XNNPACK has it, and as LiteRT's own kernels have it, of which some have a zero of their own.
WAYS = ("range", "symmetric", "divided")


def quantized(inputs, axes, way="range"):
    """What LiteRT makes of inputs: numbers of eight bits, times a step.

    Args:
        inputs: float32 array.
        axes: Axes over which the range is taken.
        way: `"range"`: all 256 numbers are laid over the range; `"divided"`, the same but for how
            halves are rounded; `"symmetric"`: 0 is 0, and the largest magnitude is 127.

    Returns:
        float32 array of the same shape.
    """
    low = np.minimum(inputs.min(axis=axes, keepdims=True), 0)
    high = np.maximum(inputs.max(axis=axes, keepdims=True), 0)
    if way == "symmetric":
        step = np.maximum(-low, high) / np.float32(127)
        step[step == 0] = 1
        return (np.rint(inputs / step) * step).astype(np.float32)
    spread = np.where(high > low, high - low, np.float32(255))
    if way == "divided":
        step = spread / np.float32(255)
        zero = np.clip(np.rint(-128 - low / step), -128, 127)
        codes = np.clip(np.rint(inputs / step + zero), -128, 127)
        return ((codes - zero) * step).astype(np.float32)
    scale = np.float32(255) / spread
    begin, end = -128 - low * scale, 127 - high * scale
    zero = np.rint(np.clip(np.where(low * scale + high * scale - 1 > 0, begin, end), -128, 127))
    codes = np.clip(np.rint(inputs * scale) + zero, -128, 127)
    return ((codes - zero) / scale).astype(np.float32)
