"""Runs two models on the same inputs: layers that were kept must compute the same."""

import contextlib

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.model.holding import holding, method_of

# Axes of unknown size are tried with these; most networks take one of them.
_SIZES = (16, 64, 224)
# Largest difference, as a part of the largest output, by bytes of a float.
_TOLERANCE = {2: 1e-2, 4: 1e-5, 8: 1e-12}


def random_inputs(model):
    """Lists of arguments that a built model may take, none where nothing is known of its inputs."""
    try:
        specs = keras_private.input_signature(model)
        unknown = any(None in spec.shape[1:] for spec in keras.tree.flatten(specs))
        return [_tensors(specs, size) for size in (_SIZES if unknown else _SIZES[:1])]
    except Exception:
        # It was never called, or takes what this backend has no tensors of.
        return []


def _tensors(specs, size):
    random = np.random.default_rng(0)
    return keras.tree.map_structure(lambda spec: _tensor(spec, size, random), specs)


def _tensor(spec, size, random):
    shape = [size if axis is None else axis for axis in spec.shape]
    if spec.shape[:1] == (None,):
        shape[0] = 2
    dtype = keras.backend.standardize_dtype(spec.dtype or keras.config.floatx())
    if dtype == "string":
        return keras.ops.convert_to_tensor(random.choice(["a", "b", ""], shape), dtype)
    if "float" in dtype:
        return keras.ops.convert_to_tensor(random.normal(size=shape), dtype)
    # Words, classes and flags: small numbers are valid everywhere.
    return keras.ops.convert_to_tensor(random.integers(0, 2, shape), dtype)


def _arrays(outputs):
    """Numbers among a layer's outputs, or `None` where there is nothing to compare yet."""
    found = []
    for leaf in keras.tree.flatten(outputs):
        if leaf is None or not hasattr(leaf, "shape"):
            continue
        try:
            array = np.asarray(keras.ops.convert_to_numpy(leaf))
        except Exception:
            # Traced by a loop, ragged or sparse.
            return None
        found.append(array)
    return found


def _differ(ours, theirs):
    """Largest difference of two lists of arrays, and the largest value, or `None` if equal."""
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            return f"a shape of {b.shape} instead of {a.shape}"
        if a.dtype.kind not in "fV" and not str(a.dtype).startswith(("bfloat", "float8")):
            if not np.array_equal(a, b):
                return "other values"
            continue
        tolerance = _TOLERANCE.get(a.dtype.itemsize, 0.1)
        a, b = a.astype("float64"), b.astype("float64")
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        gap = np.max(np.abs(a - b)[~same], initial=0.0)
        largest = np.max(np.abs(a), initial=0.0, where=np.isfinite(a))
        if not gap <= tolerance * largest:
            return f"a difference of {gap:.3g} where the largest output is {largest:.3g}"
    return None


def _calls(layer, see):
    """Context in which `see(name, args, kwargs, outputs)` is told of every call of a layer."""

    def seen(name, call):
        def wrapped(*args, **kwargs):
            outputs = call(*args, **kwargs)
            see(name, args, kwargs, outputs)
            return outputs

        return wrapped

    names = ("call", "quantized_call")
    return holding(layer, **{name: seen(name, method_of(layer, name)) for name in names})


def _run(model, data):
    options = {"training": False} if "training" in model.call_signature_parameters else {}
    # Nothing that a call assigns, a seed or a state, stays assigned.
    with keras.StatelessScope():
        model(*data, **options)


def first_taken(model, batches):
    """The first of some lists of arguments that a model takes, or `None`."""
    for batch in batches:
        try:
            _run(model, batch)
        except Exception:
            # A model may do anything with its inputs; those were guesses.
            continue
        return batch
    return None


def _comparing(old, new, wrong):
    def see(name, args, kwargs, outputs):
        theirs = None if wrong else _arrays(outputs)
        if theirs is None:
            return
        found = _differ(theirs, _arrays(getattr(new, name)(*args, **kwargs)))
        # Unless it differs from itself, being random.
        if found and not _differ(theirs, _arrays(getattr(type(old), name)(old, *args, **kwargs))):
            wrong.append((old, found))

    return see


def check_kept(model, pairs, batches):
    """Raises unless layers that were kept compute what they did.

    Args:
        model: The old model.
        pairs: Pairs of a layer in it and of the same one in the new model.
        batches: Lists of the model's arguments to try.

    Returns:
        The batch that the model took, or `None`.

    Raises:
        ValueError: Naming the first layer that differs.
    """
    batch, wrong = first_taken(model, batches), []
    if batch is None:
        return None
    with contextlib.ExitStack() as stack:
        for old, new in pairs:
            stack.enter_context(_calls(old, _comparing(old, new, wrong)))
        _run(model, batch)
    for layer, found in wrong:
        raise ValueError(
            f"Layer {layer.name!r}, a {type(layer).__name__}, which no rule covers, does not "
            f"compute the same in the new model: {found}. It holds something that is in neither "
            "its config, nor its variables, nor what it saves by `save_own_variables` or "
            "`save_assets`. Let it save that, or pass `verify=False` if it may differ."
        )
    return batch


def check_gone(model, layers, batch):
    """Raises if a model still calls layers that were replaced in it."""
    called = []
    with contextlib.ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_calls(layer, lambda *_, layer=layer: called.append(layer)))
        _run(model, batch)
    if called:
        raise ValueError(
            f"Layer {called[0].name!r} cannot be replaced in {model.name!r}: some code holds it "
            "where it cannot be reached, and goes on calling it. Hold layers as attributes, in "
            "lists, tuples or dicts; or keep it with the rule "
            f"{{{called[0].name!r}: None}}."
        )
