"""Constructor arguments of layers that extend Keras's, as an editor or `help` shows them."""

import inspect

import keras


class NamedArguments:
    """Gives a layer a signature that names what its `*args` and `**kwargs` pass on.

    `inspect.signature` of the class has the arguments of the Keras layer it extends, in their
    order, and then, by keyword, those of the classes in between.

    Attributes:
        refused_arguments: Names of arguments further up that the class does not take, as it sets
            them itself or has no use for them.
    """

    refused_arguments = ()

    class _Signature:
        def __get__(self, layer, cls):
            if layer is not None:
                # What can be called is the layer then, not its class.
                raise AttributeError("__signature__")
            return inspect.Signature(constructor_parameters(cls))

    __signature__ = _Signature()


def constructor_parameters(cls):
    """List of what the constructor of a layer class takes, whichever class above takes it."""
    refused = getattr(cls, "refused_arguments", ())
    return [p for p in _parameters(cls.__mro__) if p.name not in refused]


def _parameters(classes):
    """Parameters that the first of some classes, and those it passes its `**kwargs` on to, take."""
    cls, *above = classes
    if cls is keras.layers.Layer:
        return [inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)]
    if "__init__" not in vars(cls):
        return _parameters(above)
    own = list(inspect.signature(cls.__init__).parameters.values())[1:]
    kinds = [p.kind for p in own]
    if cls.__module__.startswith("keras.") or inspect.Parameter.VAR_KEYWORD not in kinds:
        return own
    first = [p for p in own if p.kind is p.POSITIONAL_OR_KEYWORD]
    by_name = {p.name: p for p in own if p.kind is p.KEYWORD_ONLY}
    by_position = inspect.Parameter.VAR_POSITIONAL in kinds
    rest = []
    for parameter in _parameters(above):
        if parameter.name in {p.name for p in first}:
            continue
        # It keeps its place. What comes behind it cannot be given by position either.
        by_position &= parameter.name not in by_name
        parameter = by_name.pop(parameter.name, parameter)
        if not by_position and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
        rest.append(parameter)
    return sorted([*first, *rest, *by_name.values()], key=lambda p: p.kind)
