"""Soft weight-sharing.

Karen Ullrich, Edward Meeds, Max Welling, "Soft Weight-Sharing for Neural Network Compression",
arXiv:1702.04008.
"""

import threading
import weakref

import keras
import numpy as np

from tfcomp.core.attachment import attach
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.entry import as_numpy
from tfcomp.core.projection import Projection
from tfcomp.methods.deep_compression.weight_sharing import Shared
from tfcomp.methods.soft_weight_sharing import mixture
from tfcomp.validation import check_integer, check_number, invalid


class Sums:
    """What the weights of one mixture say about it in one step."""

    def __init__(self):
        self.parts = []
        self.closed = False

    def total(self):
        """The sums over all weights; the optimizer has done its update, so none will follow."""
        self.closed = True
        return sum(self.parts)


class Pool:
    """One mixture, and the step under way of those who share it.

    Attributes:
        begin: The parameters that training begins with, set before the first step.
    """

    def __init__(self):
        self.begin = None
        # By thread: replicas of a TensorFlow strategy each have one. Not kept beyond the step.
        self._steps = weakref.WeakValueDictionary()

    def add(self, part):
        """Adds one weight's part, and returns the `Sums` of the step."""
        thread = threading.get_ident()
        sums = self._steps.get(thread)
        if sums is None or sums.closed:
            sums = self._steps[thread] = Sums()
        sums.parts.append(part)
        return sums

    def __getstate__(self):
        return {"begin": self.begin}

    def __setstate__(self, state):
        self.__init__()
        self.begin = state["begin"]


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

    def before(self, gradient, value, state):
        ops = keras.ops
        weights = ops.cast(ops.reshape(value, (-1,)), "float32")
        pulled, part = mixture.pull(weights, ops.convert_to_tensor(state["parameters"]))
        pulled = ops.cast(self.strength * pulled, gradient.dtype)
        seen = gradient + ops.reshape(pulled, gradient.shape)
        return seen, value, {**state, "sums": self.pool.add(part)}

    def after(self, value, state):
        if "sums" not in state:
            return value, state
        ops = keras.ops
        parameters = ops.convert_to_tensor(state["parameters"])
        slope = mixture.parameter_gradient(state["sums"].total(), parameters, self.priors)
        step = state["iteration"] + 1
        first = 0.9 * state["first"] + 0.1 * slope
        second = 0.999 * state["second"] + 0.001 * slope**2
        time = ops.cast(step, "float32")
        size = ops.sqrt(second / (1 - 0.999**time)) + 1e-7
        rates = ops.convert_to_tensor(self.rates)
        moved = parameters - rates * (first / (1 - 0.9**time)) / size
        return value, {"parameters": moved, "first": first, "second": second, "iteration": step}


class SoftWeightSharing(ProjectionCallback):
    """Trains a mixture of Gaussians along with the weights, which draws them to few values.

    The loss is that of the model plus `tau / samples` times `-log p(W)`, where `p` is a mixture of
    a component at zero and of `components` others, whose means, variances and mixing proportions
    are trained with learning rates of their own. When `fit` ends, components that are nearly the
    same are merged, and each weight becomes the mean of the component most responsible for it:
    exactly zero for the component at zero. A later `fit` keeps this, and trains the values that are
    shared, as `WeightSharing` does, each tensor by itself.

    Start from a trained model, and train for some 30 to 100 epochs. Weights that are exactly zero
    stay so in the end and take no part in the mixture; with a pruning callback they stay so at all
    times. `logs` gets `sparsity` and `sparsity/<path>`, the fraction of weights that would become
    zero if `fit` ended here.

    A killed run resumed by `keras.callbacks.BackupAndRestore` goes on bit for bit. A run that goes
    on from a `.keras` file begins with a new mixture.

    Args:
        samples: Number of samples the model is trained on, which the likelihood of the weights is
            weighed against.
        components: Components beside the one at zero.
        tau: Weight of the mixture in the loss; 0.005 in the paper.
        zero_proportion: Mixing proportion of the component at zero, in (0, 1).
        zero_proportion_prior: `None` to keep it, or `(a, b)` to train it under a Beta density.
        zero_precision_prior: `(shape, rate)` of the Gamma density of `1 / variance` of the
            component at zero, or `None`. The default fits weights of some tenths; where yours are
            `s` times as large, multiply the rate by `s**2`.
        precision_prior: The same for the other components.
        mean_rate: Learning rate of the means.
        variance_rate: Learning rate of the log-variances.
        mixing_rate: Learning rate of the mixing proportions.
        merge: Components are merged where `KL(p | q) + KL(q | p)` is below this.
        scope: `"global"` for one mixture, `"layer"` for one for each weight tensor, where these
            are of different scales.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight.
        verbose: 1 to print a line when weights take their values.
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN or is
            zero everywhere.

    Reference:
        Karen Ullrich, Edward Meeds, Max Welling, "Soft Weight-Sharing for Neural Network
        Compression", arXiv:1702.04008.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
    >>> model.compile("adam", "mse")
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 16)), verbose=0,
    ...     callbacks=[tfcomp.callbacks.SoftWeightSharing(samples=16, components=4)],
    ... )
    >>> len(np.unique(model.layers[0].kernel.numpy())) <= 5
    True
    """

    compresses_at_end = True

    def __init__(
        self,
        samples,
        components=16,
        tau=0.005,
        zero_proportion=0.99,
        zero_proportion_prior=None,
        zero_precision_prior=(5000.0, 2.0),
        precision_prior=(250.0, 0.1),
        mean_rate=1e-4,
        variance_rate=3e-3,
        mixing_rate=3e-3,
        merge=1e-10,
        scope="global",
        targets=None,
        verbose=0,
        optimizer=None,
    ):
        super().__init__(targets=targets, verbose=verbose, optimizer=optimizer)
        self.samples = check_integer("samples", samples, 1)
        self.components = check_integer("components", components, 1)
        check_number("zero_proportion", zero_proportion, 0, below=1)
        if not zero_proportion:
            raise invalid("zero_proportion", zero_proportion, "a number in (0, 1)")
        if scope not in ("global", "layer"):
            raise invalid("scope", scope, "'global' or 'layer'")
        self.zero_proportion = zero_proportion
        self.zero_proportion_prior = zero_proportion_prior
        self.zero_precision_prior, self.precision_prior = zero_precision_prior, precision_prior
        self.mean_rate, self.variance_rate, self.mixing_rate = mean_rate, variance_rate, mixing_rate
        self.tau, self.merge, self.scope = tau, merge, scope
        for name in ("zero_proportion_prior", "zero_precision_prior", "precision_prior"):
            _check_pair(name, getattr(self, name))
        for name in ("tau", "merge", "mean_rate", "variance_rate", "mixing_rate"):
            check_number(name, getattr(self, name), 0)
        self._pool = Pool()

    def make_projection(self, target):
        if not np.any(as_numpy(target.variable)):
            raise invalid("targets", target.path, "weights that are not zero everywhere")
        pool = self._pool if self.scope == "global" else Pool()
        rates = (self.mean_rate, self.variance_rate, self.mixing_rate)
        strength = self.tau / self.samples
        priors = mixture.Priors(
            self.zero_precision_prior, self.precision_prior, self.zero_proportion_prior
        )
        return MixturePrior(pool, self.components, strength, rates, priors)

    def _mixtures(self):
        """Lists of the entries of each mixture."""
        pools = {}
        for entry in self._entries:
            pools.setdefault(id(entry.projection.pool), []).append(entry)
        return list(pools.values())

    def _begin_run(self, epoch):
        for entries in self._mixtures():
            values = [entry.read()[0] for entry in entries]
            begin = mixture.initial(values, self.components, self.zero_proportion)
            entries[0].projection.pool.begin = begin
        super()._begin_run(epoch)

    def on_train_end(self, logs=None):
        super().on_train_end(logs)
        if self._tracks is not None:
            for entries in self._mixtures():
                parameters = entries[0].read()[1]["parameters"]
                merged = mixture.merge(mixture.gaussians(parameters), self.merge)
                self._harden(entries, merged)
                if self.verbose:
                    print(f"\nSoftWeightSharing: {len(merged.means)} values are left")

    def _harden(self, entries, gaussians):
        for entry in entries:
            index = mixture.assign(entry.read()[0], gaussians)
            projection = Shared(entry.target.path, self.components)
            given = None if self.optimizer is None else self._optimizer
            shared = attach(self.model, entry.target, projection, given)
            value, state = shared.read()
            # Only what the tensor has of them: it may have fewer weights than there are means.
            used, index = np.unique(np.concatenate([[0], index.reshape(-1)]), return_inverse=True)
            index = index[1:].reshape(value.shape)
            shared.write(*projection.assign(value, state, gaussians.means[used[1:]], index))
            shared.fresh = False
            shared.complete = entry.complete = True

    def measure(self, value, state):
        return np.mean(mixture.assign(value, mixture.gaussians(state["parameters"])) == 0)


def _check_pair(name, pair):
    if pair is None:
        return
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise invalid(name, pair, "None or a pair of positive numbers")
    for number in pair:
        check_number(name, number, 0)
