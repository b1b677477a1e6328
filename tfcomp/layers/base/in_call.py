"""Attributes of a Keras layer that read otherwise while its `call` runs.

Keras's layers read `self.kernel` in `call`, and again when they save, merge LoRA or count
parameters. Only the first of these may see a quantized kernel.
"""

import contextlib
import contextvars

import keras

from tfcomp.keras_private import autocast_scope, without_autocast

# The layer, and the `training` argument of the call.
_CALLED = contextvars.ContextVar("tfcomp_called_layer", default=(None, None))


@contextlib.contextmanager
def in_call(layer, training=None):
    """Context in which the `ReadInCall` attributes of `layer`, and of no other, read otherwise."""
    token = _CALLED.set((layer, training))
    try:
        yield
    finally:
        _CALLED.reset(token)


def training_in_call():
    """The `training` argument of the call that is under way."""
    return _CALLED.get()[1]


class ReadInCall:
    """Descriptor over an attribute or property of the same name in a class further up.

    Args:
        read: Function `(layer, name, stored)` that returns what the attribute reads in `call`;
            `stored()` is what it reads elsewhere.
    """

    def __init__(self, read):
        self._read = read

    def __set_name__(self, owner, name):
        self._owner, self._name = owner, name

    def __get__(self, layer, cls=None):
        if layer is None:
            return self
        if _CALLED.get()[0] is not layer:
            return self._stored(layer)
        return self._read(layer, self._name, lambda: self._stored(layer))

    def _stored(self, layer):
        if self._name in layer.__dict__:
            return layer.__dict__[self._name]
        return getattr(super(self._owner, layer), self._name)

    def __set__(self, layer, value):
        above = getattr(super(self._owner, type(layer)), self._name, None)
        if hasattr(above, "__set__"):
            above.__set__(layer, value)
        else:
            layer.__dict__[self._name] = value

    def __delete__(self, layer):
        del layer.__dict__[self._name]


def apply_as_stored(quantizer, stored):
    """Returns `quantizer(stored())` computed in the variable's own dtype, then cast as Keras does.

    Args:
        quantizer: Callable from tensor to tensor.
        stored: Callable that reads a variable, or a tensor made of variables.
    """
    scope = autocast_scope()
    with without_autocast():
        value = stored()
        value = quantizer(value.value if isinstance(value, keras.Variable) else value)
    return value if scope is None else scope.maybe_cast(value)
