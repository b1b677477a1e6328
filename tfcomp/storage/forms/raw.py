"""Raw: every element as it is, as a word or byte by byte.

Bytes are told apart by their place: all lowest ones, all second ones, and so on. Of floats that do
not repeat, the highest bytes, which have the exponents, gain by a coder, the others are stored.
"""

import numpy as np

# A plane of bytes is coded if that takes away this share of it.
_WORTH = 0.97
_BYTES = np.ones(256, int)


def _planes(values, count):
    """Values as so many columns of bytes; as they are, where it is one."""
    return values.reshape(-1, 1) if count == 1 else values.view(np.uint8).reshape(-1, count)


class Raw:
    """Values as words or bytes.

    Args:
        models: The coder's model of each plane, `None` where it is stored.
        itemsize: Bytes of an element.
        bits: Bits of all of them.
    """

    NAME = "raw"

    def __init__(self, models, itemsize, bits=0.0):
        self.models, self._itemsize, self.bits = models, itemsize, bits

    @classmethod
    def of(cls, parts, coder):
        """How a coder has the values in several arrays best."""
        itemsize = parts[0].dtype.itemsize
        if coder.WHOLE:
            model = coder.model(parts, None)
            return cls([model], itemsize, model.bits)
        planes = [_planes(np.ascontiguousarray(part), itemsize) for part in parts]
        stored = 8.0 * sum(map(len, parts))
        models, bits = [], 0.0
        for place in range(itemsize):
            model = coder.model((part[:, place] for part in planes), _BYTES)
            worth = model.bits < _WORTH * stored
            models.append(model if worth else None)
            bits += model.bits if worth else stored
        return cls(models, itemsize, bits)

    @classmethod
    def read(cls, reader, itemsize, coder):
        """Reads what `to_bytes` wrote."""
        mask, count = reader.byte(), 1 if coder.WHOLE else itemsize
        if mask >> count or (coder.WHOLE and not mask):
            raise ValueError("Damaged record: more planes than an element has bytes.")
        coded = [bool(mask >> place & 1) for place in range(count)]
        return cls([coder.read(reader, _BYTES) if yes else None for yes in coded], itemsize)

    def to_bytes(self):
        """Which planes are coded, and their models, as bytes."""
        coded = [model for model in self.models if model is not None]
        mask = sum(1 << i for i, model in enumerate(self.models) if model is not None)
        return bytes([mask]) + b"".join(model.to_bytes() for model in coded)

    def fields(self, values):
        """The fields of some values, for the coder: planes and their models."""
        planes = _planes(values, len(self.models))
        return [(planes[:, i], model) for i, model in enumerate(self.models) if model is not None]

    def stored(self, values):
        """The planes that are stored without a coder, as bytes."""
        planes = _planes(values, len(self.models))
        kept = [i for i, model in enumerate(self.models) if model is None]
        return b"".join(planes[:, i].tobytes() for i in kept)

    def take(self, decoder, reader, count):
        """The next so many values from a coder's decoder, and from what is stored."""
        kind = f"<u{self._itemsize // len(self.models)}"
        planes = np.zeros((count, len(self.models)), kind)
        for place, model in enumerate(self.models):
            if model is not None:
                planes[:, place] = decoder.take(model, count)
        for place, model in enumerate(self.models):
            if model is None:
                planes[:, place] = np.frombuffer(reader.take(count), kind)
        return planes.reshape(-1).view(f"<u{self._itemsize}")
