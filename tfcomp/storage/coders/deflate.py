"""DEFLATE: each field a stream of its own, which numpy unpacks and TensorFlow, too."""

from tfcomp.storage import stream
from tfcomp.storage.reader import Reader

NAME = "deflate"
WHOLE = True
LEAST = 0
# TensorFlow has to be told how to scatter elements.
POSITIONS = 8 * 500
PALETTE = 1 << 16


class Model:
    """How a field is packed; a stream tells that itself.

    Args:
        way: A `tfcomp.storage.stream.Way`, or `None` to unpack.
    """

    def __init__(self, way=None):
        self.way = way
        self.bits = 8 * way.bytes if way else 0.0

    def to_bytes(self):
        """Nothing."""
        return b""


def model(parts, widths):
    """The model of a field; see `tfcomp.storage.coders`."""
    (integers,) = parts
    layouts = stream.as_they_are(integers) if widths is None else None
    return Model(stream.best_way(integers, layouts))


def read(reader, widths):
    """Reads what `to_bytes` wrote."""
    return Model()


def streams(fields):
    """Packs each field, a pair of symbols and their `Model`, into a `Stream`."""
    return [stream.pack(symbols, way=model.way) for symbols, model in fields]


def encode(fields):
    """Codes symbols; see `tfcomp.storage.coders`."""
    return b"".join(map(stream.to_bytes, streams(fields)))


class Decoder:
    """Gives back the fields that `encode` was given, in the same order.

    Args:
        data: The bytes.
    """

    def __init__(self, data):
        # No element has more than eight bytes: `take` is told how many there are.
        self._data, self._at = data, 0

    def take(self, model, count):
        """The next so many symbols, an array of unsigned integers."""
        reader = Reader(self._data, max_bytes=8 * count)
        reader.at = self._at
        packed = stream.read(reader)
        if packed.count != count:
            raise ValueError(f"Damaged record: not {count} symbols.")
        self._at = reader.at
        return stream.unpack(packed)

    def finish(self):
        """Raises unless everything was decoded."""
        if self._at != len(self._data):
            raise ValueError("Damaged record: symbols are left over.")
