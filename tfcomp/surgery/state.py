"""Copies of layers, with everything they hold."""

import contextlib
import copy
import tempfile
import types

import keras
import numpy as np

from tfcomp import keras_private, targets
from tfcomp.surgery import again, places

# What tells where a layer stands and how far it is made, which a copy has of its own.
_PLACE = {"name", "built", "_called", "_lock", "_path", "_parent_path", "_trainable"}


def cannot(layer, why, error=None):
    """The error for a layer that stands in the way of a copy of the model."""
    reason = f" ({type(error).__name__}: {error})" if error is not None else ""
    return ValueError(
        f"Layer {layer.name!r}, a {type(layer).__name__}, cannot be copied: {why}{reason}"
    )


def _given(layer):
    """A layer, the layers in it, and the functions, regularizers and so on they were given."""
    for part in places.holders(layer):
        yield part
        yield from (value for _, value in places.attributes(part))


@contextlib.contextmanager
def knowing(layer):
    """Context in which the config of a living layer is read.

    A config names functions and classes; a user's own are found by name only where they are
    registered, and need not be while they are at hand.
    """
    known = {}
    for value in _given(layer):
        thing = value if isinstance(value, types.FunctionType) else again.class_of(value)
        if (getattr(thing, "__module__", None) or "").split(".")[0] not in ("keras", "builtins"):
            known.setdefault(thing.__name__, thing)
    with keras.saving.custom_object_scope(known), keras_private.trusting():
        yield


def remade(layer):
    """A layer made as another was, without its weights.

    Raises:
        ValueError: If it can be made neither from its config nor from what it was called with; the
            message names the layer.
    """
    errors = []
    with knowing(layer):
        for make in _WAYS:
            try:
                new = make(layer)
            except Exception as error:
                errors.append(error)
            else:
                new.name = layer.name
                return new
    why = "its class does not take its own config"
    raise cannot(layer, why, errors[0]) from errors[0]


def _from_config(layer):
    return type(layer).from_config(layer.get_config())


def _from_own_config(layer):
    """For classes that put what they were given into their config as it is, or read no lambdas."""
    config = own_config(layer)
    for name, value in places.attributes(layer):
        if name in config and isinstance(value, keras.layers.Layer):
            config[name] = remade(value)
    return again.class_of(layer)(**config)


def _from_arguments(layer):
    """For classes whose config is wrong."""
    return again.class_of(layer)(**keras_private.constructor_arguments(layer))


_WAYS = (_from_config, _from_own_config, _from_arguments)


def own_config(layer):
    """The config of a layer, with the lambdas it was given themselves.

    As code they have lost the names they use, and not all classes read them.
    """
    given = {
        name: value
        for name, value in places.attributes(layer)
        if isinstance(value, types.FunctionType) and value.__name__ == "<lambda>"
    }
    config = layer.get_config()
    return {name: given.get(name, value) for name, value in config.items()}


_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.ndarray, np.generic)


def _copy_plain(old, new):
    """Copies numbers, strings and arrays that were set on a layer after it was made."""
    for name, value in places.attributes(old):
        if name not in _PLACE and type(value) in _PLAIN:
            made = vars(new).get(name, _copy_plain)
            if type(made) is not type(value) or not np.array_equal(made, value):
                setattr(new, name, copy.copy(value))


def _copy_tensors(old, new):
    """Copies tensors that were computed once, maybe from other weights than those of today.

    `Normalization` computes with the means it had before its weights were set.
    """
    for name, value in places.attributes(old):
        made = vars(new).get(name)
        held = keras.ops.is_tensor(value) and not isinstance(value, keras.Variable)
        if held and type(made) is type(value) and made is not value:
            setattr(new, name, keras.ops.copy(value))


def copy_settings(old, new):
    """Copies what a layer needs before it is called: its Python functions, its vocabulary.

    The shape of an output may depend on a vocabulary. Functions that were in a config as code have
    lost the names they use.
    """
    for name, value in places.attributes(old):
        made = vars(new).get(name)
        functions = isinstance(value, types.FunctionType) and isinstance(made, types.FunctionType)
        if functions and value is not made and value.__qualname__ == made.__qualname__:
            setattr(new, name, value)
    vocabulary = list(old.get_vocabulary()) if hasattr(old, "set_vocabulary") else []
    if vocabulary and vocabulary != list(new.get_vocabulary()):
        weights = getattr(old, "idf_weights_const", None)
        # Padded to the largest vocabulary there may be.
        known = {} if weights is None else {"idf_weights": weights.numpy()[: len(vocabulary)]}
        new.set_vocabulary(vocabulary, **known)


def matched(old, new):
    """Pairs of the direct sublayers of a layer and of its copy."""
    olds = keras_private.sublayers(old)
    news = _by_name(olds, keras_private.sublayers(new))
    if len(olds) != len(news):
        raise cannot(old, f"it holds {len(olds)} layers, one made of its config {len(news)}")
    return list(zip(olds, news))


def _load_own(old, new):
    """What layers save and load by code of their own, as in a `.keras` file."""
    if type(old).load_own_variables is not keras.layers.Layer.load_own_variables:
        store = {}
        old.save_own_variables(store)
        values = {name: keras.ops.convert_to_numpy(value) for name, value in store.items()}
        new.load_own_variables(values)
    if hasattr(old, "save_assets") and not hasattr(old, "set_vocabulary"):
        with tempfile.TemporaryDirectory() as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def _by_name(objects, others):
    """`others` in the order of `objects`, where names tell which is which; else as they are.

    Names need not be unique, nor are they always given. The order may depend on when a layer got
    what it has: before or after it was built.
    """
    names = [item.name for item in objects]
    found = {item.name: item for item in others}
    if len(set(names)) == len(names) == len(others) and set(names) == set(found):
        return [found[name] for name in names]
    return others


def _copy_variables(old, new):
    """Copies variables by their place in the layer."""
    olds = targets.own_variables(old)
    news = _by_name(olds, targets.own_variables(new))
    shapes = [[(tuple(v.shape), v.dtype) for v in each] for each in (olds, news)]
    if shapes[0] != shapes[1]:
        raise cannot(
            old, f"its variables are {shapes[0]}, those of one made of its config {shapes[1]}"
        )
    for variable, made in zip(olds, news):
        # Through numpy: where arrays are immutable two models would share them, until a compiled
        # step donates one.
        made.assign(keras.ops.convert_to_numpy(variable.value))
        if made.trainable != variable.trainable:
            made.trainable = variable.trainable
    # Keras does not list the states of recurrent layers among their variables.
    listed = {id(variable) for variable in olds}
    for place, variable in places.within(old, keras.Variable):
        if id(variable) not in listed:
            made = places.at(new, place)
            if not isinstance(made, keras.Variable) or made.shape != variable.shape:
                raise cannot(old, f"one made of its config has no such variable at {place}")
            made.assign(keras.ops.convert_to_numpy(variable.value))


def copy_state(old, new):
    """Copies what a layer itself holds to one made of its config; both are of one class."""
    if type(old) is not type(new):
        raise cannot(old, f"one made of its config is a {type(new).__name__}")
    if old.built and not new.built:
        new.build_from_config(old.get_build_config())
    keras_private.set_own_trainable(new, old.trainable)
    if not old.built:
        return
    _copy_plain(old, new)
    if not isinstance(old, keras.Model):
        try:
            _load_own(old, new)
        except Exception as error:
            raise cannot(old, "it does not load what it saves", error) from error
    _copy_variables(old, new)
    _copy_tensors(old, new)
