"""The weights of a SavedModel: which of them share a resource, and where their bytes lie."""

import os

import numpy as np
import tensorflow as tf

from tfcomp import coding
from tfcomp.exporters.decode import CODINGS
from tfcomp.exporters.resource import DecodedWeight

# Weights of fewer bytes than this share one resource: each costs two kilobytes of graph.
_SMALL = 4096
# Longer strings are files. What lies in the graph stays in memory as long as the model, and a graph
# may not exceed two gigabytes.
_INLINE = 1 << 16


class Weights:
    """Coded weights to be read within a traced function.

    Args:
        folder: Folder for the files that will become assets.
    """

    def __init__(self, folder):
        self._folder = folder
        self._single = []
        self._shared = {}
        self.resources, self.assets = [], []
        self.before = 0

    def _source(self, data):
        if len(data) <= _INLINE:
            return tf.constant(data)
        return tf.io.read_file(self._files[data].asset_path)

    def _store(self, array):
        coded = coding.encode(array, CODINGS)
        self._files = getattr(self, "_files", {})
        for data in _strings(coded):
            if len(data) > _INLINE and data not in self._files:
                path = os.path.join(self._folder, f"weights_{len(self.assets)}")
                with open(path, "wb") as file:
                    file.write(data)
                self._files[data] = tf.saved_model.Asset(path)
                self.assets.append(self._files[data])
        weight = DecodedWeight(f"weight_{len(self.resources)}", coded, self._source)
        self.resources.append(weight)
        return weight

    def add(self, variable, value):
        """Adds the value of a variable."""
        self.before += value.nbytes
        if value.nbytes < _SMALL:
            self._shared.setdefault(value.dtype.name, []).append((variable, value))
        else:
            self._single.append((variable, self._store(value)))

    def finish(self):
        """Stores the small weights that were added."""
        for dtype, pairs in self._shared.items():
            flat = np.concatenate([value.reshape(-1) for _, value in pairs])
            self._shared[dtype] = (self._store(flat), pairs)

    def read(self):
        """Reads all weights: a dict from `id(variable)` to a tensor."""
        values = {id(variable): weight.read() for variable, weight in self._single}
        for weight, pairs in self._shared.values():
            parts = [weight.read()]
            if len(pairs) > 1:
                parts = tf.split(parts[0], [value.size for _, value in pairs])
            for (variable, value), part in zip(pairs, parts):
                values[id(variable)] = part if value.ndim == 1 else tf.reshape(part, value.shape)
        return values


def _strings(coded):
    for part in coded.parts.values():
        if isinstance(part, coding.Coded):
            yield from _strings(part)
        else:
            yield part.data
