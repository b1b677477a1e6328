"""What a comparison of an export with its model is made of: inputs, differences, results."""

import os
from typing import NamedTuple

import keras
import ml_dtypes
import numpy as np

from tfcomp.model.result import LeftOut, Result

# What the forward pass is called, in Keras's exports, too.
ENDPOINT = "serve"
# Samples in a batch; no other axis gets this length, so that mixed up axes show.
BATCH = 2
# Lengths to try along the other axes that have none: some networks need large inputs.
LENGTHS = ((5, 6, 7, 8, 9), (64, 96, 32, 32, 32), (224,) * 5)
# Samples that are computed together, each by itself, and each beside copies of itself.
_APART = 3
# Exclusive bounds to try for integers: those of an embedding are not known.
_BOUNDS = (10, 2, 1)
_WORDS = ("", "a", "b c", "tfcomp")
# What rounding may change, by the largest value of an output; with tensors in half precision.
TOLERANCE, HALF_TOLERANCE = 1e-4, 5e-2
# Where rounding decides on signs or levels, outputs jump. They may differ by so many times what
# two ways to compute the model itself differ by, which has to be less than a share of them.
TIMES, MOST = 4, 0.05


class Compared(NamedTuple):
    """An output that was compared with the model's.

    Attributes:
        path: Name of the endpoint, or format, and of the output, `"serve/output_0"`.
        difference: Largest absolute difference.
        largest: Largest absolute value that the model computes.
    """

    path: str
    difference: float
    largest: float


class NotComparable(Exception):
    """Says why an export, or one endpoint of it, cannot be compared."""


class Exported(Result):
    """What `tfcomp.export` wrote; see `tfcomp.Result`.

    Attributes:
        rows: List of `Compared`, one for each output that was compared with the model's.
        left_out: List of endpoints that were not compared, and why.
        path: Where the folder or file is.
        weight_bytes: Bytes of the weights before.
        file_bytes: Bytes of the folder, or of all files.
        kernels: Dict from endpoints to `tfcomp.Result`, which kernels compute their layers, and how
            fast; empty where none were chosen.
    """

    def __init__(self, model, rows, left_out, path, weight_bytes, file_bytes, kernels=None):
        columns = {
            "output": "{0.path}",
            "largest value": "{0.largest:.4g}",
            "largest difference": "{0.difference:.2g}",
        }
        super().__init__(model, rows, left_out, f"Exported to {path}", columns)
        self.path, self.weight_bytes, self.file_bytes = path, weight_bytes, file_bytes
        self.kernels = kernels or {}


def unverified(names):
    """`LeftOut` for what the user did not want to be compared."""
    return [LeftOut(name, "not compared with the model: verify=False") for name in names]


def size_of(folder):
    """Bytes of all files in a folder."""
    files = (os.path.join(where, name) for where, _, names in os.walk(folder) for name in names)
    return sum(os.path.getsize(file) for file in files)


# ---- inputs


def dtype_of(spec):
    """The name of the dtype of a `keras.InputSpec`, `keras.KerasTensor` or `tf.TensorSpec`."""
    return keras.backend.standardize_dtype(spec.dtype or keras.config.floatx())


def _drawn(rng, spec, batch, lengths, bound, normal):
    known, dtype = tuple(spec.shape), dtype_of(spec)
    free = [batch, *lengths, *[lengths[-1]] * len(known)]
    shape = [length if size is None else size for size, length in zip(known, free)]
    if dtype == "string":
        return rng.choice(_WORDS, shape).astype(object)
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if "int" in dtype:
        return np.asarray(rng.integers(0, bound, shape)).astype(dtype)
    value = np.asarray(rng.standard_normal(shape) if normal else rng.random(shape))
    return value.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def is_free(specs):
    """Whether other lengths than that of a batch are unknown."""
    return any(None in tuple(leaf.shape)[1:] for leaf in keras.tree.flatten(specs))


def batch_of(specs):
    """The batch size that specs ask for, or `None` if any will do."""
    sizes = {next(iter(tuple(spec.shape)), None) for spec in keras.tree.flatten(specs)}
    return sizes.pop() if len(sizes) == 1 else None


def draws(specs, batch=BATCH):
    """Yields lists of arguments as arrays, worth a try one after the other."""
    leaves = keras.tree.flatten(specs)
    bounds = _BOUNDS if any("int" in dtype_of(leaf) for leaf in leaves) else _BOUNDS[:1]
    for lengths in LENGTHS if is_free(specs) else LENGTHS[:1]:
        for bound in bounds:
            for normal in (True, False):
                rng = np.random.default_rng(0)
                yield keras.tree.map_structure(
                    lambda spec: _drawn(rng, spec, batch, lengths, bound, normal),  # noqa: B023
                    specs,
                )


def tried(compute, arguments):
    """The first arguments that a model takes, and what it computes of them.

    Args:
        compute: Function from a list of arguments to a dict of outputs.
        arguments: Iterable of lists of arguments.
    """
    error, found = None, None
    for args in arguments:
        try:
            expected = compute(args)
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
        raise NotComparable(
            "it takes no inputs that were drawn, pass a batch as `data`: "
            f"{type(error).__name__}: {text}"
        )
    if all(np.all(np.isnan(v)) for v in found[1].values() if v.dtype.kind in "fc"):
        raise NotComparable(
            "its outputs are NaN for all inputs that were drawn; pass a batch as `data`"
        )
    return found


# ---- outputs


def output_name(path):
    """The name of an output, by its path in the structure of all outputs."""
    parts = [f"output_{part}" if isinstance(part, int) else str(part) for part in path]
    return "/".join(parts) or "output_0"


def outputs(result):
    """Dict from the name of an output to its array."""
    flat = keras.tree.flatten_with_path(result)
    return {output_name(path): keras.ops.convert_to_numpy(leaf) for path, leaf in flat}


def difference(actual, expected):
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


def rows(actual, expected):
    """List of `Compared`, one for each output."""
    if actual.keys() != expected.keys():
        raise ValueError(f"It has outputs {list(actual)}, where the model has {list(expected)}.")
    return [Compared(name, *difference(actual[name], wanted)) for name, wanted in expected.items()]


def wrong(rows, tolerance):
    """The rows that differ by more than rounding."""
    return [row for row in rows if row.difference > tolerance * max(row.largest, 1e-6)]


def unlike(what, far, actual, expected, advice):
    """The error for outputs that differ."""
    texts = []
    for row in far:
        shapes = [values[row.path].shape for values in (actual, expected)]
        how = f"by {row.difference:.3g}, where the largest value is {row.largest:.3g}"
        if shapes[0] != shapes[1]:
            how = f"in its shape, {shapes[0]} for {shapes[1]}"
        texts.append(f"{row.path!r} {how}")
    return ValueError(
        f"The exported {what} does not compute what the model does. These outputs "
        f"differ: {'; '.join(texts)}. Nothing was written. {advice}; `verify=False` exports it "
        "nevertheless."
    )


# ---- samples


def are_apart(compute, specs):
    """Whether samples are computed each by itself, tried on drawn inputs; not if none can be drawn.

    What becomes of a sample must not depend on the others, to the last bit but for rounding. That
    of one alone may be rounded in another way, which decides on signs and levels: it is enough that
    one of them stays what it is.

    Args:
        compute: Function from a list of arguments, of any batch size, to a dict of outputs.
        specs: List of structures of specs, one for each argument.
    """
    try:
        args, together = tried(compute, draws(specs, _APART))
    except NotComparable:
        return False

    if any(array.shape[:1] != (_APART,) for array in together.values()):
        return False

    def is_same(place, count):
        some = keras.tree.map_structure(lambda x: x[[place] * count], args)
        at = place % count
        found = {name: array[at : at + 1] for name, array in compute(some).items()}
        wanted = {name: array[place : place + 1] for name, array in together.items()}
        return not wrong(rows(found, wanted), TOLERANCE)

    places = range(_APART)
    beside = all(is_same(place, _APART) for place in places)
    return beside and any(is_same(place, 1) for place in places)
