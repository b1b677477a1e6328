"""The weights of a SavedModel: variables that are decoded, and where their bytes lie."""

import hashlib
import os

import numpy as np
import tensorflow as tf

from tfcomp.exporters.decode import decode
from tfcomp.exporters.trace import Substitution, called
from tfcomp.keras_private import unsaved_variable
from tfcomp.storage import streams

# Weights of fewer bytes than this share one variable: each costs half a kilobyte of graph.
_SMALL = 4096
# Longer strings are files of their own, read when their turn comes; shorter ones share one.
_SHORT = 1 << 16


class Decoding(tf.saved_model.experimental.TrackableResource):
    """Something that both loaders of SavedModels run when they have made the variables.

    Args:
        run: Function without arguments or results.
    """

    def __init__(self, run):
        super().__init__()
        self._run = run

    def _create_resource(self):
        # Every resource has a handle. This one leads to nothing, and nothing asks for it.
        return tf.raw_ops.VarHandleOp(dtype=tf.bool, shape=[], shared_name="decoding")

    def _initialize(self):
        # Called as one op, which `compact` tells TensorFlow not to optimize: it runs once, and
        # optimizing it takes ten times as long as running it.
        called(self._run)()


class _Source:
    """Bytes for `decode`, within the function that decodes.

    Args:
        files: Dict from long strings to assets, and from `None` to that of the short ones.
        places: Dict from short strings to where they begin in it.
    """

    def __init__(self, files, places):
        self._files, self._places = files, places
        self._short = tf.io.read_file(files[None].asset_path) if places else None

    def is_file(self, data):
        return data not in self._places

    def strings(self, parts):
        if self.is_file(parts[0]):
            return tf.stack([self._files[data].asset_path for data in parts])
        begins = [self._places[data] for data in parts]
        return tf.strings.substr(self._short, begins, [len(data) for data in parts])


class Weights:
    """Coded weights to be read within traced functions.

    Each is a variable that no checkpoint holds: its value is decoded, and assigned, on loading.
    Those of the same values are one, whatever their shapes: a variable that is read costs a call a
    microsecond.

    Args:
        folder: Folder for the files that will become assets.
    """

    def __init__(self, folder):
        self._folder = folder
        self._files, self._short = {}, {}
        # What each key has, and where that is.
        self._contents, self._known, self._places = {}, set(), {}
        self._small, self._packs, self._makes = {}, [], []
        self.variables, self.assets = [], []
        self.before = 0

    # ---- bytes

    def _asset(self, data):
        path = os.path.join(self._folder, f"weights_{len(self.assets)}")
        with open(path, "wb") as file:
            file.write(data)
        self.assets.append(tf.saved_model.Asset(path))
        return self.assets[-1]

    def _packed(self, array):
        packed = streams(array)
        for data in (stream.data for stream in packed.all()):
            if len(data) <= _SHORT:
                self._short.setdefault(data, sum(map(len, self._short)))
            elif data not in self._files:
                self._files[data] = self._asset(data)
        self._packs.append(packed)
        return packed

    # ---- what there is

    def _hold(self, name, shape, dtype, make):
        variable = unsaved_variable(name, shape, dtype)
        self.variables.append(variable)
        self._makes.append(make)
        return variable

    def _store(self, name, array):
        packed = self._packed(array)
        return self._hold(name, array.shape, array.dtype, lambda decoded: decoded[id(packed)])

    def _is_new(self, key, content, shape):
        """Notes what a key has; returns whether no other has it."""
        is_new = content not in self._known
        self._known.add(content)
        self._contents[key] = content, shape
        return is_new

    def add(self, variable, value):
        """Adds the value of a variable."""
        self.before += value.nbytes
        self.add_array(id(variable), variable.path, value)

    def add_array(self, key, name, array):
        """Adds an array, to be read by its key, that of a variable or another."""
        content = _content(array)
        if not self._is_new(key, content, array.shape):
            return
        if array.nbytes < _SMALL:
            self._small.setdefault(array.dtype, []).append((content, array))
        else:
            self._places[content] = self._store(name, array), None

    def add_product(self, key, name, value, factor):
        """Adds the product of two arrays, to be read by its key.

        Both are stored, and multiplied on loading, once for all keys that have them.

        Args:
            key: As of `add_array`.
            name: Name of the product.
            value: Array.
            factor: Array that it is multiplied by.
        """
        # By a factor of other axes than the last, values of other shapes become other products.
        content = _content(value), value.shape, _content(factor), factor.shape
        if not self._is_new(key, content, value.shape):
            return
        parts = [self._packed(part) for part in (value, factor)]

        def make(decoded):
            first, second = (decoded[id(packed)] for packed in parts)
            return first * second

        self._places[content] = self._hold(name, value.shape, value.dtype, make), None

    def add_kernel(self, layer, values):
        """Adds the kernel of a layer that computes it from other variables, which are stored.

        Args:
            layer: A `tfcomp.layers.base.decoded.DecodedKernel`.
            values: The values of its `parts`.
        """
        self.before += sum(value.nbytes for value in values)
        parts = [(variable, self._packed(value)) for variable, value in zip(layer.parts, values)]
        dtype = layer.parts[0].dtype

        def make(decoded):
            stored = {id(variable): decoded[id(packed)] for variable, packed in parts}
            with Substitution(stored):
                return tf.cast(layer.decode(), dtype)

        held = self._hold(f"{layer.path}/kernel", layer.kernel_shape, dtype, make)
        self._contents[id(layer)] = id(layer), layer.kernel_shape
        self._places[id(layer)] = held, None

    def finish(self):
        """Stores the small weights that were added, and all short strings.

        Returns:
            The `Decoding` to be run on loading.
        """
        for dtype, pairs in self._small.items():
            flat = np.concatenate([value.reshape(-1) for _, value in pairs])
            held = self._store(f"small_{dtype.name}", flat)
            sizes = [value.size for _, value in pairs]
            for index, (content, _) in enumerate(pairs):
                self._places[content] = held, (sizes, index)
        if self._short:
            self._files[None] = self._asset(b"".join(self._short))
        return Decoding(self._decode_all)

    # ---- within functions

    def _decode_all(self):
        tensors = decode(self._packs, _Source(self._files, self._short))
        decoded = {id(packed): tensor for packed, tensor in zip(self._packs, tensors)}
        for variable, make in zip(self.variables, self._makes):
            variable.assign(make(decoded), read_value=False)

    def read(self, wanted):
        """Reads weights.

        Args:
            wanted: Set of ids of variables, of layers whose kernels were added, and of keys of
                arrays.

        Returns:
            Dict from these to tensors.
        """
        tensors, values = {}, {}
        for key in self._contents.keys() & wanted:
            content, shape = self._contents[key]
            held, part = self._places[content]
            if id(held) not in tensors:
                tensors[id(held)] = held.read_value()
                if part is not None and len(part[0]) > 1:
                    tensors[id(held)] = tf.split(tensors[id(held)], part[0])
            value = tensors[id(held)]
            if part is not None and len(part[0]) > 1:
                value = value[part[1]]
            values[key] = value if value.shape == shape else tf.reshape(value, shape)
        return values


def _content(array):
    """What arrays of the same values and dtype have in common."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return array.dtype.name, hashlib.blake2b(flat.view(np.uint8)).digest()
