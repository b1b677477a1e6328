"""Where a layer holds other layers, and how one is put there.

A place is a list of steps from a layer: names of attributes, indices into lists, keys of dicts;
`["blocks", 1, "dense"]` is `layer.blocks[1].dense`. The layers of a Sequential or functional model
are at `["layers", index]`.
"""

import contextlib

import keras

from tfcomp import keras_private

_CONTAINERS = (list, tuple, dict)


def _items(container):
    return container.items() if isinstance(container, dict) else enumerate(container)


def _below(value, place, kind):
    if isinstance(value, kind):
        yield place, value
    elif isinstance(value, _CONTAINERS):
        for key, item in _items(value):
            yield from _below(item, [*place, key], kind)


def within(layer, kind):
    """Pairs of a place and an object of some class there, of those that a layer itself holds."""
    for name, value in attributes(layer):
        yield from _below(value, [name], kind)


def attributes(layer):
    """Pairs of name and value of a layer's attributes, those of Keras's bookkeeping left out."""
    # PyTorch keeps modules apart, and layers are modules there.
    modules = vars(layer).get("_modules") or {}
    for name, value in [*vars(layer).items(), *modules.items()]:
        if name not in keras_private.BOOKKEEPING:
            yield name, value


@contextlib.contextmanager
def standing_in(layer, kind, make):
    """Context in which `make(object)` stands in a layer for each object of some class it holds."""
    made = {}

    def exchanged(value):
        if isinstance(value, kind):
            return made.setdefault(id(value), make(value))
        if isinstance(value, dict):
            return {key: exchanged(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
            items = [exchanged(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        return value

    names = {way[0] for way, _ in within(layer, kind)}
    before = {name: value for name, value in attributes(layer) if name in names}
    # Not by `setattr`, with which Keras's layers track what they are given.
    for name, value in before.items():
        object.__setattr__(layer, name, exchanged(value))
    try:
        yield
    finally:
        for name, value in before.items():
            object.__setattr__(layer, name, value)


def held(layer):
    """Pairs of a place and the layer that is there, of all that `layer` holds itself."""
    if keras_private.is_functional(layer):
        for index, child in enumerate(layer.layers):
            yield ["layers", index], child
    yield from within(layer, keras.layers.Layer)


def at(layer, place):
    """The object at a place, or `None` where there is none."""
    found = layer
    for step in place:
        try:
            found = found[step] if isinstance(found, _CONTAINERS) else getattr(found, step)
        except (AttributeError, IndexError, KeyError, TypeError):
            return None
    return found


def _exchanged(value, old, new):
    """`value` with `new` for `old`; lists and dicts are changed in place."""
    if value is old:
        return new
    if isinstance(value, (list, dict)):
        for key, item in list(_items(value)):
            other = _exchanged(item, old, new)
            if other is not item:
                # Those that Keras tracks would list the layer a second time.
                (list if isinstance(value, list) else dict).__setitem__(value, key, other)
    elif isinstance(value, tuple):
        items = [_exchanged(item, old, new) for item in value]
        if any(item is not other for item, other in zip(items, value)):
            return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def put(holder, old, new):
    """Puts `new` wherever `holder` itself holds `old`; returns whether it did."""
    if not any(child is old for _, child in held(holder)):
        return False
    # First, since a built layer takes no others than it lists.
    keras_private.put_layer(holder, old, new)
    for name, value in attributes(holder):
        other = _exchanged(value, old, new)
        if other is not value:
            setattr(holder, name, other)
    if isinstance(holder, keras.Sequential):
        keras_private.reconnect(holder)
    elif keras_private.is_functional(holder):
        keras_private.put_operation(holder, old, new)
    return True


def put_everywhere(root, old, new):
    """Puts `new` wherever `root`, or anything in it, holds `old`; returns how many layers did."""
    return sum(put(holder, old, new) for holder in holders(root))


def ways(root):
    """Pairs of a place and the layer there, of `root` and all below it, each once, nearest first.

    The place of `root` is `[]`.
    """
    seen, queue = {id(root)}, [([], root)]
    while queue:
        way, layer = queue.pop(0)
        yield way, layer
        for place, child in held(layer):
            if id(child) not in seen:
                seen.add(id(child))
                queue.append(([*way, *place], child))


def holders(root):
    """`root` and all layers below it, found by where they are held."""
    return [layer for _, layer in ways(root)]
