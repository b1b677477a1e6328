"""Layers that remember what was replaced inside them.

The projections of `MultiHeadAttention`, or what a model makes in its constructor, are in no config:
made anew, they are what they were at first. So a layer or model in which some were replaced gets
a class of its own, a subclass of the one it had, whose config lists them too, and which replaces
them again when it is made from its config: by `keras.models.load_model`, `tfcomp.load`,
`clone_model` and whatever else reads configs.
"""

import contextlib
import functools

import keras

from tfcomp import keras_private
from tfcomp.surgery import places

_KEY = "replaced_layers"


def build_like(new, old):
    """Builds a layer on the shapes another was built on, with variables named as there."""
    if old.built and not new.built:
        keras_private.name_like(new, old)
        new.build_from_config(old.get_build_config())


class _Remembers:
    """What a layer's class is extended by."""

    def get_config(self):
        with _as_it_was(self):
            whole = keras.saving.serialize_keras_object(self)
        layers = [
            [place, keras.saving.serialize_keras_object(places.at(self, place))]
            for place in self._replaced_places
        ]
        of = {key: whole[key] for key in ("module", "class_name", "registered_name")}
        return {**whole["config"], _KEY: {"of": of, "layers": layers}}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        record = config.pop(_KEY)
        layer = keras.saving.deserialize_keras_object({**record["of"], "config": config})
        for place, inner in record["layers"]:
            _replace(layer, place, _unbuilt(inner))
        _extend(layer, *(place for place, _ in record["layers"]))
        return layer


def _unbuilt(config):
    """The layer of a config, to be built by the code that built the one in its place."""
    config = {name: value for name, value in config.items() if name != "build_config"}
    inner = config["config"]
    if "build_input_shape" in inner:
        # A Sequential model knows its inputs twice.
        layers = [each for each in inner["layers"] if each["class_name"] != "InputLayer"]
        config["config"] = {**inner, "layers": layers, "build_input_shape": None}
    return keras.saving.deserialize_keras_object(config)


def _replace(root, place, new):
    """Puts a layer at a place, at once or as soon as what is on the way to it has been made."""
    old = places.at(root, place)
    if isinstance(old, keras.layers.Layer):
        build_like(new, old)
        places.put_everywhere(root, old, new)
        return
    for length in range(len(place) - 1, -1, -1):
        holder = places.at(root, place[:length])
        if isinstance(holder, keras.layers.Layer):
            break
    if holder.built:
        raise ValueError(
            f"Layer {holder.name!r}, a {type(holder).__name__}, has no {place[length]!r}, where "
            f"{new.name!r} was put before it was saved. Its code has changed since."
        )
    _when_built(holder, lambda: _replace(root, place, new))


def _when_built(layer, then):
    build = layer.build

    @functools.wraps(build)
    def build_and_more(*args, **kwargs):
        build(*args, **kwargs)
        then()

    layer.build = build_and_more


@functools.cache
def _extended(cls):
    name = cls.__name__
    extended = type(name, (_Remembers, cls), {"__module__": __name__, "__doc__": cls.__doc__})
    # All under one name: any of them makes a layer of the class that its config says.
    return keras.saving.register_keras_serializable("tfcomp", "Replaced")(extended)


_extended(keras.layers.Layer)


@contextlib.contextmanager
def _as_it_was(layer):
    """Context in which a layer has the class it was of."""
    extended = type(layer)
    layer.__class__ = extended.__mro__[2]
    try:
        yield
    finally:
        layer.__class__ = extended


def _extend(layer, *where):
    if not isinstance(layer, _Remembers):
        layer.__class__ = _extended(type(layer))
        object.__setattr__(layer, "_replaced_places", [])
    layer._replaced_places.extend(place for place in where if place not in layer._replaced_places)


def class_of(layer):
    """The class of a layer, also where it remembers what was replaced inside it."""
    return type(layer).__mro__[2] if isinstance(layer, _Remembers) else type(layer)


def _describes(config, layer):
    """Whether a config has a layer of this class and name in it."""
    if isinstance(config, dict):
        inner = config.get("config")
        named = isinstance(inner, dict) and inner.get("name") == layer.name
        if named and config.get("class_name") == type(layer).__name__:
            return True
        return any(_describes(value, layer) for value in config.values())
    return isinstance(config, (list, tuple)) and any(_describes(value, layer) for value in config)


def remember(root, inside):
    """Makes a layer remember those that were put inside it, where its config has them not.

    Args:
        root: A layer or model with code of its own.
        inside: The layers that were put somewhere inside it.
    """
    try:
        config = root.get_config()
    except Exception:
        # It cannot be saved, so there is nothing to remember them in.
        return
    unknown = [layer for layer in inside if not _describes(config, layer)]
    ways = {id(layer): way for way, layer in places.ways(root)}
    if unknown:
        _extend(root, *(ways[id(layer)] for layer in unknown))
