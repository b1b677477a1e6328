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
        paths: For each consumer, the layers between the producer and it.
    """

    producer: object
    consumers: tuple
    paths: tuple


def following(layer, within):
    """The operations of a model that a layer's output goes to; other models may share the layer."""
    return [operation for operation in keras_private.following(layer) if id(operation) in within]


def consumers(layer, within, path=()):
    """Lists the layers with weights that a layer's channels reach; `None` if they mix on the way.

    Args:
        layer: A layer of a functional or sequential model.
        within: Set of ids of the layers of the model.
        path: The layers gone through so far.

    Returns:
        List of pairs of a layer and the layers between the two.
    """
    found = []
    for operation in following(layer, within):
        if isinstance(operation, _CARRIERS):
            if getattr(operation, "groups", 1) != 1:
                return None
            found.append((operation, path))
        elif isinstance(operation, (*_CHANNELWISE, keras.layers.Flatten)):
            behind = consumers(operation, within, (*path, operation))
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
        fits = behind and all(after.kernel.shape[-2] % units == 0 for after, _ in behind)
        if fits and not _reaches(layer, ends, within):
            found.append(Link(layer, *zip(*behind)))
    return found


def _reaches(layer, ends, within):
    """Whether a layer's channels leave the model without passing through weights."""
    if id(layer) in ends:
        return True
    through = [op for op in following(layer, within) if not isinstance(op, _CARRIERS)]
    return any(_reaches(op, ends, within) for op in through)


def drop_dead(links, masks, biases):
    """Takes the other weights of neurons without inputs or without outputs out of masks.

    A neuron without inputs has a constant output, that of its bias. Where the constant is not zero
    it is added to the biases of the layers behind, so that the model computes what it did; where
    that cannot be done the neuron stays.

    Args:
        links: List of `Link`.
        masks: Dict from id of layer to the boolean mask of its kernel; layers not in it count as
            alive.
        biases: Dict from id of layer to its bias, a numpy array, of layers that have one.

    Returns:
        The two dicts with the arrays that changed in place of the old ones.
    """
    masks, biases = dict(masks), dict(biases)
    while sum(_drop(link, masks, biases) for link in links):
        pass
    return masks, biases


def _drop(link, masks, biases):
    """Does it for one link; returns whether a mask has changed."""
    producer = link.producer
    if not any(id(layer) in masks for layer in (producer, *link.consumers)):
        return False
    units = producer.kernel.shape[-1]
    made = masks.get(id(producer))
    alive = np.ones(units, bool) if made is None else made.reshape(-1, units).any(axis=0)
    rows = [_rows(masks.get(id(layer)), units) for layer in link.consumers]
    used = np.any(rows, axis=0)
    dead = _silent(link, ~alive & used, masks, biases)
    changed = made is not None and _cut(masks, producer, made & (used & ~dead))
    for layer in link.consumers:
        if id(layer) in masks and dead.any():
            changed |= _cut(masks, layer, _without(layer, dead, masks))
    return changed


def _without(layer, neurons, masks):
    """The mask of a layer without its connections from some neurons."""
    repeats = layer.kernel.shape[-2] // len(neurons)
    return masks[id(layer)] & ~np.tile(neurons, repeats)[:, None]


def _empties(layer, neurons, masks):
    return id(layer) in masks and not _without(layer, neurons, masks).any()


def _silent(link, constant, masks, biases):
    """Which of the neurons of constant output can go; what they give is added to biases."""
    if not constant.any() or any(_empties(layer, constant, masks) for layer in link.consumers):
        return np.zeros_like(constant)
    folded = {}
    for layer, path in zip(link.consumers, link.paths):
        value = _arriving(link.producer, path, biases) * constant
        if not value.any():
            continue
        if id(layer) not in biases or not _folds(layer) or id(layer) not in masks:
            constant = constant & (value == 0)
            continue
        folded[id(layer)] = layer, value
    for key, (layer, value) in folded.items():
        kernel = keras.ops.convert_to_numpy(keras_private.stored_kernel(layer)) * masks[key]
        sums = kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0)
        repeated = np.tile(value * constant, sums.shape[0] // len(value))
        biases[key] = biases[key] + repeated @ sums
    return constant


def _arriving(producer, path, biases):
    """What the layers behind get of neurons whose inputs are zero."""
    units = producer.kernel.shape[-1]
    value = biases.get(id(producer), np.zeros(units, "float32"))
    rank = len(producer.kernel.shape) - 2
    value = keras.ops.convert_to_tensor(value.reshape(1, *[1] * rank, units))
    value = value if producer.activation is None else producer.activation(value)
    for layer in path:
        # Pooling, and flattening, hand on a constant as it is.
        if "Pooling" not in type(layer).__name__ and not isinstance(layer, keras.layers.Flatten):
            value = layer(value, training=False)
    return keras.ops.convert_to_numpy(value).reshape(units).astype("float32")


def _folds(layer):
    """Whether a constant input of a layer is the same as another bias: nothing is padded."""
    return type(layer) in _CARRIERS and getattr(layer, "padding", "valid") == "valid"


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
