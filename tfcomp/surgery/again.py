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
        pending = [(place, _unbuilt(inner)) for place, inner in record["layers"]]
        pending = _replace(layer, pending)
        _extend(layer, *(place for place, _ in record["layers"]))
        if pending:
            _replace_when_built(layer, pending)
        return layer


def _unbuilt(config):
    """The layer of a config, to be built by the code that built the one in its place."""
    config = {name: value for name, value in config.items() if name != "build_config"}
    return keras.saving.deserialize_keras_object(config)


def _replace(layer, pending):
    """Puts layers where there are some to replace; returns those whose places are still empty."""
    left = []
    for place, new in pending:
        old = places.at(layer, place)
        if isinstance(old, keras.layers.Layer):
            build_like(new, old)
            places.put_everywhere(layer, old, new)
        else:
            left.append((place, new))
    return left


def _replace_when_built(layer, pending):
    build = layer.build

    @functools.wraps(build)
    def build_and_replace(*args, **kwargs):
        build(*args, **kwargs)
        left = _replace(layer, pending)
        pending.clear()
        if left:
            raise ValueError(
                f"Layer {layer.name!r}, a {type(layer).__name__}, has no layer at "
                f"{[place for place, _ in left]}, where one was replaced when it was saved."
            )

    layer.build = build_and_replace


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
    """Makes layers remember those that were put inside them, where their configs do not.

    Each remembers what it holds itself, from the inside out, so that each finds it again as soon as
    it is made: what a layer makes when it is built, once that layer is built.

    Args:
        root: A layer or model.
        inside: The layers that were put somewhere inside it.
    """
    for layer in inside:
        for holder, place in reversed(places.way(root, layer)):
            _remember(holder, place)


def _remember(holder, place):
    if keras_private.is_remade_from_layers(holder):
        # Its config is that of its layers.
        return
    try:
        config = holder.get_config()
    except NotImplementedError:
        # It cannot be saved with its code, so there is nothing to remember them in.
        return
    if not _describes(config, places.at(holder, place)):
        _extend(holder, place)
