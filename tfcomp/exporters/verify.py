"""Compares what a SavedModel computes, loaded from its folder, with what the model does."""

from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfcomp.model.result import LeftOut
from tfcomp.validation import invalid

# Samples in a batch; no other axis gets this length, so that mixed up axes show.
_BATCH = 2
# Lengths to try along the other axes that have none: some networks need large inputs.
_LENGTHS = ((5, 6, 7, 8, 9), (64, 96, 32, 32, 32), (224,) * 5)
# Exclusive bounds to try for integers: those of an embedding are not known.
_BOUNDS = (10, 2, 1)
_WORDS = ("", "a", "b c", "tfcomp")
# What rounding may change, by the largest value of an output; with tensors in half precision.
_TOLERANCE, _HALF_TOLERANCE = 1e-4, 5e-2
# Where rounding decides on signs or levels, outputs jump. They may differ by so many times what
# two ways to compute the model itself differ by, which has to be less than a share of them.
_TIMES, _MOST = 4, 0.05
_HALF = (tf.float16, tf.bfloat16)


class Compared(NamedTuple):
    """An output that was compared with the model's.

    Attributes:
        path: Name of the endpoint and of the output, `"serve/output_0"`.
        difference: Largest absolute difference.
        largest: Largest absolute value that the model computes.
    """

    path: str
    difference: float
    largest: float


class _NotComparable(Exception):
    """Says why an endpoint cannot be compared."""


# ---- inputs


def _drawn(rng, spec, lengths, bound, normal):
    known = spec.shape.as_list()
    free = [_BATCH, *lengths, *[lengths[-1]] * len(known)]
    shape = [length if size is None else size for size, length in zip(known, free)]
    if spec.dtype == tf.string:
        return tf.constant(rng.choice(_WORDS, shape), tf.string)
    if spec.dtype.is_bool:
        return tf.constant(rng.random(shape) < 0.5)
    if spec.dtype.is_integer:
        return tf.cast(rng.integers(0, bound, shape), spec.dtype)
    value = rng.standard_normal(shape) if normal else rng.random(shape)
    return tf.cast(value, spec.dtype)


def _is_free(specs):
    """Whether other lengths than that of a batch are unknown."""
    return any(None in leaf.shape.as_list()[1:] for leaf in keras.tree.flatten(specs))


def _draws(specs):
    """Yields lists of arguments, worth a try one after the other."""
    leaves = keras.tree.flatten(specs)
    for leaf in leaves:
        if not isinstance(leaf, tf.TensorSpec) or leaf.shape.rank is None:
            raise _NotComparable(f"no inputs can be drawn for {leaf}")
    bounds = _BOUNDS if any(leaf.dtype.is_integer for leaf in leaves) else _BOUNDS[:1]
    for lengths in _LENGTHS if _is_free(specs) else _LENGTHS[:1]:
        for bound in bounds:
            for normal in (True, False):
                rng = np.random.default_rng(0)
                yield keras.tree.map_structure(
                    lambda spec: _drawn(rng, spec, lengths, bound, normal),  # noqa: B023
                    specs,
                )


def drawn_inputs(specs, size):
    """Arguments for a batch of a size, normal numbers and small integers.

    Args:
        specs: List of structures of `tf.TensorSpec` in which only the batch size is free.
        size: Samples.
    """
    rng = np.random.default_rng(0)

    def draw(spec):
        shape = [size, *spec.shape.as_list()[1:]]
        return _drawn(rng, tf.TensorSpec(shape, spec.dtype), _LENGTHS[0], _BOUNDS[0], True)

    return keras.tree.map_structure(draw, specs)


def _given(specs, data):
    """Arguments from a user's data."""
    sizes = [leaf.shape[0] for leaf in keras.tree.flatten(specs) if leaf.shape.rank]
    size = next(iter(sizes), None) or _BATCH
    x = data.first()
    args = [x] if len(specs) == 1 else list(x)
    leaves = keras.tree.flatten(args)
    if len(leaves) != len(keras.tree.flatten(specs)):
        raise invalid("data", f"{len(leaves)} arrays", f"inputs as {specs}")
    tensors = [
        tensor if spec.dtype == tf.string else tf.cast(tensor, spec.dtype)
        for spec, leaf in zip(keras.tree.flatten(specs), leaves)
        for tensor in [tf.convert_to_tensor(leaf)[:size]]
    ]
    return keras.tree.pack_sequence_as(specs, tensors)


# ---- outputs


def _name(path):
    parts = [f"output_{part}" if isinstance(part, int) else str(part) for part in path]
    return "/".join(parts) or "output_0"


def _outputs(result):
    """Dict from the name of an output to its array."""
    flat = keras.tree.flatten_with_path(result)
    return {_name(path): np.asarray(leaf) for path, leaf in flat}


def _expected(call, args):
    """What the model computes, which is left as it was: seeds and states, too."""
    with keras.StatelessScope():
        return _outputs(call(*args))


def _expected_in_graph(endpoint, args):
    def forward(*args):
        with keras.StatelessScope():
            return endpoint.traced(*args)

    return _outputs(tf.function(forward, autograph=False)(*args))


def _difference(actual, expected):
    """Largest absolute difference, and largest value expected."""
    numbers = expected.dtype.kind in "biufc" or expected.dtype.kind == "V"
    if not numbers:
        same = actual.shape == expected.shape and bool(np.all(actual == expected))
        return (0.0 if same else np.inf), 0.0
    kind = np.complex128 if expected.dtype.kind == "c" else np.float64
    actual, expected = actual.astype(kind), expected.astype(kind)
    if actual.shape != expected.shape:
        return np.inf, 0.0
    finite = np.isfinite(expected)
    largest = float(np.max(np.abs(expected[finite]), initial=0))
    same = np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    if not same or not np.all(np.isfinite(actual[finite])):
        return np.inf, largest
    return float(np.max(np.abs(actual[finite] - expected[finite]), initial=0)), largest


def _rows(actual, expected):
    if actual.keys() != expected.keys():
        raise ValueError(f"It has outputs {list(actual)}, where the model has {list(expected)}.")
    return [Compared(name, *_difference(actual[name], wanted)) for name, wanted in expected.items()]


def _wrong(rows, tolerance):
    """The rows that differ by more than rounding."""
    return [row for row in rows if row.difference > tolerance * max(row.largest, 1e-6)]


def _tolerance(function):
    tensors = (t for op in function.graph.get_operations() for t in op.outputs)
    return _HALF_TOLERANCE if any(t.dtype in _HALF for t in tensors) else _TOLERANCE


# ---- comparisons


def _tried(endpoint, data):
    """Arguments that the model takes, and what it computes of them."""
    if data is not None:
        args = _given(endpoint.specs, data)
        return args, _expected(endpoint.call, args)
    error, found = None, None
    for args in _draws(endpoint.specs):
        try:
            # Only a trace notices lengths that are too small for a convolution.
            free = _is_free(endpoint.specs)
            expected = (
                _expected_in_graph(endpoint, args) if free else _expected(endpoint.call, args)
            )
        except Exception as problem:
            # Whatever it is, other inputs may do.
            error = problem
            continue
        values = [value for value in expected.values() if value.dtype.kind in "fc"]
        if all(np.all(np.isfinite(value)) for value in values):
            return args, expected
        found = found or (args, expected)
    if found is None:
        text = str(error).strip().split("\n")[0][:200]
        raise _NotComparable(f"it takes no inputs that were drawn: {type(error).__name__}: {text}")
    if all(np.all(np.isnan(v)) for v in found[1].values() if v.dtype.kind in "fc"):
        raise _NotComparable("its outputs are NaN for all inputs that were drawn")
    return found


def _compared(endpoint, function, served, data):
    args, expected = _tried(endpoint, data)
    tolerance = _tolerance(function)
    try:
        actual = _outputs(served(*args))
    except tf.errors.OpError as error:
        text = error.message.strip().split("\n")[0]
        raise ValueError(
            f"The exported {endpoint.name!r} fails where the model does not: {text}"
        ) from error
    rows = _rows(actual, expected)
    if not _wrong(rows, tolerance):
        return rows
    again = _rows(_expected(endpoint.call, args), expected)
    if _wrong(again, tolerance):
        raise _NotComparable("its outputs differ from call to call")
    graph = _expected_in_graph(endpoint, args)
    nearer = _rows(actual, graph)
    if not _wrong(nearer, tolerance):
        return nearer
    noise = _rows(graph, expected)
    far = [
        row
        for row, own in zip(rows, noise)
        if row.difference > max(tolerance * max(row.largest, 1e-6), _TIMES * own.difference)
        or own.difference > _MOST * own.largest
    ]
    if not far:
        return rows
    raise _unlike(endpoint, far, actual, expected)


def _unlike(endpoint, rows, actual, expected):
    """The error for outputs that differ."""
    texts = []
    for row in rows:
        shapes = [outputs[row.path].shape for outputs in (actual, expected)]
        how = f"by {row.difference:.3g}, where the largest value is {row.largest:.3g}"
        if shapes[0] != shapes[1]:
            how = f"in its shape, {shapes[0]} for {shapes[1]}"
        texts.append(f"{row.path!r} {how}")
    return ValueError(
        f"The exported {endpoint.name!r} does not compute what the model does. These outputs "
        f"differ: {'; '.join(texts)}. Nothing was written. Either a layer does something else "
        "where it is traced with unknown lengths of its inputs (give them in `input_signature`), "
        "or please report it; `verify=False` exports it nevertheless."
    )


def compare(folder, wanted, functions, data=None):
    """Compares the endpoints of a SavedModel with the model, on a batch of two.

    Args:
        folder: Where it was written.
        wanted: List of `tfcomp.exporters.signature.Endpoint`.
        functions: Dict from their names to the `tf.function` that was written.
        data: Optional `tfcomp.model.data.Batches` for the first; other inputs are drawn.

    Returns:
        List of `Compared`, one for each output, and list of `LeftOut`, one for each endpoint that
        could not be compared.

    Raises:
        ValueError: If an output differs by more than rounding can explain.
    """
    loaded = tf.saved_model.load(folder)
    rows, left_out = [], []
    for endpoint in wanted:
        function = functions[endpoint.name].get_concrete_function()
        given = data if endpoint is wanted[0] else None
        try:
            found = _compared(endpoint, function, getattr(loaded, endpoint.name), given)
        except _NotComparable as reason:
            left_out.append(LeftOut(endpoint.name, f"not compared with the model: {reason}"))
            continue
        rows += [row._replace(path=f"{endpoint.name}/{row.path}") for row in found]
    return rows, left_out
