"""Answers calls of layers, whichever layers a model calls."""

import contextlib
import contextvars
import functools
import threading

import keras

_ANSWER = contextvars.ContextVar("tfcomp_answer", default=None)
_LOCK = threading.Lock()
_within = 0
_keras_call = keras.layers.Layer.__call__


@functools.wraps(_keras_call)
def _call(self, *args, **kwargs):
    answer = _ANSWER.get()
    if answer is None:
        return _keras_call(self, *args, **kwargs)
    return answer(self, functools.partial(_keras_call, self), args, kwargs)


@contextlib.contextmanager
def intercepting(answer):
    """Context in which `answer(layer, call, args, kwargs)` answers calls of all layers.

    The calls are those of this thread: nothing is put on layers, which others may call meanwhile.

    Args:
        answer: Callable; `call(*args, **kwargs)` is what Keras would answer.
    """
    global _within
    with _LOCK:
        _within += 1
        keras.layers.Layer.__call__ = _call
    token = _ANSWER.set(answer)
    try:
        yield
    finally:
        _ANSWER.reset(token)
        with _LOCK:
            _within -= 1
            if not _within:
                keras.layers.Layer.__call__ = _keras_call
