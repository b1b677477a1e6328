"""Weight sharing with trained centroids.

Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural Networks with
Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.
"""

import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.methods.deep_compression._shared import Shared
from tfcomp.methods.deep_compression.kmeans import INITS
from tfcomp.validation import check_number, invalid


class WeightSharing(ProjectionCallback):
    """Replaces weights by the centroids of few clusters, and trains the centroids.

    When `fit` begins, k-means divides the weights of each tensor that are not zero into clusters.
    From then on the members of a cluster have one value, to the last bit; its gradient is the sum
    of theirs, and the optimizer moves it as it would move a variable of its own. Which weight is in
    which cluster stays as it is. Zeros stay zero, so sharing follows on pruning. `logs` gets
    `quantized` and `quantized/<path>`, 1 from `begin_step` on.

    Start from a trained model, compiled anew: the gradient of a centroid is as large as its
    cluster, so plain SGD wants a learning rate smaller by orders of magnitude, and clipping by norm
    sees a larger one; Adam and its like only want that of fine-tuning.

    A later `fit` keeps clusters and trains centroids. A killed run resumed by
    `keras.callbacks.BackupAndRestore` goes on bit for bit. After loading a `.keras` file a new
    callback finds the same clusters, as long as no two centroids have become one.

    Args:
        bits: Bits that tell the clusters of a tensor apart, 1 to 16: `2 ** bits` values beside
            zero. The paper takes 8 for convolutions and 5 for dense layers.
        clusters: How many clusters, 1 to 65,536, in place of `bits`.
        init: Where k-means begins: `"linear"` (the paper's choice), `"density"`, `"random"`, or
            `"optimal"` for the clusters of least squared error, which are exact up to 65,536
            weights (needs `pip install tfcomp[sharing]`).
        begin_step: Optimizer step at which weights are shared.
        seed: Seed of `init="random"`.
        targets: Which weights, in any form `tfcomp.targets.find` takes; `None` for every
            kernel-like weight. In a dict, `bits`, `clusters` and `init` can be overridden.
        verbose: 1 to print a line when weights are shared.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN; when
            sharing begins, if a weight is zero everywhere.

    Example:

    >>> import keras, numpy as np, tfcomp
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(16)])
    >>> model.compile("adam", "mse")
    >>> _ = model.fit(
    ...     np.ones((16, 8)), np.ones((16, 16)), verbose=0,
    ...     callbacks=[tfcomp.callbacks.WeightSharing(bits=2)],
    ... )
    >>> len(np.unique(model.layers[0].kernel.numpy()))
    4
    """

    overrides = ("bits", "clusters", "init")
    measures = "quantized"

    def __init__(
        self,
        bits=None,
        clusters=None,
        init="linear",
        begin_step=0,
        seed=0,
        targets=None,
        verbose=0,
    ):
        super().__init__(targets=targets, verbose=verbose)
        check_number("begin_step", begin_step, 0)
        self._options = {"bits": bits, "clusters": clusters, "init": init}
        self.seed = seed
        self._schedule = schedules.StepPortions([begin_step], [1.0])
        self._shared("", self._options)

    def _shared(self, path, options):
        return Shared(path, _clusters(options), _check_init(options["init"]), self.seed)

    def make_projection(self, target):
        given = self._options
        if {"bits", "clusters"} & set(target.options):
            given = {**given, "bits": None, "clusters": None}
        return self._shared(target.path, {**given, **target.options})

    def make_schedule(self, target, run):
        return self._schedule

    def measure(self, value, state):
        return np.mean(state["active"])


def _clusters(options):
    bits, clusters = options["bits"], options["clusters"]
    if (bits is None) == (clusters is None):
        raise invalid("bits", bits, f"either `bits` or `clusters` (which is {clusters!r})")
    name, number, most = ("bits", bits, 16) if clusters is None else ("clusters", clusters, 1 << 16)
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
        raise invalid(name, number, f"an integer from 1 to {most}")
    return clusters or 2**bits


def _check_init(init):
    if init not in INITS:
        raise invalid("init", init, f"one of {list(INITS)}")
    if init == "optimal":
        try:
            import kmeans1d  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "init='optimal' needs kmeans1d: pip install tfcomp[sharing]"
            ) from error
    return init
