"""Compares what a SavedModel computes, loaded from its folder, with what the model does."""

import keras
import tensorflow as tf

from tfcomp.exporters.compared import (
    BATCH,
    HALF_TOLERANCE,
    MOST,
    TIMES,
    TOLERANCE,
    NotComparable,
    batch_of,
    draws,
    is_free,
    outputs,
    rows,
    tried,
    unlike,
    wrong,
)
from tfcomp.model.result import LeftOut
from tfcomp.validation import invalid

_HALF = (tf.float16, tf.bfloat16)
_ADVICE = (
    "Either a layer does something else where it is traced with unknown lengths of its inputs "
    "(give them in `input_signature`), or please report it"
)


def _tensors(specs, args):
    def tensor(spec, leaf):
        return tf.constant(leaf, spec.dtype)

    leaves = map(tensor, keras.tree.flatten(specs), keras.tree.flatten(args))
    return keras.tree.pack_sequence_as(specs, list(leaves))


def drawn_inputs(specs, size):
    """Arguments for a batch of a size, normal numbers and small integers.

    Args:
        specs: List of structures of `tf.TensorSpec` in which only the batch size is free.
        size: Samples.
    """
    return _tensors(specs, next(draws(specs, size)))


def _given(specs, data):
    """Arguments from a user's data."""
    sizes = [leaf.shape[0] for leaf in keras.tree.flatten(specs) if leaf.shape.rank]
    size = next(iter(sizes), None) or BATCH
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


def _expected(endpoint, args):
    """What the model computes, which is left as it was: seeds and states, too.

    A model is computed in a graph, as by `predict`: there no tensor is kept longer than it is read,
    whereas a functional model that is called eagerly keeps all of them until its end.
    """
    if endpoint.call is endpoint.traced or is_free(endpoint.specs):
        return _in_graph(endpoint, args)
    return _at_once(endpoint, args)


def _otherwise(endpoint, args):
    """The same in the other way, by which rounding may differ."""
    if endpoint.call is endpoint.traced and not is_free(endpoint.specs):
        return _at_once(endpoint, args)
    return _in_graph(endpoint, args)


def _at_once(endpoint, args):
    with keras.StatelessScope():
        return outputs(endpoint.call(*args))


def _in_graph(endpoint, args):
    def forward(*args):
        with keras.StatelessScope():
            return endpoint.traced(*args)

    return outputs(tf.function(forward, autograph=False)(*args))


def _tolerance(function):
    tensors = (t for op in function.graph.get_operations() for t in op.outputs)
    return HALF_TOLERANCE if any(t.dtype in _HALF for t in tensors) else TOLERANCE


def _tried(endpoint, data, size):
    """Arguments that the model takes, for a batch of a size, and what it computes of them."""
    specs = endpoint.specs
    if data is not None:
        args = _given(specs, data)
        return args, _expected(endpoint, args)
    for leaf in keras.tree.flatten(specs):
        if not isinstance(leaf, tf.TensorSpec) or leaf.shape.rank is None:
            raise NotComparable(f"no inputs can be drawn for {leaf}")

    return tried(
        lambda args: _expected(endpoint, args),
        (_tensors(specs, args) for args in draws(specs, size)),
    )


def _compared(endpoint, function, served, data, size=BATCH):
    args, expected = _tried(endpoint, data, size)
    tolerance = _tolerance(function)
    try:
        actual = outputs(served(*args))
    except tf.errors.OpError as error:
        text = error.message.strip().split("\n")[0]
        raise ValueError(
            f"The exported {endpoint.name!r} fails where the model does not: {text}"
        ) from error
    found = rows(actual, expected)
    if not wrong(found, tolerance):
        return found
    again = rows(_expected(endpoint, args), expected)
    if wrong(again, tolerance):
        raise NotComparable("its outputs differ from call to call")
    other = _otherwise(endpoint, args)
    nearer = rows(actual, other)
    if not wrong(nearer, tolerance):
        return nearer
    noise = rows(other, expected)
    far = [
        row
        for row, own in zip(found, noise)
        if row.difference > max(tolerance * max(row.largest, 1e-6), TIMES * own.difference)
        or own.difference > MOST * own.largest
    ]
    if not far:
        return found
    raise unlike(repr(endpoint.name), far, actual, expected, _ADVICE)


def _from_states(function, states):
    """A function whose variables have some values whenever it is called."""

    def call(*args):
        for variable, value in states:
            variable.assign(value)
        return function(*args)

    return call


def compare(folder, wanted, functions, data=None, sizes=()):
    """Compares the endpoints of a SavedModel with the model, on a batch of two.

    Args:
        folder: Where it was written.
        wanted: List of `tfcomp.exporters.signature.Endpoint`.
        functions: Dict from their names to the `tf.function` that was written.
        data: Optional `tfcomp.model.data.Batches` for the first; other inputs are drawn.
        sizes: Further sizes of batches, for functions that compute them in other ways.

    Returns:
        List of `Compared`, one for each output, at the size at which it differs most, and list of
        `LeftOut`, one for each endpoint that could not be compared.

    Raises:
        ValueError: If an output differs by more than rounding can explain.
    """
    loaded = tf.saved_model.load(folder)
    # The model is computed from the state that it has now; what is loaded has to be, too.
    states = [(v, v.numpy()) for v in loaded.captured if isinstance(v, tf.Variable)]
    compared, left_out = [], []
    for endpoint in wanted:
        function = functions[endpoint.name].get_concrete_function()
        given = data if endpoint is wanted[0] else None
        try:
            served = _from_states(getattr(loaded, endpoint.name), states)
            found = [_compared(endpoint, function, served, given)]
            others = sizes if batch_of(endpoint.specs) is None else ()
            found += [_compared(endpoint, function, served, None, size) for size in others]
        except NotComparable as reason:
            left_out.append(LeftOut(endpoint.name, f"not compared with the model: {reason}"))
            continue
        worst = [max(same, key=lambda row: row.difference) for same in zip(*found)]
        compared += [row._replace(path=f"{endpoint.name}/{row.path}") for row in worst]
    return compared, left_out
