"""Weight sharing with trained centroids.

Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural Networks with
Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.
"""

import math

import keras
import numpy as np

from tfcomp import schedules
from tfcomp.core.callback import ProjectionCallback
from tfcomp.core.options import options_of
from tfcomp.core.projection import Projection, is_rows
from tfcomp.methods.deep_compression.kmeans import INITS, kmeans
from tfcomp.validation import check_integer, invalid


class Shared(Projection):
    """Each weight is the centroid of its cluster, or zero; centroids train, assignments stay.

    The optimizer sees a tensor that holds each centroid once, at a weight that stands for its
    cluster, with the gradient `dL/dC_k = Σ dL/dW_ij 1(I_ij = k)`, and zeros elsewhere. So a
    centroid moves as a variable of its own would, with the optimizer's memory of past gradients,
    weight decay and clipping by norm. Of an embedding, whose gradient is rows, it sees the rows
    that these weights are in.

    State: `codebook`, the centroids after an entry that is zero; `index`, the entry of each weight;
    `member`, the weight that stands for each cluster; `active`, false until the first update.

    Args:
        path: Path of the variable, for error messages.
        clusters: At most so many values other than zero.
        init: Where k-means begins, see `tfcomp.methods.deep_compression.kmeans`.
        seed: Seed of the initialisation `"random"`.
    """

    kind = "shared"
    takes_rows = True

    def __init__(self, path, clusters, init="linear", seed=0):
        self.path = path
        self.clusters = clusters
        self.init_by = init
        self.seed = seed

    def init(self, value):
        entries = min(self.clusters, value.size) + 1
        return {
            "codebook": np.zeros(entries, value.dtype),
            # TensorFlow sends no shorter integers from one process to others.
            "index": np.zeros(value.shape, np.int32),
            "member": np.zeros(entries, np.int32),
            "active": np.zeros((), bool),
        }

    def adopt(self, value, state):
        """Other weights have no clusters yet."""
        shown = np.where(value == 0, 0, state["codebook"][state["index"]])
        return state if np.array_equal(value, shown) else self.init(value)

    def before(self, gradient, value, state):
        ops, active = keras.ops, state["active"]
        if is_rows(gradient):
            # What the others have for values is written over: no pass over all of them.
            return self._rows(gradient, value, state), value, state
        sums = self._sums(gradient, value, state["index"], state["codebook"].shape[0])
        sums = ops.cast(sums, gradient.dtype)
        seen, once = self._once(sums, state), self._once(self._centroids(value, state), state)
        return ops.where(active, seen, gradient), ops.where(active, once, value), state

    def _sums(self, gradient, value, index, entries):
        """The gradient of each centroid."""
        ops = keras.ops
        # Zero is no cluster, and what was pruned since has left its own.
        own = ops.cast(ops.where(value != 0, gradient, 0.0), _accumulator(gradient))
        index = ops.cast(ops.reshape(index, (-1,)), "int32")
        return ops.segment_sum(ops.reshape(own, (-1,)), index, entries)

    def _rows(self, gradient, value, state):
        """Rows that hold the gradient of each centroid, where sharing has begun."""
        ops, values, rows = keras.ops, gradient.values, gradient.indices
        of_rows = (ops.take(each, rows, axis=0) for each in (value, state["index"]))
        sums = self._sums(values, *of_rows, state["codebook"].shape[0])
        shape = state["index"].shape
        width = math.prod(shape[1:])
        once = ops.one_hot(state["member"] % width, width, dtype=values.dtype)
        once = ops.reshape(once * ops.cast(sums, values.dtype)[:, None], (-1, *shape[1:]))
        active, members = state["active"], ops.cast(state["member"] // width, rows.dtype)
        both = [ops.where(active, 0.0, values), ops.where(active, once, 0.0)]
        rows = ops.concatenate([rows, members])
        return type(gradient)(ops.concatenate(both), rows, gradient.dense_shape)

    def _once(self, numbers, state):
        """A tensor of the shape of the weights with each number at one weight of its cluster."""
        shape = state["index"].shape
        return keras.ops.reshape(
            keras.ops.segment_sum(numbers, state["member"], math.prod(shape)), shape
        )

    def _centroids(self, value, state):
        """The codebook of a value: that of an earlier epoch may have been restored."""
        ops, codebook = keras.ops, state["codebook"]
        moved = ops.take(ops.reshape(value, (-1,)), state["member"])
        # Entry 0 is zero, and so are those without a cluster. In a value that somebody has set, a
        # weight that stands for others may be pruned.
        return ops.where(ops.logical_and(codebook != 0, moved != 0), moved, codebook)

    def after(self, value, state):
        ops, codebook = keras.ops, self._centroids(value, state)
        # Read from one place, so that the members of a cluster agree to the last bit.
        shown = ops.cond(
            state["active"],
            lambda: ops.take(codebook, ops.cast(state["index"], "int32")),
            lambda: value,
        )
        return shown, {**state, "codebook": codebook}

    def update(self, value, state, amount):
        """Finds the clusters; they are found once."""
        if state["active"]:
            return value, state
        alive = value != 0
        if not alive.any():
            raise ValueError(
                f"All of {self.path} is zero, so there is nothing to share. Train the model first, "
                "or leave this weight out of `targets`."
            )
        weights = value[alive].astype(np.promote_types(value.dtype, np.float32), copy=False)
        centroids, clusters = kmeans(weights, self.clusters, self.init_by, self.seed)
        index = np.zeros(value.shape, np.int32)
        index[alive] = clusters + 1
        return self.assign(value, state, centroids, index)

    def assign(self, value, state, centroids, index):
        """The value and state of given clusters.

        Args:
            value: Numpy array.
            state: Dict of numpy arrays, as `init` made it.
            centroids: Array of at most `clusters` numbers.
            index: Array of the shape of `value`, 0 for zero and `k` for `centroids[k - 1]`.
        """
        codebook = np.zeros_like(state["codebook"])
        codebook[1 : 1 + len(centroids)] = centroids
        # A centroid that comes to zero prunes its cluster.
        index = np.where(codebook[index] == 0, 0, index).astype(state["index"].dtype)
        member = np.zeros_like(state["member"])
        # From the last to the first, which stays.
        member[index.reshape(-1)[::-1]] = np.arange(index.size)[::-1]
        new = {"codebook": codebook, "index": index, "member": member, "active": np.bool_(True)}
        return codebook[index], new


def _accumulator(tensor):
    """Sums of half precision are taken in single precision."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype


class WeightSharing(ProjectionCallback):
    """Replaces weights by the centroids of few clusters, and trains the centroids.

    When `fit` begins, k-means divides the weights of each tensor that are not zero into clusters.
    From then on the members of a cluster have one value, to the last bit; its gradient is the sum
    of theirs, and the optimizer moves it as it would move a variable of its own. Which weight is in
    which cluster stays as it is. Zeros stay zero, so sharing follows on pruning. `logs` gets
    `quantized` and `quantized/<path>`, 1 from `begin_step` on.

    Start from a trained model, compiled anew: the gradient of a centroid is as large as its
    cluster, so plain SGD wants a learning rate smaller by orders of magnitude; Adam and its like
    only want that of fine-tuning.

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
        optimizer: See `ProjectionCallback`.

    Raises:
        ValueError: For an argument that cannot be used; while attaching, if the model is not
            built and compiled, if `targets` matches nothing, or if a weight contains NaN; when
            sharing begins, if a weight is zero everywhere.

    Reference:
        Song Han, Huizi Mao, William J. Dally, "Deep Compression: Compressing Deep Neural Networks
        with Pruning, Trained Quantization and Huffman Coding", arXiv:1510.00149.

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
        optimizer=None,
    ):
        super().__init__(targets=targets, optimizer=optimizer, verbose=verbose)
        self.bits, self.clusters, self.init = bits, clusters, init
        self.begin_step = check_integer("begin_step", begin_step, 0)
        self.seed = check_integer("seed", seed, 0)
        self._schedule = schedules.StepPortions([self.begin_step], [1.0])
        self._shared("", options_of(self, {}))

    def _shared(self, path, options):
        return Shared(path, _clusters(options), _check_init(options["init"]), self.seed)

    def make_projection(self, target):
        options = target.options
        if {"bits", "clusters"} & set(options):
            options = {"bits": None, "clusters": None, **options}
        return self._shared(target.path, options_of(self, options))

    def make_schedule(self, target, run):
        return self._schedule

    def measure(self, value, state):
        return np.mean(state["active"])


def _clusters(options):
    bits, clusters = options["bits"], options["clusters"]
    if (bits is None) == (clusters is None):
        raise invalid("bits", bits, f"either `bits` or `clusters` (which is {clusters!r})")
    name, number, most = ("bits", bits, 16) if clusters is None else ("clusters", clusters, 1 << 16)
    number = check_integer(name, number, 1, most)
    return 2**number if clusters is None else number


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
