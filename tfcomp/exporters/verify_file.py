"""Compares what a file computes, run by its format's runtime, with what the model does."""

import contextlib
import functools

import keras
import numpy as np

from tfcomp.exporters.compared import (
    BATCH,
    HALF_TOLERANCE,
    MOST,
    TIMES,
    TOLERANCE,
    NotComparable,
    draws,
    dtype_of,
    is_free,
    outputs,
    rows,
    tried,
    unlike,
    wrong,
)
from tfcomp.exporters.engines import RUNTIMES, input_names
from tfcomp.exporters.snapshot import Snapshot
from tfcomp.model.result import LeftOut
from tfcomp.targets import layer_sites
from tfcomp.validation import invalid

# By how much weights and inputs are changed to see what rounding does, and how often.
_ROUNDING, _TIMES_ROUNDED = 1e-6, 3
_ADVICE = (
    "Either its converter or runtime does something else than Keras, with unknown lengths of "
    "inputs for example (give them, and that of a batch, in `input_signature`), or please report it"
)


def _computed(call, args):
    """What a model computes, which is left as it was: seeds and states, too."""
    args = keras.tree.map_structure(_tensor, args)
    with keras.StatelessScope():
        return outputs(call(*args))


def _traced(call):
    """A function of a model's where it notices lengths that are too small for a convolution."""
    if keras.backend.backend() != "tensorflow":
        return call
    import tensorflow as tf

    return tf.function(call, autograph=False)


def _tensor(leaf):
    words = leaf.dtype.kind in "OSU" and keras.backend.backend() != "tensorflow"
    return leaf if words else keras.ops.convert_to_tensor(leaf)


def _given(specs, data, batch):
    """Arguments from a user's data, of which a file may take only so many at a time."""
    x = data.first()
    args = [x] if len(specs) == 1 else list(x)
    leaves, wanted = keras.tree.flatten(args), keras.tree.flatten(specs)
    if len(leaves) != len(wanted):
        raise invalid("data", f"{len(leaves)} arrays", f"inputs as {specs}")
    arrays = []
    for leaf, spec in zip(leaves, wanted):
        array = keras.ops.convert_to_numpy(leaf)
        array = array[: next(iter(tuple(spec.shape)), None) or batch] if array.ndim else array
        arrays.append(array if dtype_of(spec) == "string" else array.astype(dtype_of(spec)))
    return keras.tree.pack_sequence_as(specs, arrays)


def _tolerance(model):
    """That of the smallest dtype that anything in the model computes in."""
    layers = [model, *(site.layer for site in layer_sites(model))]
    half = any(layer.compute_dtype in ("float16", "bfloat16") for layer in layers)
    return HALF_TOLERANCE if half else TOLERANCE


# ---- the file


def _opened(path, format):
    runtime = RUNTIMES[format]
    try:
        with _said(format):
            return runtime(path, None)
    except ImportError as error:
        raise NotComparable(f"`pip install {runtime.package}`") from error


def prepared(engine, specs, args):
    """A callable that computes a list of outputs from a file, of a model's arguments."""
    leaves = keras.tree.flatten(args)
    names = [getattr(spec, "name", None) for spec in keras.tree.flatten(specs)]
    named = len(set(names)) == len(names) and set(names) == set(input_names(engine.specs))
    return engine.prepare(dict(zip(names, leaves)) if named else leaves)


def computing(engine, specs):
    """A function from a model's arguments to a dict of outputs, which a file computes."""
    return lambda args: dict(enumerate(prepared(engine, specs, args)()))


def _run(engine, specs, args):
    """A callable that computes a dict of outputs from a file."""
    call = prepared(engine, specs, args)

    def run(expected):
        found = [np.asarray(array) for array in call()]
        if set(engine.outputs) == set(expected):
            return dict(zip(engine.outputs, found))
        if len(found) != len(expected):
            raise ValueError(f"It has {len(found)} outputs, where the model has {list(expected)}.")
        return dict(zip(expected, found))

    return run


@contextlib.contextmanager
def _said(format):
    """Context in which a failure is that of the file."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if "Select TensorFlow op" in str(error):
            raise NotComparable(
                "it has operations of TensorFlow (Flex), which the interpreters for Python have not"
            ) from error
        text = str(error).strip().split("\n")[0][:300]
        raise ValueError(
            f"The exported {format} file fails where the model does not: {text}. Nothing was "
            "written; `verify=False` exports it nevertheless."
        ) from error


# ---- what rounding does


def _changed(value, rng):
    """A value changed by about as much as rounding changes it."""
    largest = float(np.max(np.abs(value), initial=0)) or 1.0
    step = rng.standard_normal(value.shape) * _ROUNDING
    return (value + np.where(value == 0, largest, np.abs(value)) * step).astype(value.dtype)


def _noise(model, args, expected):
    """The largest differences, output by output, that rounding makes to the model itself."""
    snapshot, largest = Snapshot(model), dict.fromkeys(expected, 0.0)
    for seed in range(_TIMES_ROUNDED):
        rng = np.random.default_rng(seed)
        changed = [
            (copy, _changed(keras.ops.convert_to_numpy(copy.value), rng))
            for copy in snapshot.unquantized
        ]
        inputs = keras.tree.map_structure(
            lambda leaf: _changed(leaf, rng) if leaf.dtype.kind == "f" else leaf,  # noqa: B023
            args,
        )
        mapping = [(copy, keras.ops.convert_to_tensor(value)) for copy, value in changed]
        with keras.StatelessScope(state_mapping=mapping):
            found = outputs(snapshot(*keras.tree.map_structure(_tensor, inputs)))
        for row in rows(found, expected):
            largest[row.path] = max(largest[row.path], row.difference)
    return largest


# ---- comparison


def _compared(model, format, run, args, expected, exact=True):
    with _said(format):
        actual = run(expected)
    found, tolerance = rows(actual, expected), _tolerance(model)
    if not exact or not wrong(found, tolerance):
        return found
    if wrong(rows(run(expected), actual), tolerance):
        raise NotComparable("its outputs differ from call to call")
    noise = _noise(model, args, expected)
    off = wrong(found, tolerance)
    far = [row for row in off if not row.difference <= TIMES * noise[row.path]]
    if far:
        raise unlike(f"{format} file", far, actual, expected, _ADVICE)
    jumps = [row for row in off if noise[row.path] > MOST * row.largest]
    if jumps:
        raise NotComparable(
            f"rounding decides on {jumps[0].path!r}, which differs by {jumps[0].difference:.3g}; "
            f"changing the model's weights by {_ROUNDING:g} of themselves makes a difference of "
            f"{noise[jumps[0].path]:.3g}"
        )
    return found


def _prepared(engine, format, model, specs, data, batch):
    """Arguments, what the model computes of them, and what runs the file on them."""

    def compute(args):
        call = functools.partial(model, training=False)
        return _computed(_traced(call) if is_free(specs) else call, args)

    sizes = {shape[0] for _, shape, _ in engine.specs if shape} - {None}
    batch = sizes.pop() if len(sizes) == 1 else batch
    if data is not None:
        args = _given(specs, data, batch)
        expected = compute(args)
    else:
        args, expected = tried(compute, draws(specs, batch or BATCH))
    with _said(format):
        return args, expected, _run(engine, specs, args)


def _check_dtypes(engine, specs):
    takes = sorted(dtype for _, _, dtype in engine.specs)
    wanted = sorted(dtype_of(spec) for spec in keras.tree.flatten(specs))
    if takes != wanted:
        raise NotComparable(f"it takes {takes}, where the model takes {wanted}")


def compare_file(model, path, format, specs, data=None, exact=True, batch=None):
    """Compares a file with the model that was exported to it.

    Args:
        model: The built `keras.Model`.
        path: Path of the file.
        format: `"litert"`, `"onnx"`, `"openvino"` or `"torch"`.
        specs: List of structures of specs, one for each argument of the model.
        data: Optional `tfcomp.model.data.Batches`; by default a batch of two is drawn, or of as
            many as the file takes.
        exact: Whether a difference is an error. One that a user has asked for is not.
        batch: Optional number of samples, where the file takes any.

    Returns:
        List of `Compared`, one for each output, and list of `LeftOut`.

    Raises:
        ValueError: If an output differs by more than rounding can explain.
    """
    try:
        engine = _opened(path, format)
        if not exact:
            _check_dtypes(engine, specs)
        args, expected, run = _prepared(engine, format, model, specs, data, batch)
        found = _compared(model, format, run, args, expected, exact)
    except NotComparable as reason:
        return [], [LeftOut(format, f"not compared with the model: {reason}")]
    return [row._replace(path=f"{format}/{row.path}") for row in found], []
