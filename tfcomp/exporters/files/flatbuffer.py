"""LiteRT files as objects, and single operators of them as files of their own."""

import contextlib

import numpy as np

with contextlib.suppress(ImportError):
    from ai_edge_litert import schema_py_generated as schema

_IDENTIFIER = b"TFL3"
_NAMED = ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D")


def read(content):
    """A file's bytes as a `ModelT`."""
    return schema.ModelT.InitFromPackedBuf(bytes(content), 0)


def write(model):
    """The bytes of a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def kind_of(model, operator):
    """The name of what an operator computes, `"CONV_2D"` for example, or `None` for others."""
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    return next((k for k in _NAMED if getattr(schema.BuiltinOperator, k) == code), None)


def store(model, tensor, data, dtype, scale, axis):
    """Gives a tensor integers in the place of its values.

    Args:
        model: The `ModelT`, which is changed.
        tensor: A tensor of it.
        data: uint8 array of bytes.
        dtype: Name of the dtype, `"INT8"` or `"INT4"`.
        scale: float32 array, by what they are multiplied along an axis.
        axis: That axis.
    """
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scale, np.zeros(len(scale), np.int64)
    parameters.quantizedDimension = axis
    tensor.quantization, tensor.type = parameters, getattr(schema.TensorType, dtype)
    # Other tensors may have the same values.
    model.buffers.append(schema.BufferT())
    model.buffers[-1].data = np.ascontiguousarray(data)
    before, tensor.buffer = tensor.buffer, len(model.buffers) - 1
    if not any(t.buffer == before for graph in model.subgraphs for t in graph.tensors):
        model.buffers[before].data = None


def is_float(tensor):
    """Whether a tensor is one of single precision."""
    return tensor.type == schema.TensorType.FLOAT32


def values_of(model, tensor):
    """The constant values of a tensor of float32, or `None` where it has none."""
    data = model.buffers[tensor.buffer].data
    if data is None or not len(data) or not is_float(tensor):
        return None
    return np.frombuffer(np.asarray(data, np.uint8).tobytes(), "<f4").reshape(tensor.shape)


def alone(model, graph, operator):
    """A model of one operator, whose first input is its input."""
    code = model.operatorCodes[operator.opcodeIndex]
    places = {}
    single = schema.SubGraphT()
    single.tensors, buffers = [], [schema.BufferT()]
    for place in [*operator.inputs, *operator.outputs]:
        if place >= 0 and place not in places:
            places[place] = len(single.tensors)
            single.tensors.append(_with_buffer(graph.tensors[place], model, buffers))
    made = schema.OperatorT()
    made.__dict__.update(operator.__dict__)
    made.opcodeIndex = 0
    made.inputs, made.outputs = (
        np.array([places.get(place, -1) for place in ends], np.int32)
        for ends in (operator.inputs, operator.outputs)
    )
    single.operators, single.inputs, single.outputs = [made], made.inputs[:1], made.outputs
    other = schema.ModelT()
    other.version, other.operatorCodes = model.version, [code]
    other.subgraphs, other.buffers = [single], buffers
    return write(other)


def _with_buffer(tensor, model, buffers):
    copy = schema.TensorT()
    copy.__dict__.update(tensor.__dict__)
    data = model.buffers[tensor.buffer].data
    copy.buffer = 0
    if data is not None and len(data):
        copy.buffer = len(buffers)
        buffers.append(schema.BufferT())
        buffers[-1].data = data
    return copy
