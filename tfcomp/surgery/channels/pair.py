"""The weights of the small model: its channels are paired with those of the large one.

Both are traced. Two channels can stand for one another if they have one signature, the places where
they stand; so no layer needs a rule for cutting, an order that changes on the way, as in a channel
shuffle, comes out right by itself, and signatures that differ say that something is wrong.
"""

from collections import defaultdict

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.surgery import state
from tfcomp.surgery.channels.trace import trace


def cells(dyes):
    """Dict from each signature to the channels that have it, in order."""
    found = defaultdict(list)
    for dye, signature in dyes.uses().items():
        found[signature].append(dye)
    return {signature: sorted(members) for signature, members in found.items()}


class Pairing:
    """Which number of a variable of the small model comes from which of the large one.

    Args:
        large: `Dyes` of the large model.
        small: `Dyes` of the small model.
        removed: Boolean array, whether a dye of the large model goes.

    Raises:
        ValueError: If the two models do not have the same structure.
    """

    def __init__(self, large, small, removed):
        self.large, self.small = large, small
        self._partner = {0: 0}
        olds, news = cells(large), cells(small)
        if set(news) - set(olds) or len(large.variables) != len(small.variables):
            raise ValueError("The small model does not have the structure of the large one.")
        for signature, members in olds.items():
            kept = [dye for dye in members if not removed[dye]]
            few = news.get(signature, [])
            if len(few) != len(kept):
                raise ValueError(f"{len(few)} channels in the place of {len(kept)}.")
            self._partner.update(zip(few, kept))

    def _indices(self, old, new):
        places = defaultdict(list)
        for index, dye in enumerate(old.tolist()):
            places[dye].append(index)
        used, indices = defaultdict(int), []
        for dye in new.tolist():
            partner = self._partner[dye]
            indices.append(places[partner][used[partner]])
            used[partner] += 1
        return np.array(indices, np.int64)

    def taken(self, number, value):
        """What the small model has of an array that is like a variable of the large one.

        Args:
            number: The place of the variable among those of the `Dyes`.
            value: NumPy array of the variable's shape.
        """
        if number in self.large.grouped:
            return self._taken_by_group(number, value)
        for axis in range(value.ndim):
            key = number, axis
            if key in self.large.axes:
                old, new = self.large.labels(key).ravel(), self.small.labels(key).ravel()
                value = value.take(self._indices(old, new), axis)
        return value

    def _taken_by_group(self, number, value):
        rank = value.ndim
        ins, outs = ((number, rank - 2), (number, rank - 1))
        old = self.large.labels(ins), self.large.labels(outs)
        new = self.small.labels(ins), self.small.labels(outs)
        parts = []
        for group, part in enumerate(np.split(value, len(old[0]), -1)):
            part = part.take(self._indices(old[0][group], new[0][group]), rank - 2)
            parts.append(part.take(self._indices(old[1][group], new[1][group]), rank - 1))
        return np.concatenate(parts, -1)


def traced_like(builder, small):
    """The `Dyes` of the small model, its variables numbered as their counterparts are.

    What a functional model connects is run in another order than the code that it was made of.

    Args:
        builder: The `Builder` that made it.
        small: The model it made.
    """
    large, found = builder.sizes.dyes, {}
    for old, new in builder.pairs:
        if not (keras_private.is_functional(old) or builder.is_unfolded(old)):
            found.update(zip(map(id, old.variables), new.variables))
    lost = [variable.path for variable in large.variables if id(variable) not in found]
    if lost:
        raise ValueError(f"The small model has nothing in the place of {lost[0]}.")
    variables = [found[id(variable)] for variable in large.variables]
    return trace(small, large.free_size, variables)


def carry(builder, small):
    """Gives the small model the weights, settings and statistics of the large one.

    Args:
        builder: The `Builder` that made it.
        small: The model it made.

    Returns:
        Dict from the id of each variable of the large model to `(variable, counterpart, function)`,
        where the function takes an array like the one to an array like the other.

    Raises:
        ValueError: If the two models do not have the same structure.
    """
    large = builder.sizes.dyes
    dyes = traced_like(builder, small)
    pairing = Pairing(large, dyes, builder.sizes.removed)
    found = {}
    for number, (old, new) in enumerate(zip(large.variables, dyes.variables)):

        def take(value, number=number):
            return pairing.taken(number, value)

        found[id(old)] = old, new, take
    for old, new in builder.pairs:
        _carry_layer(builder, old, new, found)
    for old, new, take in found.values():
        new.assign(take(keras.ops.convert_to_numpy(old.value)))
    for old, new in builder.pairs:
        _rescale(old, new)
    return found


def _carry_layer(builder, old, new, found):
    """What a layer has beside the variables that have channels."""
    keras_private.set_own_trainable(new, old.trainable)
    if keras_private.is_functional(old) or builder.is_unfolded(old):
        return
    if not builder.sizes.change(old):
        _copy_all(old, new)
    for variable, made in zip(old.variables, new.variables):
        made.trainable = variable.trainable
        if id(variable) not in found:
            found[id(variable)] = variable, made, lambda value: value


def _copy_all(old, new):
    for child, made in state.matched(old, new):
        _copy_all(child, made)
    state.copy_state(old, new)


def _rescale(old, new):
    """Attention divides by the root of the size of a head, which may have become smaller."""
    sizes = [
        getattr(layer, name)
        for layer in (old, new)
        for name in ("key_dim", "head_dim")
        if isinstance(layer, _ATTENTIONS) and hasattr(layer, name)
    ]
    if sizes and sizes[0] != sizes[1]:
        for variable in keras_private.attention_projections(new)["query"].variables:
            variable.assign(variable * (sizes[1] / sizes[0]) ** 0.5)


_ATTENTIONS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
