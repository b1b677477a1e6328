"""Soft weight-sharing.

Karen Ullrich, Edward Meeds, Max Welling, "Soft Weight-Sharing for Neural Network Compression",
arXiv:1702.04008.
"""

import keras
import numpy as np

from tfcomp.core import attachment
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods.deep_compression._shared import Shared
from tfcomp.methods.soft_weight_sharing import mixture
from tfcomp.methods.soft_weight_sharing._mixture_prior import MixturePrior, Pool
from tfcomp.validation import check_number, invalid


class SoftWeightSharing(ProjectionCallback):
    """Trains a mixture of Gaussians along with the weights, which draws them to few values.

    The loss is that of the model plus `tau / samples` times `-log p(W)`, where `p` is a mixture of
    a component at zero and of `components` others, whose means, variances and mixing proportions
    are trained with learning rates of their own. When `fit` ends, components that are nearly the
    same are merged, and each weight becomes the mean of the component most responsible for it:
    exactly zero for the component at zero. A later `fit` keeps this, and trains the values that are
    shared, as `WeightSharing` does, each tensor by itself.

    Start from a trained model, and train for some 50 to 100 epochs. Weights that are exactly zero
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

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN or is
            zero everywhere.

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
        variance_rate=1e-4,
        mixing_rate=3e-3,
        merge=1e-10,
        scope="global",
        targets=None,
    ):
        super().__init__(targets=targets)
        for name, number in (("samples", samples), ("components", components)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise invalid(name, number, "a positive integer")
        check_number("zero_proportion", zero_proportion, 0, below=1)
        if not zero_proportion:
            raise invalid("zero_proportion", zero_proportion, "a number in (0, 1)")
        priors = {
            "zero_precision": zero_precision_prior,
            "precision": precision_prior,
            "zero_proportion": zero_proportion_prior,
        }
        for name, pair in priors.items():
            _check_pair(f"{name}_prior", pair)
        rates = {"mean_rate": mean_rate, "variance_rate": variance_rate, "mixing_rate": mixing_rate}
        for name, number in {"tau": tau, "merge": merge, **rates}.items():
            check_number(name, number, 0)
        if scope not in ("global", "layer"):
            raise invalid("scope", scope, "'global' or 'layer'")
        self.scope = scope
        self.components = components
        self.zero_proportion = zero_proportion
        self.merge = merge
        self._strength = tau / samples
        self._rates = tuple(rates.values())
        self._priors = mixture.Priors(**priors)
        self._pool = Pool()

    def make_projection(self, target):
        if not np.any(keras.ops.convert_to_numpy(target.variable.value)):
            raise invalid("targets", target.path, "weights that are not zero everywhere")
        pool = self._pool if self.scope == "global" else Pool()
        return MixturePrior(pool, self.components, self._strength, self._rates, self._priors)

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
                self._harden(entries, mixture.merge(mixture.gaussians(parameters), self.merge))

    def _harden(self, entries, gaussians):
        for entry in entries:
            index = mixture.assign(entry.read()[0], gaussians)
            projection = Shared(entry.target.path, self.components)
            shared = attachment.attach(self.model, entry.target, projection)
            value, state = shared.read()
            # Only what the tensor has of them: it may have fewer weights than there are means.
            used, index = np.unique(np.concatenate([[0], index.reshape(-1)]), return_inverse=True)
            index = index[1:].reshape(value.shape)
            shared.write(*projection.assign(value, state, gaussians.means[used[1:]], index))
            shared.fresh = False

    def measure(self, value, state):
        return np.mean(mixture.assign(value, mixture.gaussians(state["parameters"])) == 0)


def _check_pair(name, pair):
    if pair is None:
        return
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise invalid(name, pair, "None or a pair of positive numbers")
    for number in pair:
        check_number(name, number, 0)
