"""Attributes put on an object for a while."""

import contextlib


@contextlib.contextmanager
def holding(thing, **attributes):
    """Context in which an object has attributes of its own, in the place of those of its class.

    Not by `setattr`, with which Keras's layers and models track what they are given.
    """
    before = {name: vars(thing)[name] for name in attributes if name in vars(thing)}
    for name, value in attributes.items():
        object.__setattr__(thing, name, value)
    try:
        yield
    finally:
        for name in attributes:
            object.__delattr__(thing, name)
        for name, value in before.items():
            object.__setattr__(thing, name, value)
