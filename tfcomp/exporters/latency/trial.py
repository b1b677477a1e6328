"""Tries the kernels of a unit: whether they compute the same, and how fast."""

import numpy as np
import tensorflow as tf

from tfcomp.model.choice import Unsuited
from tfcomp.model.timing import cold, interleaved

# Largest difference of outputs, as a share of the largest output: sums in another order.
_SAME = 2e-5
_ROUNDS = 7


class Trial:
    """Times of one unit's kernels, Keras's first.

    Args:
        unit: A `Unit`.
        scope: Callable that opens the scope to call the model in.
        values: Dict from `id(variable)` to its final value, a tensor.
    """

    def __init__(self, unit, scope, values):
        self.unit = unit
        self._keras = unit.by_keras(scope, values)
        self._tensors = [[tf.constant(a) for a in c.arrays] for c in unit.candidates]
        self._known = {}

    def seconds(self, batch):
        """Seconds of each kernel for one batch, warm and cold added up; infinite if it cannot.

        Returns:
            Array with Keras's first, and a dict from the names of candidates to why they cannot.
        """
        if batch not in self._known:
            self._known[batch] = self._measure(batch)
        return self._known[batch]

    def _measure(self, batch):
        inputs = self.unit.draw(batch)
        plain = self._traced(self._keras, inputs)
        expected = plain()
        calls, places, refused = [plain], [0], {}
        for number, candidate in enumerate(self.unit.candidates):
            try:
                call = self._traced(_computing(candidate, self._tensors[number]), inputs)
                _check(call(), expected)
            except Unsuited as reason:
                refused[candidate.name] = str(reason)
                continue
            calls.append(call)
            places.append(number + 1)
        seconds = np.full(1 + len(self.unit.candidates), np.inf)
        seconds[places] = np.median(interleaved(calls, _ROUNDS), axis=0)
        seconds[places] += np.median(cold(calls, 3), axis=0)
        return seconds, refused

    def _traced(self, function, inputs):
        spec = tf.TensorSpec(inputs.shape, inputs.dtype)
        traced = tf.function(function, input_signature=[spec], autograph=False)
        traced = traced.get_concrete_function()
        return lambda: traced(inputs).numpy()


def _computing(candidate, tensors):
    """The function of a kernel. Arguments with defaults cost a call of TensorFlow milliseconds."""
    return lambda inputs: candidate.compute(inputs, tensors)


def _check(found, expected):
    if found.shape != expected.shape:
        raise Unsuited(f"it computes {found.shape} for {expected.shape}")
    largest = np.max(np.abs(expected), initial=0)
    off = np.max(np.abs(found - expected), initial=0)
    if not off <= _SAME * largest:
        raise Unsuited(f"its outputs differ by {off:.1e} of {largest:.1e}")
