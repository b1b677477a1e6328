"""Asymmetric numeral systems: symbols in their entropy, all symbols of a chunk in one stack.

Jarek Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with
compression rate of arithmetic coding", https://arxiv.org/abs/1311.2540. The coder is that of the
package `constriction`. It decodes *something* from whatever bytes it is given, so a damaged file
cannot make it fail; that all of them are used up is checked here.
"""

import functools

import constriction
import numpy as np

from tfcomp.storage import stream
from tfcomp.storage.coders import frequencies
from tfcomp.storage.coders.counts import counted, entropy_bits, read_levels

NAME = "ans"
WHOLE = False
LEAST = 0
POSITIONS = 0
PALETTE = 1 << 12


class Model:
    """How frequent each symbol is.

    Args:
        levels: Levels as in `tfcomp.storage.coders.frequencies`, none after the last that is not 0.
        widths: How many symbols each level stands for.
        bits: Bits that the symbols and the levels take.
    """

    def __init__(self, levels, widths, bits=0.0):
        self.levels, self._widths, self.bits = levels, widths[: len(levels)], bits

    @functools.cached_property
    def categorical(self):
        """The model that constriction takes, `None` for one symbol alone, which needs no bits."""
        shares = frequencies.shares(self.levels, self._widths)
        if len(shares) == 1:
            return None
        return constriction.stream.model.Categorical(shares, perfect=False)

    @classmethod
    def of(cls, counts, widths):
        """The model of symbols that occur so often."""
        sums = np.add.reduceat(counts, np.cumsum(widths) - widths)
        levels = np.trim_zeros(frequencies.levels(sums), "b")
        bits = entropy_bits(sums) + float((sums * np.log2(widths)).sum())
        return cls(levels, widths, bits + 8 * (len(levels) + stream.HEADER))

    def to_bytes(self):
        """The levels as bytes."""
        return stream.to_bytes(stream.pack(self.levels))


def model(parts, widths):
    """The model of a field; see `tfcomp.storage.coders`."""
    return Model.of(counted(parts, widths.sum()), widths)


def read(reader, widths):
    """Reads what `to_bytes` wrote."""
    levels = read_levels(reader, len(widths), frequencies.LEVELS)
    return Model(levels, widths)


def encode(fields):
    """Codes symbols; see `tfcomp.storage.coders`."""
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
