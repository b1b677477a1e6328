"""Answers calls of layers and operations while a model's code runs."""

import contextlib

from tfcomp import keras_private
from tfcomp.model.intercepting import intercepting


@contextlib.contextmanager
def answering(layer=None, operation=None):
    """Context in which functions answer calls of layers, and of operations on symbolic tensors.

    Nothing that Keras does on such calls is done then: no node is made, so no graph changes. Only
    for the thread that opens it.

    Args:
        layer: Function of a layer, the arguments and keyword arguments of its call, a tuple and a
            dict; `None` for Keras's own way.
        operation: The same for operations of `keras.ops`.
    """

    def answer(self, call, args, kwargs):
        return layer(self, args, kwargs)

    with (
        intercepting(None if layer is None else answer),
        keras_private.answering_operations(operation),
    ):
        yield
