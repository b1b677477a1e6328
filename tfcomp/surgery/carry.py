"""Carries configuration and weights from one layer over to another of a different class."""

import keras

from tfcomp import targets
from tfcomp.layers.base.arguments import constructor_parameters
from tfcomp.surgery import state

# What is a layer's own rather than its class's.
_OWN = ("name", "trainable", "dtype")


def _parameters(cls):
    """Constructor parameters of a class, by name."""
    return {
        p.name: p
        for p in constructor_parameters(cls)
        if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    }


def _required(cls):
    return [name for name, p in _parameters(cls).items() if p.default is p.empty]


def chosen_config(layer):
    """The part of a layer's config that its user chose: what differs from the class's defaults."""
    config = state.own_config(layer)
    required = {name: config[name] for name in _required(type(layer)) if name in config}
    defaults = type(layer).from_config(dict(required)).get_config()
    return {
        name: value
        for name, value in config.items()
        if name in required or name in _OWN or value != defaults.get(name, value)
    }


def convert(layer, cls, preset):
    """Makes a layer of another class that is set up like `layer`.

    Args:
        layer: A Keras layer.
        cls: The new layer's class.
        preset: Dict of constructor arguments that take precedence.

    Raises:
        ValueError: If the layer has a setting that the new class does not take.
    """
    config = chosen_config(layer)
    accepted = set(_parameters(cls)) | {*_OWN, "activity_regularizer"}
    lost = {name: value for name, value in config.items() if name not in accepted}
    if lost:
        raise ValueError(
            f"Layer {layer.name!r} cannot become a {cls.__name__}, which does not take "
            f"{lost}. Give a function from the old layer to the new one as the rule's value, or "
            "`None` to keep the layer."
        )
    missing = [n for n in _required(cls) if n not in config and n not in preset]
    if missing:
        raise ValueError(
            f"Layer {layer.name!r}, a {type(layer).__name__}, cannot become a {cls.__name__}: it "
            f"has no {missing}. Give them by functools.partial({cls.__name__}, ...), or `None` to "
            "keep the layer."
        )
    return cls.from_config({**config, **preset})


def carry_weights(old, new):
    """Copies the weights that both layers have, by path inside the layer and by shape.

    What only the new layer has and can `fit_to_weight`, as trained scales can, begins at the best
    values for the weights that it is given.
    Where the old layer has LoRA, the new one gets the sum of its weight and the low-rank product.

    Returns:
        The numbers of weights copied, of those in `new`, and of those in `old`.
    """
    old_sites, sites = targets.variable_sites(old), targets.variable_sites(new)
    values = {site.path: site.variable.value for site in old_sites}
    if not getattr(new, "lora_enabled", False):
        values.update(_merged(old_sites))
    copied, fitted = 0, []
    for site in sites:
        source = values.get(site.path)
        if source is not None and tuple(source.shape) == tuple(site.variable.shape):
            site.variable.assign(keras.ops.convert_to_numpy(source))
            copied += 1
        elif hasattr(site.layer, "fit_to_weight"):
            fitted.append(site.layer)
    for part in fitted:
        part.fit_to_weight()
    return copied, len(sites), len(values)


def _merged(sites):
    """Dict from path to the value of a weight that LoRA adds to."""
    return {
        site.path: getattr(site.layer, site.variable.name)
        for site in sites
        if getattr(site.layer, "lora_enabled", False)
        and site.variable.name in ("kernel", "embeddings")
    }
