"""Replaces layers of a model by others."""

import functools

import keras

from tfcomp import targets
from tfcomp.keras_private import is_functional
from tfcomp.surgery.carry import carry_weights, convert
from tfcomp.validation import invalid


def swap_layers(model, rules, verbose=False):
    """Returns a model like `model`, with layers replaced as the rules say.

    Layer names, connections, shared layers, nested models and the model's own name stay as they
    are; so do all weights of layers that are kept, and of a new layer those that agree with the old
    one's in name and shape. `model` itself is not changed. If it is compiled, the new model is
    compiled the same way, with a fresh optimizer.

    Args:
        model: A Sequential or functional `keras.Model`, with nested models if need be.
        rules: Dict from rule to replacement. A rule is a layer type (and its subclasses), a layer
            name or path, a regular expression on paths, a layer, a callable `layer -> bool`, or
            `...` for all others; the most precise one wins, as in `tfcomp.targets.find`. A
            replacement is
            a layer class: the new layer gets whatever was set on the old one, and the new class's
                own defaults where the old layer has its class's defaults;
            a `functools.partial` of a class: the same, with some arguments given;
            any other callable: called with the old layer, it returns the new one, or `None` to
                keep it;
            `None`: the layer is kept.
        verbose: Whether to print what became of every layer.

    Returns:
        The new model.

    Raises:
        ValueError: If a rule matches nothing, a layer cannot be turned into the new class, or a
            layer to replace was made inside another layer's code.

    Example:

    >>> import keras, tfcomp
    >>> model = keras.Sequential(
    ...     [
    ...         keras.Input((8, 8, 1)),
    ...         keras.layers.Conv2D(4, 3, padding="same", name="conv"),
    ...         keras.layers.Flatten(),
    ...         keras.layers.Dense(10, name="logits"),
    ...     ]
    ... )
    >>> binary = tfcomp.swap_layers(
    ...     model, {keras.layers.Conv2D: tfcomp.layers.BinaryConv2D, "logits": None}
    ... )
    >>> [type(layer).__name__ for layer in binary.layers]
    ['BinaryConv2D', 'Flatten', 'Dense']
    """
    if not is_functional(model):
        raise ValueError(
            "Invalid value for argument `model`. Expected a Sequential or functional keras.Model. "
            f"Received: {model!r}, whose layers are made and connected by its own code; put the "
            "new layers there, or compress its weights with a callback, which takes any model."
        )
    if not isinstance(rules, dict):
        raise invalid("rules", rules, "a dict from rule to layer class, callable or None")
    swap = _Swap(model, rules)
    swapped = keras.models.clone_model(
        model, clone_function=swap.clone, recursive=any(map(is_functional, model.layers))
    )
    if not swapped.built and model.built:
        swapped.build(model.input_shape)
    _rename_inputs(model, swapped)
    report = swap.carry_weights()
    if verbose:
        _print(swapped.name, report)
    return swapped


class _Swap:
    """The replacements of one model, each made once."""

    def __init__(self, model, rules):
        sites = [
            site
            for site in targets.layer_sites(model)
            if not isinstance(site.layer, keras.layers.InputLayer)
            and not targets.is_part(site.layer)
        ]
        chosen = targets.best_rules(rules, sites, "rules")
        self._clones = {}
        self._pairs = []
        self._new = {}
        inside = set()
        for index, site in enumerate(sites):
            # Outer sites come first; what is inside a layer that goes, goes with it.
            if any(id(layer) in self._new for layer in site.chain[:-1]):
                continue
            new = self._replacement(site.layer, chosen.get(index))
            if new is not None:
                self._new[id(site.layer)] = new
                inside.update(id(layer) for layer in site.chain[:-1] if not is_functional(layer))
        self._inside = inside

    def _replacement(self, layer, value):
        if value is None:
            return None
        cls = value.func if isinstance(value, functools.partial) else value
        if isinstance(cls, type) and issubclass(cls, keras.layers.Layer):
            preset = value.keywords if isinstance(value, functools.partial) else {}
            if getattr(value, "args", ()):
                raise invalid("rules", value, "keyword arguments alone in a functools.partial")
            if type(layer) is cls and not preset:
                return None
            return convert(layer, cls, preset)
        if not callable(value) or isinstance(cls, type):
            raise invalid("rules", value, "a layer class, a callable or None as each value")
        new = value(layer)
        if new is None or new is layer:
            return None
        if not isinstance(new, keras.layers.Layer):
            raise invalid("rules", value, f"a callable that returns a layer, not {new!r}")
        if new.name != layer.name:
            new = type(new).from_config({**new.get_config(), "name": layer.name})
        return new

    def clone(self, layer):
        """The layer's place in the new model; called once for each layer that Keras meets."""
        if id(layer) not in self._clones:
            new = self._new.get(id(layer))
            if new is None:
                new = self._rebuilt(layer) if id(layer) in self._inside else _copy(layer)
            self._clones[id(layer)] = new
            if isinstance(layer, keras.layers.Layer):
                self._pairs.append((layer, new))
        return self._clones[id(layer)]

    def _rebuilt(self, layer):
        """A wrapper around replaced layers, by way of its config."""
        inner = {
            (type(site.layer).__name__, site.layer.name): self._new[id(site.layer)]
            for site in targets.layer_sites(layer)
            if id(site.layer) in self._new
        }
        config = _substitute(layer.get_config(), inner)
        if inner:
            names = ", ".join(repr(name) for _, name in inner)
            raise ValueError(
                f"Layer {names} was made inside the code of {layer.name!r}, a "
                f"{type(layer).__name__}, and cannot be replaced there. Replace {layer.name!r} as "
                f"a whole, or keep what is inside it with the rule {{{layer.name!r}: None}}."
            )
        return type(layer).from_config(config)

    def carry_weights(self):
        """Copies weights; returns a row for each layer: old, new, weights copied and in all."""
        report = []
        for old, new in self._pairs:
            if not is_functional(old):
                report.append((old, new, *carry_weights(old, new)))
        return report


def _copy(layer):
    copy = type(layer).from_config(layer.get_config())
    # Operations such as `x + y` do not keep their name in their config.
    copy.name = layer.name
    return copy


def _rename_inputs(old, new):
    """Gives inputs their layers' names back; Keras names them after their tensors."""
    for a, b in zip(_inputs(old), _inputs(new)):
        b.name = a.name
    for layer in old.layers:
        if is_functional(layer) and is_functional(new.get_layer(layer.name)):
            _rename_inputs(layer, new.get_layer(layer.name))


def _inputs(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.InputLayer)]


def _substitute(config, inner):
    """Replaces serialized layers in a config, and takes them out of `inner`."""
    if isinstance(config, dict):
        nested = config.get("config")
        if isinstance(nested, dict):
            key = (config.get("class_name"), nested.get("name"))
            if key in inner:
                return keras.saving.serialize_keras_object(inner.pop(key))
        return {name: _substitute(value, inner) for name, value in config.items()}
    if isinstance(config, (list, tuple)):
        return type(config)(_substitute(value, inner) for value in config)
    return config


def _print(name, report):
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"Layers of {name}")
    for heading in ("layer", "was", "is", "weights carried over"):
        table.add_column(heading)
    for old, new, copied, count, before in report:
        kept = type(old) is type(new)
        carried = "" if not count and not before else f"{copied} of {count}"
        table.add_row(old.name, type(old).__name__, "" if kept else type(new).__name__, carried)
    Console().print(table)
