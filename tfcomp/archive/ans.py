"""Asymmetric numeral systems: symbols in their entropy, all symbols of a chunk in one stack.

Jarek Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with
compression rate of arithmetic coding", https://arxiv.org/abs/1311.2540. The coder is that of the
package `constriction`. It decodes *something* from whatever bytes it is given, so a damaged file
cannot make it fail; that all of them are used up is checked here.
"""

import constriction
import numpy as np

from tfcomp.archive import frequencies
from tfcomp.coding import stream
from tfcomp.coding.serial import to_bytes

NAME, ID = "ans", 0


class Model:
    """How frequent each symbol is.

    Args:
        levels: Levels as in `tfcomp.archive.frequencies`, none after the last that is not 0.
        widths: How many symbols each level stands for.
    """

    def __init__(self, levels, widths):
        self.levels = levels
        shares = frequencies.shares(levels, widths[: len(levels)])
        self.alphabet = len(shares)
        # One symbol alone needs no bits, and constriction has no model of it.
        self.categorical = None
        if self.alphabet > 1:
            self.categorical = constriction.stream.model.Categorical(shares, perfect=False)

    @classmethod
    def of(cls, counts, widths):
        """The model of symbols that occur so often."""
        firsts = np.cumsum(widths) - widths
        levels = frequencies.levels(np.add.reduceat(counts, firsts))
        return cls(np.trim_zeros(levels, "b"), widths)

    @classmethod
    def read(cls, reader, widths):
        """Reads what `to_bytes` wrote."""
        packed = reader.stream()
        if not 1 <= packed.count <= len(widths):
            raise ValueError(f"Damaged record: {packed.count} levels, of {len(widths)} at most.")
        levels = stream.unpack(packed)
        if levels.dtype != np.uint8 or not 1 <= levels.max() <= frequencies.LEVELS:
            raise ValueError("Damaged record: a frequency is out of range.")
        return cls(levels, widths)

    def to_bytes(self):
        """The levels as bytes."""
        return to_bytes(stream.pack(self.levels))


def encode(fields):
    """Codes symbols.

    Args:
        fields: List of pairs of an array of symbols and its `Model`.

    Returns:
        Bytes.
    """
    coder = constriction.stream.stack.AnsCoder()
    for symbols, model in reversed(fields):
        if model.categorical is not None and len(symbols):
            coder.encode_reverse(symbols.astype(np.int32), model.categorical)
    return coder.get_compressed().astype("<u4").tobytes()


class Decoder:
    """Gives back the fields that `encode` was given, in the same order.

    Args:
        data: The bytes.
    """

    def __init__(self, data):
        if len(data) % 4:
            raise ValueError("Damaged record: a number of bytes that is no multiple of four.")
        words = np.frombuffer(data, "<u4").astype(np.uint32)
        self._coder = constriction.stream.stack.AnsCoder(words)

    def take(self, model, count):
        """The next so many symbols, an integer array."""
        if model.categorical is None or not count:
            return np.zeros(count, np.int32)
        return self._coder.decode(model.categorical, count)

    def finish(self):
        """Raises unless everything was decoded."""
        if not self._coder.is_empty():
            raise ValueError("Damaged record: symbols are left over.")
