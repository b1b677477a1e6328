"""The operations that a layer makes by itself, found by calling it as a functional model does."""

import contextlib
import functools

import keras

from tfcomp import keras_private


def own_operations(layers, call, args, kwargs):
    """Lists the operations of `keras.ops` in the call of a layer; those in its sublayers are not.

    The layer is called on symbolic tensors, on which nothing but `keras.ops` and layers works: what
    a backend's own functions do would not be seen, and raises.

    Args:
        layers: List of all layers that may be called; they forget these calls.
        call: The layer's method.
        args, kwargs: Arguments of the call, with tensors of known shape.

    Returns:
        A list of `(operation, args, kwargs, output)`, or `None` where it cannot be called so.
    """
    try:
        with keras_private.forgetting_calls(layers), _shapes_of_calls(layers):
            outputs = call(*_symbolic(args), **_symbolic(kwargs))
            return list(_made(outputs))
    except Exception:
        # A layer may do anything in its `call`; what it does is unknown then.
        return None


@contextlib.contextmanager
def _shapes_of_calls(layers):
    """Context in which outputs of layers have all sizes that their calls give them.

    What some say of themselves has the sizes alone that were known when they were built.
    """
    for layer in layers:
        spec = functools.partial(keras.Operation.compute_output_spec, layer)
        # Not by `setattr`, which tracks what a layer is given.
        object.__setattr__(layer, "compute_output_spec", spec)
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "compute_output_spec")


def _symbolic(structure):
    def symbolic(leaf):
        if not keras.ops.is_tensor(leaf):
            return leaf
        return keras.KerasTensor(leaf.shape, keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(symbolic, structure, none_is_leaf=True)


def _made(outputs):
    """Yields the operations behind symbolic tensors, without the layers among them."""
    seen, waiting = set(), _tensors(outputs)
    while waiting:
        origin = keras_private.origin(waiting.pop())
        if origin is None or origin.key in seen:
            continue
        seen.add(origin.key)
        waiting += _tensors((origin.args, origin.kwargs))
        if not isinstance(origin.operation, keras.layers.Layer):
            yield origin.operation, origin.args, origin.kwargs, origin.output


def _tensors(structure):
    leaves = keras.tree.flatten(structure)
    return [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]
