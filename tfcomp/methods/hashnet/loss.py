"""Losses on pairs of samples.

Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.
"""

import keras
from keras import ops

from tfcomp.validation import check_number, invalid


def similarity(labels):
    """Similarity of all pairs of samples: 0 where they share no label, else how much they share.

    Args:
        labels: Class indices of shape `(n,)` or `(n, 1)`; or ones and zeros `(n, classes)`,
            where a sample may be of several classes.

    Returns:
        Tensor of shape `(n, n)`: the Jaccard index of the two sets of labels, 1 for equal classes.
    """
    labels = ops.cast(labels, "float32")
    if len(labels.shape) == 1 or labels.shape[-1] == 1:
        labels = ops.reshape(labels, (-1, 1))
        return ops.cast(ops.equal(labels, ops.transpose(labels)), "float32")
    shared = ops.matmul(labels, ops.transpose(labels))
    counts = ops.sum(labels, axis=1, keepdims=True)
    return shared / ops.maximum(counts + ops.transpose(counts) - shared, 1.0)


def pairwise_loss(labels, codes, alpha):
    """Weighted negative log-likelihood of the similarities of all pairs of different samples.

    With `θ_ij = α ⟨h_i, h_j⟩` and `s_ij = 1` where samples share a label, a pair costs
    `w_ij (log(1 + exp(θ_ij)) - s_ij θ_ij)`. Its weight is `|S| / |S_1|` for similar pairs, times
    their Jaccard index, and `|S| / |S_0|` for dissimilar ones, over the pairs in the batch.

    Args:
        labels: See `similarity`.
        codes: Tensor of shape `(n, bits)`.
        alpha: `α`.

    Returns:
        Tensor of shape `(n,)`, each sample's mean over its pairs.
    """
    shared = similarity(labels)
    similar = ops.cast(shared > 0, "float32")
    others = 1.0 - ops.eye(ops.shape(codes)[0], dtype="float32")
    pairs = ops.sum(others)
    matches = ops.sum(similar * others)
    weight = similar * shared * (pairs / ops.maximum(matches, 1.0))
    weight = weight + (1.0 - similar) * (pairs / ops.maximum(pairs - matches, 1.0))
    theta = alpha * ops.matmul(codes, ops.transpose(codes))
    cost = others * weight * ops.cast(ops.softplus(theta) - similar * theta, "float32")
    return ops.sum(cost, axis=1) / ops.maximum(ops.sum(others, axis=1), 1.0)


@keras.saving.register_keras_serializable("tfcomp")
class WeightedPairwise(keras.losses.Loss):
    """Teaches codes to have large inner products where samples share a label, and small ones else.

    Similar pairs are rare: each kind of pair is weighed by its share in the batch. The value
    is the mean over all pairs of different samples in a batch, so batches should hold several
    samples of a class.

    Args:
        alpha: Factor of inner products. `None` for `10 / bits`, which keeps the probabilities of
            pairs from saturating.
        **kwargs: Those of `keras.losses.Loss`.

    Raises:
        ValueError: If `alpha` is not a positive number.

    Reference:
        Zhangjie Cao et al., "HashNet: Deep Learning to Hash by Continuation", arXiv:1702.00758.

    Example:

    >>> import numpy as np, tfcomp
    >>> loss = tfcomp.losses.WeightedPairwise(alpha=1.0)
    >>> codes = np.array([[1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]], "float32")
    >>> good, bad = loss([0, 0, 1], codes), loss([0, 1, 1], codes)
    >>> round(float(good), 3), round(float(bad), 3)
    (0.254, 3.254)
    """

    def __init__(self, alpha=None, name="weighted_pairwise", **kwargs):
        super().__init__(name=name, **kwargs)
        if alpha is not None:
            check_number("alpha", alpha)
            if alpha <= 0:
                raise invalid("alpha", alpha, "None or a positive number")
        self.alpha = alpha

    def call(self, y_true, y_pred):
        alpha = 10 / y_pred.shape[-1] if self.alpha is None else self.alpha
        return pairwise_loss(y_true, y_pred, alpha)

    def get_config(self):
        return {**super().get_config(), "alpha": self.alpha}
