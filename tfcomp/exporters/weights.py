"""The weights of a SavedModel: which of them share a resource, and where their bytes lie."""

import os

import numpy as np
import tensorflow as tf

from tfcomp.exporters.decode import decode
from tfcomp.exporters.resource import DecodedWeight
from tfcomp.exporters.trace import Substitution
from tfcomp.storage import streams

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
        self._files = {}
        self._single = []
        self._shared = {}
        self.resources, self.assets = [], []
        self.before = 0

    def _source(self, data):
        if len(data) <= _INLINE:
            return tf.constant(data)
        return tf.io.read_file(self._files[data].asset_path)

    def _packed(self, array):
        packed = streams(array)
        for data in (stream.data for stream in packed.all()):
            if len(data) > _INLINE and data not in self._files:
                path = os.path.join(self._folder, f"weights_{len(self.assets)}")
                with open(path, "wb") as file:
                    file.write(data)
                self._files[data] = tf.saved_model.Asset(path)
                self.assets.append(self._files[data])
        return packed

    def _resource(self, shape, dtype, make):
        weight = DecodedWeight(f"weight_{len(self.resources)}", shape, dtype, make)
        self.resources.append(weight)
        return weight

    def _store(self, array):
        packed = self._packed(array)
        return self._resource(packed.shape, packed.dtype, lambda: decode(packed, self._source))

    def add(self, variable, value):
        """Adds the value of a variable."""
        self.before += value.nbytes
        if value.nbytes < _SMALL:
            self._shared.setdefault(value.dtype.name, []).append((variable, value))
        else:
            self._single.append((variable, self._store(value)))

    def add_kernel(self, layer, values):
        """Adds the kernel of a layer that computes it from other variables, which are stored.

        Args:
            layer: A `tfcomp.layers.base.decoded.DecodedKernel`.
            values: The values of its `parts`.
        """
        self.before += sum(value.nbytes for value in values)
        parts = [(variable, self._packed(value)) for variable, value in zip(layer.parts, values)]
        dtype = layer.parts[0].dtype

        def make():
            stored = {id(variable): decode(packed, self._source) for variable, packed in parts}
            with Substitution(stored):
                return tf.cast(layer.decode(), dtype)

        self._single.append((layer, self._resource(layer.kernel_shape, dtype, make)))

    def finish(self):
        """Stores the small weights that were added."""
        for dtype, pairs in self._shared.items():
            flat = np.concatenate([value.reshape(-1) for _, value in pairs])
            self._shared[dtype] = (self._store(flat), pairs)

    def read(self):
        """Reads all weights: a dict to tensors from the ids of variables, and of layers."""
        values = {id(owner): weight.read() for owner, weight in self._single}
        for weight, pairs in self._shared.values():
            parts = [weight.read()]
            if len(pairs) > 1:
                parts = tf.split(parts[0], [value.size for _, value in pairs])
            for (variable, value), part in zip(pairs, parts):
                values[id(variable)] = part if value.ndim == 1 else tf.reshape(part, value.shape)
        return values
