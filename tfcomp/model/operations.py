"""The operations that a layer makes by itself, found by calling it as a functional model does."""

import contextlib
import threading

import keras

from tfcomp import keras_private
from tfcomp.model.holding import method_of

# Of two threads that call a layer symbolically, neither could forget its own calls alone.
_ALONE = threading.RLock()


def own_operations(layers, call, args, kwargs):
    """Lists the operations of `keras.ops` in the call of a layer; those in its sublayers are not.

    Layers that it makes or finds elsewhere, and that are no sublayers of it, are operations.

    The layer is called on symbolic tensors, on which nothing but `keras.ops` and layers works: what
    a backend's own functions do would not be seen, and raises.

    Args:
        layers: List of the layers of the model; they forget these calls. For outputs of known
            sizes they hold `sizes_of_calls`.
        call: The layer's method.
        args, kwargs: Arguments of the call, with tensors of known shape.

    Returns:
        A list of `(operation, args, kwargs, output)`, or `None` where it cannot be called so.
    """
    try:
        with _ALONE, keras_private.forgetting_calls(layers):
            outputs = call(*_symbolic(args), **_symbolic(kwargs))
            known = {id(layer) for layer in layers}
            return [made for made in _made(outputs) if id(made[0]) not in known]
    except Exception:
        # A layer may do anything in its `call`; what it does is unknown then.
        return None


def sizes_of_calls(layer, wanted):
    """What a layer may hold as its `compute_output_spec`, so that outputs have all their sizes.

    What some layers say of themselves has the sizes alone that were known when they were built;
    their calls know more.

    Args:
        layer: The layer.
        wanted: Function without arguments: whether the call is asked now, or the layer.
    """
    said = method_of(layer, "compute_output_spec")

    def spec(*args, **kwargs):
        if wanted():
            # Some masks have the wrong kind in Keras's symbolic calls.
            with contextlib.suppress(Exception):
                return keras.Operation.compute_output_spec(layer, *args, **kwargs)
        return said(*args, **kwargs)

    return spec


def _symbolic(structure):
    def symbolic(leaf):
        if not keras.ops.is_tensor(leaf):
            return leaf
        return keras.KerasTensor(leaf.shape, keras.backend.standardize_dtype(leaf.dtype))

    return keras.tree.map_structure(symbolic, structure, none_is_leaf=True)


def _made(outputs):
    """Yields operations and layers behind symbolic tensors, with what they are given and make."""
    seen, waiting = set(), symbolic_tensors(outputs)
    while waiting:
        origin = keras_private.origin(waiting.pop())
        if origin is None or origin.key in seen:
            continue
        seen.add(origin.key)
        waiting += symbolic_tensors((origin.args, origin.kwargs))
        yield origin.operation, origin.args, origin.kwargs, origin.output


def symbolic_tensors(structure):
    """List of the symbolic tensors in a structure."""
    leaves = keras.tree.flatten(structure)
    return [leaf for leaf in leaves if isinstance(leaf, keras.KerasTensor)]
