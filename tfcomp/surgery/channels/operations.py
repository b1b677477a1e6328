"""What operations of `keras.ops` do to dyes, by families."""

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.surgery.channels import contractions
from tfcomp.surgery.channels.tensors import (
    aligned,
    compact,
    dye,
    dyes_of,
    flat,
    freeze_along,
    give_up,
    is_symbolic,
    is_tensor,
    varies,
    without,
)


def elementwise(dyes, operands, output):
    """Dyes that meet at one place are tied; a channel that meets what is none stays."""
    rank, tensors = len(output.shape), [x for x in operands if is_tensor(x)]
    shapes = [(1,) * (rank - len(x.shape)) + tuple(x.shape) for x in tensors]
    arrays = [{varies(a): a for a in (aligned(a, rank) for a in dyes_of(x))} for x in tensors]
    made = []
    for key in dict.fromkeys(key for own in arrays for key in own):
        total = np.zeros((1,) * rank, np.int32)
        for shape, own in zip(shapes, arrays):
            # One of length one along all of these axes is the same for all of these channels.
            if key in own or (key and any(shape[axis] > 1 for axis in key)):
                array = own.get(key, np.zeros((1,) * rank, np.int32))
                if total.any() or key not in own:
                    dyes.tie(total if total.any() else _first(arrays, key), array)
                total = np.where(total != 0, total, array)
        made.append(total)
    dye(output, made)


def _first(arrays, key):
    return next(own[key] for own in arrays if key in own)


def move(dyes, op, args, kwargs, outputs):
    """What only moves data is carried out on the dyes themselves."""
    tensors = [x for x in flat((args, kwargs)) if is_symbolic(x)]
    members = {}
    for x in tensors:
        for number, array in enumerate(dyes_of(x)):
            key = number if len(tensors) == 1 else varies(array)
            members.setdefault(key, {})[id(x)] = array
    results = [[] for _ in outputs]
    for own in members.values():
        made = [None] * len(outputs)

        def value(x, own=own):
            if not is_symbolic(x):
                return x
            array = own.get(id(x), np.zeros((1,) * len(x.shape), np.int32))
            return np.ascontiguousarray(np.broadcast_to(array, x.shape))

        given = keras.tree.map_structure(value, (tuple(args), dict(kwargs)), none_is_leaf=False)
        moved = flat(op.call(*given[0], **given[1]))
        for number, array in enumerate(moved):
            array = compact(np.asarray(keras.ops.convert_to_numpy(array)).astype(np.int32))
            if array.any() and not varies(array):
                dyes.freeze(array, f"it is all that {dyes.where} leaves")
            elif array.any():
                made[number] = array
        _mark_rows(dyes, op, own.values(), made)
        for arrays, array in zip(results, made):
            arrays += [] if array is None else [array]
    for output, arrays in zip(outputs, results):
        dye(output, arrays)


def _mark_rows(dyes, op, arrived, made):
    """Halves of a split must stay halves, and rows of a matrix rows; what a slice takes is noted.

    Args:
        dyes: The `Dyes`.
        op: The operation.
        arrived: The arrays that it moved.
        made: List of the array for each output, or `None` where nothing is left.
    """
    kind = type(op).__name__
    before = np.unique(np.concatenate([array.ravel() for array in arrived]))
    if len(made) > 1 and isinstance(getattr(op, "indices_or_sections", 0), int):
        place = dyes.new_place(kind, before)
        for number, array in enumerate(made):
            if array is not None:
                dyes.mark(place, number, array)
        return
    for number, array in enumerate(made):
        if array is None:
            continue
        if kind == "Reshape" and len(varies(array)) > 1:
            place, axis = dyes.new_place(kind, before), varies(array)[0]
            for row in range(array.shape[axis]):
                dyes.mark(place, row, array.take(row, axis))
        elif len(before) > len(np.unique(array)):
            dyes.mark(dyes.new_place(f"{kind} {number}", before), 0, array)


def _take(dyes, op, args, kwargs, outputs):
    """Rows by their numbers, which are known only where they are no tensor of the model."""
    x, indices = args
    if not is_symbolic(indices):
        move(dyes, op, args, kwargs, outputs)
        return
    axis = (op.axis or 0) % len(x.shape)
    freeze_along(dyes, x, [axis], f"{dyes.where} takes what a tensor says")
    rest = [(a.shape[:axis], a.shape[axis + 1 :], a) for a in without(x, [axis])]
    ones = (1,) * len(indices.shape)
    dye(outputs[0], [a.reshape((*before, *ones, *after)) for before, after, a in rest])


def _concatenate(dyes, op, args, kwargs, outputs):
    parts, output = flat(args[0] if args else kwargs["xs"]), outputs[0]
    rank = len(output.shape)
    axis = op.axis % rank
    groups = {}
    for number, x in enumerate(parts):
        for array in dyes_of(x):
            key = tuple(other for other in varies(array) if other != axis)
            groups.setdefault(key, {})[number] = array
    made = []
    for key, members in groups.items():
        if not key or any(axis in varies(array) for array in members.values()):
            made.append(_joined(parts, members, key, axis, output))
        else:
            made.append(_same_in_all(dyes, parts, members))
    dye(output, made)


def _joined(parts, members, key, axis, output):
    shape = [output.shape[k] if k in key else 1 for k in range(len(output.shape))]
    arrays = []
    for number, x in enumerate(parts):
        shape[axis] = x.shape[axis]
        array = members.get(number, np.zeros((1,) * len(shape), np.int32))
        arrays.append(np.broadcast_to(array, shape))
    return np.concatenate(arrays, axis)


def _same_in_all(dyes, parts, members):
    """Parts side by side along another axis: the same channels in each of them."""
    first, *others = members.values()
    for other in others:
        dyes.tie(first, other)
    if len(members) < len(parts):
        dyes.freeze(first, f"it is joined with what is no channel in {dyes.where}")
    return first


def _pad(dyes, op, args, kwargs, outputs):
    x, output, made = args[0], outputs[0], []
    widths = list(op.pad_width)
    widths = [tuple(w) for w in (widths * len(x.shape) if len(widths) == 1 else widths)]
    for array in dyes_of(x):
        own = [w if array.shape[i] > 1 else (0, 0) for i, w in enumerate(widths)]
        if op.mode != "constant" and any(map(any, own)):
            dyes.freeze(array, f"{dyes.where} repeats it")
        made.append(np.pad(array, own))
    dye(output, made)


def _axes(op, rank):
    axis = getattr(op, "axis", None)
    axes = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
    return [each % rank for each in axes]


def _reduce(dyes, op, args, kwargs, outputs):
    """A sum over channels is exact without those that are zero; nothing else is."""
    x, output = args[0], outputs[0]
    axes = _axes(op, len(x.shape))
    if type(op).__name__ != "Sum":
        freeze_along(dyes, x, axes, f"{dyes.where} mixes it with others")
    arrays = without(x, axes)
    if not op.keepdims:
        arrays = [a.reshape([n for i, n in enumerate(a.shape) if i not in axes]) for a in arrays]
    dye(output, arrays)


def _softmax(dyes, op, args, kwargs, outputs):
    axes = _axes(op, len(args[0].shape))
    freeze_along(dyes, args[0], axes, f"{dyes.where} mixes it with others")
    dye(outputs[0], without(args[0], axes))


def _normalize(dyes, op, args, kwargs, outputs):
    """Division by a norm, to which channels that are zero add nothing."""
    dye(outputs[0], dyes_of(args[0]))


def _window(dyes, op, args, kwargs, outputs):
    """Pooling and resizing mix positions."""
    x = args[0]
    rank = len(x.shape)
    channels = rank - 1 if op.data_format == "channels_last" else rank - 3
    if type(op).__name__ in _POOLS:
        channels = rank - 1 if op.data_format == "channels_last" else 1
    axes = [axis for axis in range(0 if rank == 3 else 1, rank) if axis != channels]
    freeze_along(dyes, x, axes, f"{dyes.where} mixes it with others")
    dye(outputs[0], without(x, axes))


def _elementwise(dyes, op, args, kwargs, outputs):
    elementwise(dyes, flat((args, kwargs)), outputs[0])


def _einsum(dyes, op, args, kwargs, outputs):
    operands = [x for x in flat(args) if is_tensor(x)]
    contractions.einsum(dyes, op.subscripts, operands, outputs[0])


def _matmul(dyes, op, args, kwargs, outputs):
    contractions.matmul(dyes, *[x for x in flat((args, kwargs)) if is_tensor(x)][:2], outputs[0])


def _conv(dyes, op, args, kwargs, outputs):
    """A convolution by a kernel that code of its own hands over."""
    x, kernel = [each for each in flat((args, kwargs)) if is_tensor(each)][:2]
    axis = len(x.shape) - 1 if op.data_format == "channels_last" else 1
    if kernel.shape[-2] != x.shape[axis]:
        give_up(dyes, dyes.where, [x, kernel], outputs)
        return
    spatial = [other for other in range(1, len(x.shape)) if other != axis]
    contractions.window(dyes, x, axis, spatial, kernel, outputs[0])


def _attention(dyes, op, args, kwargs, outputs):
    named = dict(zip(("query", "key", "value"), args))
    named.update({k: v for k, v in kwargs.items() if k in ("query", "key", "value")})
    contractions.attention(dyes, named["query"], named["key"], named["value"], outputs[0])


_POOLS = ("MaxPool", "AveragePool", "AdaptiveAveragePool", "AdaptiveMaxPool")

_FAMILIES = [
    (
        _elementwise,
        """Abs Absolute Add Arctan Cast Ceil Celu Clip Conj ConvertToTensor Copy Cos Cosh Divide
        DivideNoNan Elu Equal Erf Exp Exp2 Expm1 Fabs Floor Gelu Greater GreaterEqual HardShrink
        HardSigmoid HardSilu HardTanh Identity Isfinite Isnan LeakyRelu Less LessEqual Log Log10
        Log1p Log2 LogSigmoid LogicalAnd LogicalNot LogicalOr LogicalXor Maximum Minimum Mish
        Mod Multiply NanToNum Negative NotEqual OnesLike Power ReLU Reciprocal Relu Relu6 Round
        Rsqrt SaturateCast Selu Sigmoid Sign Silu Sin Sinh SoftShrink Softplus Softsign
        SparsePlus SparseSigmoid Sqrt Square Squareplus StopGradient Subtract Tan Tanh
        TanhShrink Threshold TrueDivide Trunc Where ZerosLike""",
    ),
    (
        move,
        """ArraySplit BroadcastTo ExpandDims Flip GetItem Hsplit Moveaxis Ravel Repeat Reshape Roll
        Rot90 Slice Split Squeeze Stack Swapaxes Tile Transpose Unstack Vsplit""",
    ),
    (_take, "Take"),
    (_concatenate, "Concatenate"),
    (_pad, "Pad"),
    (_reduce, "All Amax Amin Any CountNonzero Logsumexp Max Mean Min Prod Std Sum Var"),
    (_softmax, "LogSoftmax Softmax"),
    (_normalize, "Normalize"),
    (_window, " ".join((*_POOLS, "Resize"))),
    (_einsum, "Einsum"),
    (_matmul, "Dot Matmul"),
    (_conv, "Conv"),
    (_attention, "DotProductAttention"),
]

# Where the code of Keras's operations is.
_HOMES = ("ops.", "activations.")

RULES = {name: rule for rule, names in _FAMILIES for name in names.split()}


def rule_for(op, args, kwargs):
    """The rule of an operation for these arguments, or `None`."""
    rule = RULES.get(type(op).__name__) if keras_private.home(op).startswith(_HOMES) else None
    if rule is move and type(op).__name__ != "Stack":
        # Where to, a tensor of the model says.
        return rule if sum(map(is_symbolic, flat((args, kwargs)))) == 1 else None
    return rule
