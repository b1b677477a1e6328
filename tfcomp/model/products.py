"""Multiply-accumulate operations in the operations of `keras.ops`.

Only sums over products count: a product element by element, as of a gate, is none.
"""

import math

from tfcomp import keras_private


def _labels(part, ndim):
    """The labels of one operand of an einsum; axes behind an ellipsis are labelled from its end."""
    if "..." not in part:
        return list(part)
    before, after = part.split("...")
    hidden = ndim - len(before) - len(after)
    return [*before, *range(-hidden, 0), *after]


def einsum(subscripts, shapes, output):
    """MACs of an einsum.

    Args:
        subscripts: As in `keras.ops.einsum`, of two operands.
        shapes: List of their shapes; `None` for one whose axes the others have.
        output: Shape of the output.

    Returns:
        The number, and whether there is a sum over products.
    """
    inputs, *kept = subscripts.replace(" ", "").split("->")
    first, second = parts = inputs.split(",")
    if not kept:
        letters = [label for label in inputs if label.isalpha()]
        single = sorted(label for label in letters if letters.count(label) == 1)
        kept = [("..." if "..." in inputs else "") + "".join(single)]
    sizes, left = {}, set(_labels(kept[0], len(output)))
    for part, shape in zip([*parts, kept[0]], [*shapes, output]):
        for label, size in zip(_labels(part, len(shape)), shape) if shape is not None else ():
            sizes[label] = max(size, sizes.get(label, 1))
    both = set(first) & set(second) - {"."}
    # What only one of them has and the output has not is summed up before.
    number = math.prod(size for label, size in sizes.items() if label in both | left)
    return number, not both <= left


def _einsum(operation, call):
    operands = call.arguments["operands"]
    if len(operands) == 1:
        return []
    if len(operands) > 2:
        # The order decides, and is the backend's.
        return None
    number, sums = einsum(operation.subscripts, operands, call.output)
    return [(None, number)] if sums else []


def _matmul(operation, call):
    return [(None, math.prod(call.output) * call.arguments["x1"][-1])]


def _vdot(operation, call):
    return [(None, math.prod(call.arguments["x1"]))]


def _tensordot(operation, call):
    first, axes = call.arguments["x1"], operation.axes
    if isinstance(axes, int):
        summed = first[len(first) - axes :]
    else:
        axes = axes[0] if isinstance(axes[0], (list, tuple)) else [axes[0]]
        summed = [first[axis] for axis in axes]
    return [(None, math.prod(call.output) * math.prod(summed))]


def _conv(operation, call):
    kernel = call.arguments["kernel"]
    return [(None, math.prod(call.output) // kernel[-1] * math.prod(kernel))]


def _depthwise_conv(operation, call):
    kernel = call.arguments["kernel"]
    return [(None, math.prod(call.output) // math.prod(kernel[-2:]) * math.prod(kernel))]


def _separable_conv(operation, call):
    depthwise, pointwise = (call.arguments[f"{name}_kernel"] for name in ("depthwise", "pointwise"))
    positions = math.prod(call.output) // pointwise[-1]
    return [(None, positions * (math.prod(depthwise) + math.prod(pointwise)))]


def _conv_transpose(operation, call):
    kernel = call.arguments["kernel"]
    return [(None, math.prod(call.inputs) // kernel[-1] * math.prod(kernel))]


def _attention(operation, call):
    # Shapes are (batch, length, heads, size).
    query, key, value = (call.arguments[name] for name in ("query", "key", "value"))
    return [(None, math.prod(query[:3]) * key[1] * (key[3] + value[3]))]


def _nothing(operation, call):
    return []


_RULES = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthwiseConv": _depthwise_conv,
    "Dot": _matmul,
    "DotProductAttention": _attention,
    "Einsum": _einsum,
    "Inner": _matmul,
    "Matmul": _matmul,
    "SeparableConv": _separable_conv,
    "Tensordot": _tensordot,
    "Vdot": _vdot,
}

# They call functions, are filters, or solve something.
_UNKNOWN = {
    *("AssociativeScan", "Cond", "ForiLoop", "Map", "Scan", "Switch", "VectorizedMap", "WhileLoop"),
    *("CDist", "CTCDecode", "CTCLoss", "Convolve", "Corrcoef", "Correlate", "Cross", "Kron"),
    *("ElasticTransform", "GaussianBlur", "SSIM", "SobelEdges"),
    *("FFT", "FFT2", "IFFT2", "IRFFT", "ISTFT", "Logdet", "RFFT", "STFT", "Slogdet"),
}
_HOMES = ("ops.core", "ops.einops", "ops.image", "ops.math", "ops.nn", "ops.numpy")


def rule(operation):
    """The function that counts the MACs of an operation of `keras.ops`, or `None`."""
    name = type(operation).__name__
    if name in _RULES:
        return _RULES[name]
    known = keras_private.home(operation) in _HOMES and name not in _UNKNOWN
    return _nothing if known else None
