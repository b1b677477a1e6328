"""Which weights belong to one neuron: what feeds it, and what it feeds."""

from typing import NamedTuple

import keras
import numpy as np

from tfcomp import keras_private, targets

_CARRIERS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
# Layers that hand on every channel by itself.
_CHANNELWISE = (
    keras.layers.Activation,
    keras.layers.BatchNormalization,
    keras.layers.Dropout,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
    keras.layers.AveragePooling1D,
    keras.layers.AveragePooling2D,
    keras.layers.AveragePooling3D,
    keras.layers.GlobalAveragePooling1D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling1D,
    keras.layers.GlobalMaxPooling2D,
    keras.layers.MaxPooling1D,
    keras.layers.MaxPooling2D,
    keras.layers.MaxPooling3D,
)


class Link(NamedTuple):
    """A layer and all the layers that its neurons feed.

    Attributes:
        producer: The layer that makes the neurons: the last axis of its kernel.
        consumers: The layers that take them: the second last axis of their kernels, in which a
            `Flatten` between the two repeats the neurons as often as there are positions.
    """

    producer: object
    consumers: tuple


def following(layer, within):
    """The operations of a model that a layer's output goes to; other models may share the layer."""
    operations = keras_private.following(layer)
    return [operation for operation in operations if id(operation) in within]


def consumers(layer, within):
    """Lists the layers with weights that a layer's channels reach; `None` if they mix on the way.

    Args:
        layer: A layer of a functional or sequential model.
        within: Set of ids of the layers of the model.
    """
    found = []
    for operation in following(layer, within):
        if isinstance(operation, _CARRIERS):
            if getattr(operation, "groups", 1) != 1:
                return None
            found.append(operation)
        elif isinstance(operation, (*_CHANNELWISE, keras.layers.Flatten)):
            behind = consumers(operation, within)
            if behind is None:
                return None
            found += behind
        else:
            return None
    return found


def links(model):
    """Lists the `Link`s of a model that can be seen; those of subclassed code cannot.

    Args:
        model: A built `keras.Model`.
    """
    inner = [site.layer for site in targets.layer_sites(model)]
    models = [model, *(layer for layer in inner if isinstance(layer, keras.Model))]
    return [link for part in models for link in _links(part)]


def _links(model):
    if not getattr(model, "outputs", None):
        return []
    layers = keras_private.sublayers(model)
    within = {id(layer) for layer in layers}
    ends = {id(keras_private.producer(tensor)) for tensor in model.outputs}
    found = []
    for layer in layers:
        if not isinstance(layer, _CARRIERS) or getattr(layer, "groups", 1) != 1:
            continue
        if getattr(layer, "data_format", "channels_last") != "channels_last":
            continue
        behind = consumers(layer, within)
        units = layer.kernel.shape[-1]
        fits = behind and all(after.kernel.shape[-2] % units == 0 for after in behind)
        if fits and not _reaches(layer, ends, within):
            found.append(Link(layer, tuple(behind)))
    return found


def _reaches(layer, ends, within):
    """Whether a layer's channels leave the model without passing through weights."""
    if id(layer) in ends:
        return True
    through = [op for op in following(layer, within) if not isinstance(op, _CARRIERS)]
    return any(_reaches(op, ends, within) for op in through)


def drop_dead(links, masks):
    """Takes the other weights of neurons without inputs or without outputs out of masks.

    Args:
        links: List of `Link`.
        masks: Dict from id of layer to the boolean mask of its kernel; layers not in it count as
            alive.

    Returns:
        The same dict with the masks that changed in place of the old ones.
    """
    masks = dict(masks)
    changed = True
    while changed:
        changed = False
        for producer, behind in links:
            if not any(id(layer) in masks for layer in (producer, *behind)):
                continue
            units = producer.kernel.shape[-1]
            alive = np.ones(units, bool)
            if id(producer) in masks:
                made = masks[id(producer)]
                alive = made.reshape(-1, units).any(axis=0)
            used = np.zeros(units, bool)
            for layer in behind:
                used |= _rows(masks.get(id(layer)), units)
            live = alive & used
            if id(producer) in masks:
                changed |= _cut(masks, producer, masks[id(producer)] & live)
            for layer in behind:
                if id(layer) in masks:
                    repeats = layer.kernel.shape[-2] // units
                    rows = np.tile(live, repeats)[:, None]
                    changed |= _cut(masks, layer, masks[id(layer)] & rows)
    return masks


def _rows(mask, units):
    """Which neurons a kernel has a connection from."""
    if mask is None:
        return np.ones(units, bool)
    inputs = mask.any(axis=-1).reshape(-1, mask.shape[-2]).any(axis=0)
    return inputs.reshape(-1, units).any(axis=0)


def _cut(masks, layer, mask):
    if not mask.any() or np.array_equal(mask, masks[id(layer)]):
        return False
    masks[id(layer)] = mask
    return True
