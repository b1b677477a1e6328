"""Search by Hamming distance: packed codes, distances, and how good a ranking is."""

import numpy as np

from tfcomp.validation import check_integer, invalid


def pack_bits(codes):
    """Packs codes to one bit for each number.

    Args:
        codes: Array of shape `(n, bits)`; positive numbers become 1, all others 0.

    Returns:
        uint8 array of shape `(n, ceil(bits / 8))`, the first bit highest, filled up with zeros.

    Example:

    >>> import tfcomp
    >>> tfcomp.retrieval.pack_bits([[1, -1, 1, 1, -1, -1, -1, 1, 1]]).tolist()
    [[177, 128]]
    """
    codes = np.asarray(codes)
    if codes.ndim != 2:
        raise invalid("codes", codes.shape, "an array of shape (n, bits)")
    return np.packbits(codes > 0, axis=1)


def hamming_distances(queries, database):
    """Numbers of bits in which packed codes differ.

    Args:
        queries: uint8 array of shape `(q, bytes)`, as `pack_bits` makes it.
        database: uint8 array of shape `(n, bytes)`.

    Returns:
        int32 array of shape `(q, n)`.

    Raises:
        ValueError: If the codes are not packed, or of different lengths.
    """
    for name, packed in (("queries", queries), ("database", database)):
        if getattr(packed, "dtype", None) != np.uint8 or packed.ndim != 2:
            raise invalid(name, packed, "a uint8 array of shape (n, bytes); see `pack_bits`")
    if queries.shape[1] != database.shape[1]:
        raise invalid("database", database.shape, f"codes of {queries.shape[1]} bytes")
    queries, database = _words(queries), _words(database)
    distances = np.empty((len(queries), len(database)), np.int32)
    for row, query in zip(distances, queries):
        row[:] = np.bitwise_count(database ^ query).sum(axis=1)
    return distances


def _words(packed):
    """The bytes as 64-bit words."""
    missing = -packed.shape[1] % 8
    return np.ascontiguousarray(np.pad(packed, [(0, 0), (0, missing)])).view(np.uint64)


def mean_average_precision(distances, relevant, top=None):
    """Mean over the queries of the average precision of ranking a database by distance.

    Average precision is scikit-learn's `average_precision_score`, in which entries at the same
    distance are retrieved together: Hamming distances have few values, and the result does not
    depend on the order of the database. (`label_ranking_average_precision_score` averages over
    the relevant entries as well, but has no place for `top`.) A query without relevant entries
    counts as 0.

    Args:
        distances: Array of shape `(q, n)`, smallest first in the ranking.
        relevant: Boolean array of the same shape.
        top: How many of each ranking count, for mean average precision at `top`; `None` for all.
            Entries tied at the end are taken in their order.

    Raises:
        ValueError: If the shapes differ, or `top` is not a positive integer.

    Example:

    >>> import tfcomp
    >>> tfcomp.retrieval.mean_average_precision([[0, 1, 2]], [[True, False, True]])
    0.8333333333333333
    """
    from sklearn.metrics import average_precision_score

    distances, relevant = np.asarray(distances), np.asarray(relevant, bool)
    if distances.ndim != 2 or distances.shape != relevant.shape:
        raise invalid("relevant", relevant.shape, f"an array of shape {distances.shape}")
    if top is not None:
        top = check_integer("top", top, 1)
    scores = []
    for distance, good in zip(distances, relevant):
        if top is not None:
            first = np.argsort(distance, kind="stable")[:top]
            distance, good = distance[first], good[first]
        scores.append(average_precision_score(good, -distance) if good.any() else 0.0)
    return float(np.mean(scores))
