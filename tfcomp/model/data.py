"""Batches of inputs from whatever `fit` and `predict` take."""

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.validation import check_integer, invalid


class Batches:
    """Batches of a model's inputs, to be gone through as often as need be.

    Tuples are read by what the model takes: `(a, b)` are two inputs to a model of two, else `x` and
    `y`.

    Args:
        model: The built model that is to take them.
        data: An array or a structure of arrays, all as long; a tuple of it with targets and sample
            weights; or batches of the same: a `tf.data.Dataset`, a `keras.utils.PyDataset`, a torch
            `DataLoader`, any other iterable, or a generator that ends, whose batches are kept.
        batch_size: Samples in a batch, where `data` are arrays.
        argument: Name of the argument, for error messages.

    Raises:
        ValueError: If `data` are nothing of this kind, or endless. Where the model does not take a
            batch, or there is none, when they are gone through.
    """

    def __init__(self, model, data, batch_size=32, argument="data"):
        self._batch_size = check_integer("batch_size", batch_size, 1)
        self._argument = argument
        self._width = _inputs_of(model)
        self._strict = keras_private.is_functional(model)
        self._arrays = not isinstance(data, keras.utils.PyDataset) and _are_arrays(data)
        if hasattr(data, "__next__"):
            data = _Kept(data)
        self._data = data
        self._check()

    def _check(self):
        data = self._data
        if self._arrays:
            parts = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
            lengths = sorted({leaf.shape[0] if leaf.shape else 0 for leaf in parts})
            if len(lengths) != 1:
                raise invalid(self._argument, lengths, "arrays of one length")
            self._parts()
        elif isinstance(data, (list, tuple, dict, str)) or not (
            hasattr(data, "__iter__") or isinstance(data, keras.utils.PyDataset)
        ):
            expected = "arrays, a tuple `(x, y)`, or batches of them"
            raise invalid(self._argument, type(data).__name__, expected)
        elif _is_endless(data):
            raise invalid(self._argument, data, "data that end, those of `take(n)` for example")

    def __iter__(self):
        """Yields the inputs of each batch, as tensors."""
        found = False
        for x in self._inputs():
            found = True
            yield keras.tree.map_structure(_tensor, x, none_is_leaf=False)
        if not found:
            raise invalid(self._argument, self._data, "at least one sample")

    def first(self):
        """The inputs of the first batch; it raises what going through them would."""
        return next(iter(self))

    def keywords(self):
        """How `fit` and `evaluate` take the data: arrays by name, batches as they are.

        Returns:
            Dict of keyword arguments.
        """
        if self._arrays:
            named = dict(zip(("x", "y", "sample_weight"), self._parts()))
            return {**named, "batch_size": self._batch_size}
        return {"x": _Listed(list(self._data)) if isinstance(self._data, _Kept) else self._data}

    def _inputs(self):
        if self._arrays:
            return keras_private.array_batches(self._parts()[0], self._batch_size)
        batches = self._data
        if isinstance(batches, keras.utils.PyDataset):
            batches = map(batches.__getitem__, range(batches.num_batches))
        # As in Keras, a batch that is a list is one that is a tuple.
        batches = (tuple(batch) if isinstance(batch, list) else batch for batch in batches)
        return (self._split(batch)[0] for batch in batches)

    def _parts(self):
        return self._split(self._data)

    def _split(self, data):
        """`(x,)`, `(x, y)` or `(x, y, sample_weight)` of arrays or of a batch."""
        parts = data if isinstance(data, tuple) else (data,)
        if parts and len(parts) <= 3 and self._suits(parts[0]):
            return parts
        given = parts
        while given and given[-1] is None:
            given = given[:-1]
        for whole in (parts, given):
            if len(whole) > 1 and self._suits(whole):
                return (whole,)
        if not self._strict and 0 < len(parts) <= 3:
            # What it was called with before need not be all that it takes.
            return parts
        expected = f"`x` or `(x, y)`, where `x` are {self._width or 'the'} inputs of the model"
        raise invalid(self._argument, _shapes(data), expected)

    def _suits(self, x):
        if self._width is None:
            return x is not None
        size = len(keras.tree.flatten(x))
        return size >= self._width if isinstance(x, dict) else size == self._width


class _Kept:
    """What an iterator yields, to be gone through more than once."""

    def __init__(self, iterator):
        self._iterator, self._kept = iterator, []

    def __iter__(self):
        yield from self._kept
        for item in self._iterator:
            # A generator may fill the same array again and again.
            self._kept.append(keras.tree.map_structure(_copied, item, none_is_leaf=False))
            yield self._kept[-1]


class _Listed(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self._batches = batches

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        batch = self._batches[index]
        return tuple(batch) if isinstance(batch, (list, tuple)) else (batch,)


def _inputs_of(model):
    """How many arrays the inputs of a model are, or `None` where that is not known."""
    try:
        return len(keras.tree.flatten(keras_private.input_signature(model)[0]))
    except (ValueError, TypeError, IndexError):
        # It was never called, or has only been built.
        return None


def _are_arrays(data):
    leaves = [leaf for leaf in keras.tree.flatten(data) if leaf is not None]
    return bool(leaves) and all(
        hasattr(leaf, "__array__") or hasattr(leaf, "shape") for leaf in leaves
    )


def _is_endless(data):
    if isinstance(data, keras.utils.PyDataset):
        return data.num_batches is None
    # A `tf.data.Dataset` says -1.
    return hasattr(data, "cardinality") and int(data.cardinality()) == -1


def _shapes(structure):
    return keras.tree.map_structure(
        lambda leaf: tuple(leaf.shape) if hasattr(leaf, "shape") else type(leaf).__name__, structure
    )


def _copied(leaf):
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _tensor(leaf):
    """As `predict` has it: of bare arrays some models say that their structure is another."""
    words = getattr(getattr(leaf, "dtype", None), "kind", "") in ("O", "S", "U")
    if words and keras.backend.backend() != "tensorflow":
        return leaf
    composite = keras.backend.backend() == "tensorflow" and keras.ops.is_tensor(leaf)
    return leaf if composite else keras.ops.convert_to_tensor(leaf)
