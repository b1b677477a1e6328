"""Statistics of batch normalization for a model whose weights have been changed."""

import contextlib

import keras
import numpy as np

from tfcomp import targets as targets_lib
from tfcomp.model.watching import replacing_call
from tfcomp.validation import invalid


class Statistics:
    """The statistics of one `BatchNormalization`: as they were, and as the data have them.

    Attributes:
        path: Path of the layer.
        before: Its moving mean and variance as they were.
        after: The same as estimated, or `None` where it was not called.
    """

    def __init__(self, site):
        self.path, self.layer = site.path, site.layer
        self.before = [keras.ops.convert_to_numpy(v.value).copy() for v in self.variables]
        self.after = None
        self._seen = []

    @property
    def variables(self):
        return self.layer.moving_mean, self.layer.moving_variance

    @property
    def untrained(self):
        """Whether they are still those that every new layer has: there is nothing to keep."""
        mean, variance = self.before
        return not np.any(mean) and bool(np.all(variance == 1))

    def assign(self, values):
        for variable, value in zip(self.variables, values):
            variable.assign(value)

    def call(self, call, args, kwargs):
        """A call as in training, whatever the layers around it do; notes what it finds."""
        outputs = call(*args, **{**kwargs, "training": True})
        mean, variance = (
            np.asarray(keras.ops.convert_to_numpy(v.value), np.float64) for v in self.variables
        )
        mask = kwargs.get("mask")
        if mask is None:
            count = np.prod(args[0].shape) // mean.size
        else:
            count = np.count_nonzero(keras.ops.convert_to_numpy(mask))
        self._seen.append((count, mean, variance))
        return outputs

    def estimate(self):
        """Puts the statistics of all calls together: variances within them and between them."""
        counts, means, variances = (np.array(each) for each in zip(*self._seen))
        if not np.isfinite(means + variances).all():
            raise invalid("data", "NaN or infinity", f"finite inputs of {self.layer.name!r}")
        if counts.sum():
            mean = np.average(means, axis=0, weights=counts)
            spread = variances + (means - mean) ** 2
            self.after = [mean, np.average(spread, axis=0, weights=counts)]


def normalizations(model):
    """The `Statistics` of every `BatchNormalization` of a model."""
    sites = targets_lib.layer_sites(model)
    return [Statistics(s) for s in sites if isinstance(s.layer, keras.layers.BatchNormalization)]


def estimate(model, found, batches, progress):
    """Estimates statistics on data and puts them in force.

    Each normalization runs as in training, by the batch at hand, so that those after it see what
    they will see; every other layer runs as in inference.
    """
    with contextlib.ExitStack() as stack:
        for each in found:
            stack.enter_context(_by_the_batch(each.layer))
            stack.enter_context(replacing_call(each.layer, each.call))
        for x in batches:
            model(x, training=False)
            progress.step()
    for each in found:
        if each._seen:
            each.estimate()
        each.assign(each.after or each.before)


@contextlib.contextmanager
def _by_the_batch(layer):
    """Moving statistics are those of the last batch; a frozen layer would go by its old ones."""
    kept = layer.trainable, layer.momentum
    layer.trainable, layer.momentum = True, 0.0
    try:
        yield
    finally:
        layer.trainable, layer.momentum = kept


def output_errors(model, batches, states):
    """How far the outputs of a model in several states are from those in the first one.

    Args:
        model: A `keras.Model`.
        batches: `tfcomp.model.data.Batches`.
        states: Functions that put the model into a state.

    Returns:
        For each state but the first the squared difference, relative to the squared outputs of the
        first, the mean of all outputs.
    """
    errors, whole = 0.0, 0.0
    for x in batches:
        outputs = []
        for put in states:
            put()
            found = keras.tree.flatten(model(x, training=False))
            outputs.append([np.asarray(keras.ops.convert_to_numpy(y), np.float64) for y in found])
        wanted, *others = outputs
        whole = whole + np.array([np.sum(y**2) for y in wanted])
        errors = errors + np.array(
            [[np.sum((y - z) ** 2) for y, z in zip(wanted, other)] for other in others]
        )
    return np.mean(errors / np.where(whole > 0, whole, 1), axis=1).tolist()
