"""Looks at what layers are called with."""

import contextlib


@contextlib.contextmanager
def watching(layer, see):
    """Context in which `see(args, kwargs)` is told of every call of `layer`."""
    call = layer.call

    def watched(*args, **kwargs):
        see(args, kwargs)
        return call(*args, **kwargs)

    # Not by `setattr`, which tracks what a layer is given.
    object.__setattr__(layer, "call", watched)
    try:
        yield
    finally:
        object.__delattr__(layer, "call")
