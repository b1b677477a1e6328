"""Methods of an object that are others for a while, to one thread."""

import contextlib
import contextvars
import functools
import threading
import types

# What is held by the code that runs now: dict from an object's id and a name to a function.
_HELD = contextvars.ContextVar("tfcomp_held", default=types.MappingProxyType({}))
# While objects are made to hold something, or to hold it no longer.
_LOCK = threading.Lock()


class _Method:
    """Stands on an object in place of a method: that method, or to whoever holds another, that."""

    def __init__(self, thing, name):
        self.key, self.method, self.holders = (id(thing), name), getattr(thing, name), 0
        self.own = name in vars(thing)
        functools.update_wrapper(self, self.method)

    def __call__(self, *args, **kwargs):
        return self.now()(*args, **kwargs)

    def now(self):
        return _HELD.get().get(self.key, self.method)


def _put_on(thing, name):
    method = vars(thing).get(name)
    if not isinstance(method, _Method):
        method = _Method(thing, name)
        # Not by `setattr`, with which Keras's layers and models track what they are given.
        object.__setattr__(thing, name, method)
    method.holders += 1


def _take_off(thing, name):
    method = vars(thing)[name]
    method.holders -= 1
    if not method.holders:
        if method.own:
            object.__setattr__(thing, name, method.method)
        else:
            object.__delattr__(thing, name)


def method_of(thing, name):
    """The method that an object has now, to be called by one that is held in its place."""
    method = getattr(thing, name)
    return method.now() if isinstance(method, _Method) else method


@contextlib.contextmanager
def holding(thing, **methods):
    """Context in which an object has methods of its own, in the place of those of its class.

    Only for the thread that opens it: to others that use the object meanwhile it is as it was.
    """
    with _LOCK:
        for name in methods:
            _put_on(thing, name)
    held = {(id(thing), name): method for name, method in methods.items()}
    token = _HELD.set({**_HELD.get(), **held})
    try:
        yield
    finally:
        _HELD.reset(token)
        with _LOCK:
            for name in methods:
                _take_off(thing, name)
