"""The bytes of an archive.

    archive := magic, version: u8, entropy coder: u8, header: stream, record for each weight,
               stream for each asset, BLAKE2b of all bytes before it: 16 bytes
    record  := size: varint, tensor as in `tfcomp.storage.record`
    header  := JSON: {"keras": version, "config": the model's config as Keras has it,
               "state": {path: [[name, dtype, shape], ...], ...}, "assets": [path, ...]}

Streams of bytes are as in `tfcomp.storage.stream`. Neither the time nor the machine is stored: a
model gives the same bytes whenever it is saved.
"""

import hashlib
import json
import math
from typing import Any, NamedTuple

import ml_dtypes  # noqa: F401  (teaches numpy the names bfloat16 and float8_*)
import numpy as np

from tfcomp.storage import record, stream
from tfcomp.storage.reader import Reader, varint

MAGIC = b"\x89TFC\r\n\x1a\n"
VERSION = 1
MAX_BYTES = 1 << 33
# By their number in the file.
CODINGS = ("ans", "huffman")
_DIGEST = 16
_MAX_RANK = 32
# A JSON of this many bytes has the configs of ten thousand layers.
_MAX_HEADER = 1 << 27


class ArchiveError(ValueError):
    """A file is no archive, is damaged, or holds a model that cannot be built."""


class Contents(NamedTuple):
    """What an archive holds.

    Attributes:
        keras_version: Version of the Keras that the config comes from.
        config: The model's config as JSON.
        state: Dict from the path of a Keras object to a dict from names to numpy arrays.
        assets: Dict from the path of a file to its bytes.
    """

    keras_version: str
    config: str
    state: dict
    assets: dict


class Entry(NamedTuple):
    """A weight in an archive.

    Attributes:
        path: Path of the Keras object that owns it.
        name: Name of the weight there.
        shape: Its shape.
        dtype: Its numpy dtype.
        data: The record, a memoryview.
    """

    path: str
    name: str
    shape: tuple
    dtype: Any
    data: memoryview


def _digest(data):
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()


def _packed(data):
    return stream.to_bytes(stream.pack(np.frombuffer(data, np.uint8), [("words", 1)]))


def _check_path(path):
    """Raises unless a path or name of a weight or a file stays in the folder that it begins in."""
    parts = path.replace("\\", "/").split("/")
    if ".." in parts or (len(parts) > 1 and not parts[0]) or ":" in parts[0]:
        raise ValueError(f"The path {path!r} in the archive leads out of its folder.")


def to_bytes(contents, coding="ans"):
    """Returns the archive.

    Args:
        contents: `Contents`.
        coding: Name of the entropy coder.

    Raises:
        ValueError: If the path of a weight or a file leads out of its folder.
    """
    names = [name for group in contents.state.values() for name in group]
    for path in [*contents.state, *contents.assets, *names]:
        _check_path(path)
    state = {
        path: [[name, value.dtype.name, list(value.shape)] for name, value in group.items()]
        for path, group in contents.state.items()
    }
    header = {
        "keras": contents.keras_version,
        "config": json.loads(contents.config),
        "state": state,
        "assets": list(contents.assets),
    }
    header = json.dumps(header, separators=(",", ":")).encode()
    parts = [MAGIC, bytes([VERSION, CODINGS.index(coding)]), _packed(header)]
    for group in contents.state.values():
        for value in group.values():
            data = record.encode(value, coding)
            parts += [varint(len(data)), data]
    parts += [_packed(data) for data in contents.assets.values()]
    body = b"".join(parts)
    return body + _digest(body)


def _unpacked(reader, what, most):
    packed = stream.read(reader)
    if (packed.layout, packed.width) != ("words", 1):
        raise ValueError(f"Damaged {what}: it does not consist of bytes.")
    if packed.count > most:
        raise ValueError(f"The {what} declares {packed.count} bytes, over the limit of {most}.")
    return stream.unpack(packed).tobytes()


def _is(value, kind):
    # A bool is an int to Python, and no size to us.
    return isinstance(value, kind) and not isinstance(value, bool)


def _header(data):
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Damaged header: {error}.") from error
    kinds = {"keras": str, "config": dict, "state": dict, "assets": list}
    if not isinstance(header, dict) or set(header) != set(kinds):
        raise ValueError("Damaged header: other entries than an archive has.")
    for key, kind in kinds.items():
        if not isinstance(header[key], kind):
            raise ValueError(f"Damaged header: no {key}.")
    if not all(isinstance(path, str) for path in header["assets"]):
        raise ValueError("Damaged header: an asset without a path.")
    for path in [*header["state"], *header["assets"]]:
        _check_path(path)
    return header


def _described(weight):
    """Name, shape and dtype of a weight, out of the header."""
    if not isinstance(weight, list) or len(weight) != 3 or not isinstance(weight[2], list):
        raise ValueError("Damaged header: no description of a weight.")
    name, dtype, shape = weight
    sizes = all(_is(size, int) and 0 <= size < 1 << 48 for size in shape)
    if not isinstance(name, str) or not sizes or len(shape) > _MAX_RANK:
        raise ValueError(f"Damaged header: no weight {name!r} of shape {shape!r}.")
    _check_path(name)
    try:
        # The longest name is float8_e4m3b11fnuz; longer ones are not for numpy to puzzle over.
        dtype = np.dtype(dtype) if isinstance(dtype, str) and len(dtype) < 20 else None
    except (TypeError, ValueError, SyntaxError) as error:
        raise ValueError(f"Damaged header: no dtype is called {dtype!r}.") from error
    if dtype is None or dtype.hasobject or dtype.kind in "USMmc" or dtype.names is not None:
        raise ValueError(f"Damaged header: no weight has the dtype {weight[1]!r}.")
    if dtype.itemsize not in (1, 2, 4, 8) or dtype.name != weight[1]:
        raise ValueError(f"Damaged header: no weight has the dtype {weight[1]!r}.")
    return name, tuple(shape), dtype


class Archive:
    """An archive whose weights are decoded one by one, when they are asked for.

    Args:
        data: The bytes.
        max_bytes: Refuse archives whose weights would be larger than this once decoded.

    Attributes:
        coding: Name of the entropy coder.
        header: The header.
        entries: List of `Entry`.
        assets: Dict from the path of a file to its bytes.

    Raises:
        ArchiveError: If the bytes are no archive, damaged, or declare more than `max_bytes`.
    """

    def __init__(self, data, max_bytes=MAX_BYTES):
        self._max_bytes = max_bytes
        try:
            self._read(data)
        except ValueError as error:
            raise ArchiveError(str(error)) from error

    def _read(self, data):
        if bytes(data[: len(MAGIC)]) != MAGIC:
            raise ValueError("This is not a tfcomp archive, or its beginning is damaged.")
        body = memoryview(data)[:-_DIGEST]
        if len(body) <= len(MAGIC) or _digest(body) != bytes(data[-_DIGEST:]):
            raise ValueError("Damaged archive: it is cut off or changed, its checksum differs.")
        reader = Reader(body, self._max_bytes)
        reader.take(len(MAGIC))
        version, coder = reader.byte(), reader.byte()
        if version != VERSION:
            raise ValueError(
                f"The archive has version {version}; this tfcomp reads version {VERSION}."
            )
        if coder >= len(CODINGS):
            raise ValueError(f"Damaged archive: no entropy coder {coder}.")
        self.coding = CODINGS[coder]
        self.header = _header(_unpacked(reader, "header", min(_MAX_HEADER, self._max_bytes)))
        self.header_bytes = reader.at
        self.entries = list(self._entries(reader))
        self.assets, left = {}, self._max_bytes
        for path in self.header["assets"]:
            self.assets[path] = _unpacked(reader, "asset", left)
            left -= len(self.assets[path])
        if reader.left:
            raise ValueError(f"Damaged archive: {reader.left} bytes follow its end.")

    def _entries(self, reader):
        total = 0
        for path, weights in self.header["state"].items():
            if not isinstance(weights, list):
                raise ValueError(f"Damaged header: no list of weights at {path!r}.")
            for weight in weights:
                name, shape, dtype = _described(weight)
                total += math.prod(shape) * dtype.itemsize
                reader.check_size(total)
                size = reader.varint()
                start = reader.at
                if size > reader.left:
                    raise ValueError("Damaged archive: a weight reaches beyond its end.")
                reader.at += size
                yield Entry(path, name, shape, dtype, reader.data[start : start + size])

    @property
    def config(self):
        """The model's config as JSON."""
        return json.dumps(self.header["config"])

    def decode(self, entry):
        """Returns the numpy array of an `Entry`.

        Raises:
            ArchiveError: If it is damaged.
        """
        try:
            return record.decode(entry.data, entry.shape, entry.dtype, self.coding, self._max_bytes)
        except ValueError as error:
            raise ArchiveError(f"Weight {entry.path}/{entry.name}: {error}") from error

    def contents(self):
        """Decodes everything.

        Returns:
            `Contents`.
        """
        state = {path: {} for path in self.header["state"]}
        for entry in self.entries:
            state[entry.path][entry.name] = self.decode(entry)
        return Contents(self.header["keras"], self.config, state, self.assets)
