"""Batches of inputs from whatever a user has."""

import keras

from tfcomp.validation import check_integer, invalid


def batches(data, batch_size=32, argument="data"):
    """Yields batches of model inputs, and of targets where there are any.

    Args:
        data: An array or a structure of arrays, all as long; or an iterable, such as a
            `tf.data.Dataset` or a `keras.utils.PyDataset`, of batches `x` or `(x, y)`.
        batch_size: Samples in a batch of arrays.
        argument: Name of the argument, for error messages.

    Yields:
        Pairs `(x, y)`, where `y` may be `None`.

    Raises:
        ValueError: If there is not one batch.
    """
    batch_size = check_integer("batch_size", batch_size, 1)
    one = None
    for one in _pairs(data, batch_size, argument):
        yield one
    if one is None:
        raise invalid(argument, data, "at least one sample")


def keywords(data, batch_size):
    """How `fit` and `evaluate` take data: a tuple of arrays by name, a dataset as it is.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)`, or a dataset of batches.
        batch_size: Samples in a batch of arrays.

    Returns:
        Dict of keyword arguments.
    """
    if isinstance(data, tuple):
        return {**dict(zip(("x", "y", "sample_weight"), data)), "batch_size": batch_size}
    return {"x": data}


def _pairs(data, batch_size, argument):
    if hasattr(data, "shape") or isinstance(data, dict):
        data = (data,)
    if isinstance(data, tuple):
        data = tuple(part for part in data if part is not None)
        lengths = {len(leaf) for leaf in keras.tree.flatten(data)}
        if len(lengths) != 1:
            raise invalid(argument, lengths, "arrays of one length")
        for begin in range(0, lengths.pop(), batch_size):
            part = slice(begin, begin + batch_size)
            yield _split(keras.tree.map_structure(lambda leaf, part=part: leaf[part], data))
    elif isinstance(data, keras.utils.PyDataset):
        for index in range(data.num_batches):
            yield _split(data[index])
    elif hasattr(data, "__next__"):
        raise invalid(argument, data, "data that can be gone through more than once")
    elif hasattr(data, "__iter__") and not isinstance(data, (list, str)):
        for batch in data:
            yield _split(batch)
    else:
        raise invalid(argument, type(data).__name__, "arrays, a tuple `(x, y)`, or a dataset")


def _split(batch):
    if isinstance(batch, tuple):
        return (batch[0], batch[1] if len(batch) > 1 else None)
    return batch, None
