"""The endpoints of a SavedModel: what they compute, and of what."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfcomp import keras_private
from tfcomp.exporters.compared import ENDPOINT
from tfcomp.exporters.trace import Inference
from tfcomp.validation import invalid

# TensorFlow's loaders and servers look for this one when they are told no other.
DEFAULT = "serving_default"
_SPECS = (tf.TypeSpec, keras.InputSpec, keras.KerasTensor)


class Endpoint(NamedTuple):
    """A function to export.

    Attributes:
        name: Name of the signature, and of the attribute of the loaded object.
        call: What computes it for inference, from as many arguments as there are `specs`.
        specs: List of structures of `tf.TensorSpec`, one for each argument.
        traced: What computes it where it is traced. A `tf.function` would show an older trace.
        python: `inspect.Signature` whose names its arguments get, or `None`.
    """

    name: str
    call: Callable
    specs: list
    traced: Callable
    python: Any = None


def input_specs(model, input_signature=None):
    """Returns a list of structures of `tf.TensorSpec`, one for each positional argument.

    Args:
        model: A built `keras.Model`.
        input_signature: What the user gave, or `None` for the model's own inputs with any batch
            size.
    """
    if input_signature is None:
        input_signature = keras_private.input_signature(model)
    elif not isinstance(input_signature, (list, tuple)):
        input_signature = [input_signature]

    def spec(leaf):
        if isinstance(leaf, (tf.TensorSpec, keras.InputSpec, keras.KerasTensor)):
            return keras_private.tensor_spec(leaf)
        return leaf

    return [keras.tree.map_structure(spec, argument) for argument in input_signature]


def _of_model(name, model, specs):
    # Layers whose default is to train, such as those that augment images, infer as well.
    call = functools.partial(model, training=False)
    return Endpoint(name, call, specs, call)


def _of_function(name, function):
    if function.input_signature is None:
        expected = "a `tf.function` with an `input_signature`"
        raise invalid(f"signatures[{name!r}]", function, expected)
    python = function.python_function

    def traced(*args):
        return Inference.of(keras_private.retraced(function))(*args)

    return Endpoint(
        name,
        Inference.of(python),
        list(function.input_signature),
        traced,
        inspect.signature(python),
    )


def _endpoint(name, model, given):
    if isinstance(given, tf.types.experimental.PolymorphicFunction):
        return _of_function(name, given)
    leaves = keras.tree.flatten(given)
    if not leaves or not all(isinstance(leaf, _SPECS) for leaf in leaves):
        expected = "a `tf.function`, or a structure of `keras.InputSpec` or `tf.TensorSpec`"
        raise invalid(f"signatures[{name!r}]", given, expected)
    return _of_model(name, model, input_specs(model, given))


def endpoints(model, input_signature=None, signatures=None):
    """Lists the `Endpoint` objects of an export, the one for `serving_default` first.

    Args:
        model: A built `keras.Model`.
        input_signature: Inputs of the model's forward pass; see `input_specs`.
        signatures: Optional dict from names to `tf.function` objects, or to inputs of the model's
            forward pass.
    """
    if signatures is not None and not isinstance(signatures, dict):
        raise invalid("signatures", signatures, "a dict from names to functions or inputs")
    found = {}
    for name, given in (signatures or {}).items():
        if not isinstance(name, str) or not name or hasattr(tf.Module, name):
            raise invalid("signatures", name, "names that are no attributes of a tf.Module")
        found[name] = _endpoint(name, model, given)
    if ENDPOINT not in found:
        specs = input_specs(model, input_signature)
        found = {ENDPOINT: _of_model(ENDPOINT, model, specs), **found}
    elif input_signature is not None:
        raise invalid("input_signature", input_signature, f"None where {ENDPOINT!r} is given")
    return list(found.values())
