"""A mixture of Gaussians that draws weights to its means, and learns from them.

Karen Ullrich et al., "Soft Weight-Sharing", arXiv:1702.04008.
"""

import keras
import numpy as np

from tfcomp.core.projection import Projection
from tfcomp.methods.soft_weight_sharing import mixture


class Pool:
    """What the weights of one mixture say about it in one step.

    Attributes:
        begin: The parameters that training begins with, set before the first step.
    """

    def __init__(self):
        self.begin = None
        self._sums = {}

    def add(self, who, sums):
        """Notes the sums of one weight; who comes a second time begins the next step."""
        if id(who) in self._sums:
            self._sums.clear()
        self._sums[id(who)] = sums

    def total(self):
        """The sums over all weights of the step."""
        return sum(self._sums.values())


class MixturePrior(Projection):
    """Adds to the loss `strength * -log p(W)` of a mixture, whose parameters are trained, too.

    The weights get the gradient of it on top of their own. The mixture takes a step of Adam, which
    the strength does not matter to, down the gradient of `-log p(W)` and of its own priors. All
    weights of a mixture hold the same copy of it.

    State: `parameters`, see `mixture`; `first` and `second`, Adam's moments, and `iteration`, its
    steps.

    Args:
        pool: The `Pool` of the mixture.
        components: Components beside the one at zero.
        strength: Factor of `-log p(W)` in the loss.
        rates: Learning rates of means, log-variances and mixing proportions.
        priors: `mixture.Priors`.
    """

    kind = "shared"
    needs_gradient = True

    def __init__(self, pool, components, strength, rates, priors):
        self.pool = pool
        self.components = components
        self.strength = strength
        self.priors = priors
        mean, variance, mixing = rates
        sizes = [components, components + 1, components + 1]
        self.rates = np.repeat(np.array([mean, variance, mixing], np.float32), sizes)

    def init(self, value):
        vector = np.zeros(3 * self.components + 2, np.float32)
        names = ("parameters", "first", "second")
        return {**dict.fromkeys(names, vector), "iteration": np.zeros((), np.int32)}

    def adopt(self, value, state):
        return {**self.init(value), "parameters": self.pool.begin}

    def transform_gradient(self, gradient, value, state):
        ops = keras.ops
        weights = ops.cast(ops.reshape(value, (-1,)), "float32")
        pulled, sums = mixture.pull(weights, ops.convert_to_tensor(state["parameters"]))
        self.pool.add(self, sums)
        pulled = ops.cast(self.strength * pulled, gradient.dtype)
        return gradient + ops.reshape(pulled, gradient.shape)

    def observe(self, before, gradient, value, state):
        ops = keras.ops
        parameters = ops.convert_to_tensor(state["parameters"])
        slope = mixture.parameter_gradient(self.pool.total(), parameters, self.priors)
        step = state["iteration"] + 1
        first = 0.9 * state["first"] + 0.1 * slope
        second = 0.999 * state["second"] + 0.001 * slope**2
        time = ops.cast(step, "float32")
        size = ops.sqrt(second / (1 - 0.999**time)) + 1e-7
        rates = ops.convert_to_tensor(self.rates)
        moved = parameters - rates * (first / (1 - 0.9**time)) / size
        new = {"parameters": moved, "first": first, "second": second, "iteration": step}
        # Batches whose gradient is only accumulated leave everything as it is.
        stepped = ops.any(value != before)
        return {name: ops.where(stepped, tensor, state[name]) for name, tensor in new.items()}
