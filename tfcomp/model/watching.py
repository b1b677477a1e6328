"""Looks at what layers are called with, and steps in."""

import contextlib
import inspect

from tfcomp.model.holding import holding, method_of
from tfcomp.targets import layer_sites


def replacing_call(layer, instead):
    """Context in which `instead(call, args, kwargs)` answers every call of `layer`.

    The inputs are `args[0]`, also where the call names them.
    """
    call = method_of(layer, "call")

    def replaced(*args, **kwargs):
        return instead(call, *_inputs_first(call, args, kwargs))

    return holding(layer, call=replaced)


def watching(layer, see):
    """Context in which `see(args, kwargs)` is told of every call of `layer`."""

    def seen(call, args, kwargs):
        see(args, kwargs)
        return call(*args, **kwargs)

    return replacing_call(layer, seen)


def call_order(model, x):
    """Maps the `id` of each layer that `model` calls on `x` to its place among the first calls."""
    order = {}
    with contextlib.ExitStack() as stack:
        for site in layer_sites(model):

            def see(args, kwargs, layer=site.layer):
                order.setdefault(id(layer), len(order))

            stack.enter_context(watching(site.layer, see))
        model(x, training=False)
    return order


def _inputs_first(call, args, kwargs):
    first = next(iter(inspect.signature(call).parameters))
    if args or first not in kwargs:
        return args, kwargs
    return (kwargs[first],), {name: value for name, value in kwargs.items() if name != first}
