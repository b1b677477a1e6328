"""Tries the kernels of a unit: whether they compute the same, and how fast."""

import time

import numpy as np
import tensorflow as tf

from tfcomp.exporters.latency.batches import part_of
from tfcomp.model.choice import Unsuited
from tfcomp.model.timing import cold, interleaved

# Largest difference of outputs, as a share of the largest output: sums in another order.
_SAME = 2e-5
# Rounds with warm and with cold caches, and where there is nothing to choose between.
_ROUNDS, _ONE_ROUND = (7, 3), (1, 1)


class Trial:
    """Times of one unit's kernels, Keras's first.

    Args:
        unit: A `Unit`.
        scope: Callable that opens the scope to call the model in.
        values: Dict from `id(variable)` to its final value, a tensor.
        alike: Dict that the trials of a model share: units of the same layers and shapes, which
            differ in their values alone, are timed once.
    """

    def __init__(self, unit, scope, values, alike):
        self.unit, self._alike = unit, alike
        self._keras = unit.by_keras(scope, values)
        arrays = {id(a): a for c in unit.candidates for a in c.arrays}
        tensors = {key: tf.constant(array) for key, array in arrays.items()}
        self._tensors = [[tensors[id(a)] for a in c.arrays] for c in unit.candidates]
        self._known, self._plain = {}, {}

    def keras_seconds(self, batch):
        """Seconds of one call of Keras's layers."""
        call = self._by_keras(batch)
        call()
        begin = time.perf_counter()
        call()
        return time.perf_counter() - begin

    def seconds(self, batch):
        """Seconds of each kernel for one batch, warm and cold added up; infinite if it cannot.

        Returns:
            Array with Keras's first, and a dict from the names of candidates to why they cannot.
        """
        seconds, refused = self._measured(batch)
        return seconds.sum(axis=0), refused

    def warm_seconds(self, batch):
        """Seconds with warm caches alone, as `seconds` has them.

        The code of a kernel is warm where several layers of a model have it.
        """
        return self._measured(batch)[0][0]

    def _measured(self, batch):
        if batch not in self._known:
            self._known[batch] = self._measure(batch)
        return self._known[batch]

    def _measure(self, batch):
        inputs, plain = self.unit.draw(batch), self._by_keras(batch)
        expected = plain()
        calls, places, refused = [plain], [0], {}
        for number, candidate in enumerate(self.unit.candidates):
            try:
                if candidate.is_static and batch != part_of(batch):
                    raise Unsuited(f"batches of {batch} are computed in parts")
                call = self._traced(_computing(candidate, self._tensors[number]), inputs)
                _check(call(), expected)
            except Unsuited as reason:
                refused[candidate.name] = str(reason)
                continue
            calls.append(call)
            places.append(number + 1)
        seconds = np.full((2, 1 + len(self.unit.candidates)), np.inf)
        seconds[:, places] = self._timed(calls, batch, tuple(places))
        return seconds, refused

    def _timed(self, calls, batch, places):
        key = self.unit.likeness, batch, places
        if key not in self._alike:
            able = [self.unit.candidates[place - 1] for place in places[1:]]
            forced = len(able) <= 1 and all(candidate.is_never_slower for candidate in able)
            self._alike[key] = warm_and_cold(calls, *(_ONE_ROUND if forced else _ROUNDS))
        return self._alike[key]

    def _by_keras(self, batch):
        if batch not in self._plain:
            self._plain[batch] = self._traced(self._keras, self.unit.draw(batch))
        return self._plain[batch]

    def _traced(self, function, inputs):
        spec = tf.TensorSpec(inputs.shape, inputs.dtype)
        traced = tf.function(function, input_signature=[spec], autograph=False)
        traced = traced.get_concrete_function()
        return lambda: traced(inputs).numpy()


def warm_and_cold(calls, warm_rounds=_ROUNDS[0], cold_rounds=_ROUNDS[1]):
    """Median seconds of calls in turns: an array with a row for warm and one for cold caches."""
    warm = np.median(interleaved(calls, warm_rounds), axis=0)
    return np.stack([warm, np.median(cold(calls, cold_rounds), axis=0)])


def seconds_of(calls):
    """The same added up."""
    return warm_and_cold(calls).sum(axis=0)


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
