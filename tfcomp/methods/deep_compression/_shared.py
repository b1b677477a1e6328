"""Weights that share few values, which are trained.

Song Han et al., "Deep Compression", arXiv:1510.00149.
"""

import keras
import numpy as np

from tfcomp.core.projection import Projection
from tfcomp.methods.deep_compression.kmeans import kmeans


class Shared(Projection):
    """Each weight is the centroid of its cluster, or zero; centroids train, assignments stay.

    A centroid moves as the optimizer would move one variable whose gradient is the sum over the
    cluster: every member is given that gradient, so the update of any one of them is the
    centroid's, the optimizer's own memory of past gradients included.

    State: `codebook`, the centroids after an entry that is zero; `index`, the entry of each weight;
    `member`, a weight of each cluster, whose update counts; `active`, false until the first
    update.

    Args:
        path: Path of the variable, for error messages.
        clusters: At most so many values other than zero.
        init: Where k-means begins, see `tfcomp.methods.deep_compression.kmeans`.
        seed: Seed of the initialisation `"random"`.
    """

    kind = "shared"
    needs_gradient = True

    def __init__(self, path, clusters, init="linear", seed=0):
        self.path = path
        self.clusters = clusters
        self.init_by = init
        self.seed = seed

    def init(self, value):
        entries = min(self.clusters, value.size) + 1
        return {
            "codebook": np.zeros(entries, value.dtype),
            "index": np.zeros(value.shape, np.int32),
            "member": np.zeros(entries, np.int32),
            "active": np.zeros((), bool),
        }

    def transform_gradient(self, gradient, value, state):
        """`dL/dC_k = Σ dL/dW_ij 1(I_ij = k)`, for each member."""
        ops, index = keras.ops, state["index"]
        # Zero is no cluster, and what was pruned since has left its own.
        own = ops.cast(ops.where(value == 0, 0.0, gradient), _accumulator(gradient))
        sums = ops.segment_sum(
            ops.reshape(own, (-1,)), ops.reshape(index, (-1,)), state["codebook"].shape[0]
        )
        shared = ops.cast(ops.take(sums, index), gradient.dtype)
        return ops.where(state["active"], shared, gradient)

    def observe(self, before, gradient, value, state):
        ops, codebook = keras.ops, state["codebook"]
        old, new = (ops.take(ops.reshape(v, (-1,)), state["member"]) for v in (before, value))
        # The optimizer has seen zero where a member is pruned, so `new` is its change.
        moved = ops.where(old == 0, codebook + new, new)
        centroid = ops.arange(codebook.shape[0]) > 0
        return {**state, "codebook": ops.where(centroid, moved, codebook)}

    def __call__(self, value, state):
        # Read from one place, so that the members of a cluster agree to the last bit.
        shown = keras.ops.take(state["codebook"], state["index"])
        return keras.ops.where(state["active"], shown, value), state

    def settle(self, value, state):
        if not state["active"]:
            return value
        own = value.reshape(-1)[state["member"]]
        codebook = np.where(own == 0, state["codebook"], own)
        codebook[0] = 0
        return codebook[state["index"]]

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
        index = np.where(codebook[index] == 0, 0, index).astype(np.int32)
        member = np.zeros_like(state["member"])
        # From the last to the first, which stays.
        member[index.reshape(-1)[::-1]] = np.arange(index.size)[::-1]
        new = {"codebook": codebook, "index": index, "member": member, "active": np.bool_(True)}
        return codebook[index], new


def _accumulator(tensor):
    """Sums of half precision are taken in single precision."""
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    return "float32" if dtype in ("float16", "bfloat16") else dtype
