"""Canonical Huffman codes: symbols in whole bits, as Deep Compression codes them.

Song Han et al., "Deep Compression", https://arxiv.org/abs/1510.00149, section 4. The symbols of a
field are cut into runs of `RUN`, and how many bits each takes is stored, so that numpy can decode
all runs side by side; that adds half a per cent.
"""

import heapq

import numpy as np

from tfcomp.coding import stream
from tfcomp.coding.reader import varint
from tfcomp.coding.serial import RecordReader, to_bytes

NAME, ID = "huffman", 1
RUN = 1024
# A window of 24 bits holds the longest code at any of eight places in its first byte.
LONGEST = 16


def _lengths(counts):
    """Code lengths of a Huffman tree, 0 where a symbol never occurs."""
    heap = [(int(count), i, (i,)) for i, count in enumerate(counts) if count]
    lengths = np.zeros(len(counts), np.uint8)
    if len(heap) == 1:
        lengths[heap[0][2]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        (first, i, left), (second, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[[*left, *right]] += 1
        heapq.heappush(heap, (first + second, i, left + right))
    return lengths


def _limited(counts):
    """The same, flattened until no code is too long."""
    counts = np.asarray(counts, np.int64)
    lengths = _lengths(counts)
    while lengths.max() > LONGEST:
        counts = np.where(counts > 0, counts // 2 + 1, 0)
        lengths = _lengths(counts)
    return lengths


class Model:
    """The code of each symbol.

    Args:
        lengths: Bits of the code of each symbol, 0 where it never occurs.
    """

    def __init__(self, lengths):
        self.lengths = lengths
        self.alphabet = len(lengths)
        used = np.flatnonzero(lengths)
        # Canonical: shorter codes first, equally long ones in the order of their symbols.
        used = used[np.argsort(lengths[used], kind="stable")]
        spans = 1 << (LONGEST - lengths[used].astype(np.int64))
        starts = np.cumsum(spans) - spans
        if len(used) > 1 and spans.sum() != 1 << LONGEST:
            raise ValueError("Damaged record: code lengths that make no Huffman code.")
        self.codes = np.zeros(self.alphabet, np.int64)
        self.codes[used] = starts >> (LONGEST - lengths[used].astype(np.int64))
        if len(used) == 1:
            spans = [1 << LONGEST]
        self.symbol_at = np.repeat(used, spans).astype(np.int32)

    @classmethod
    def of(cls, counts, widths):
        """The model of symbols that occur so often."""
        return cls(np.trim_zeros(_limited(counts), "b"))

    @classmethod
    def read(cls, reader, widths):
        """Reads what `to_bytes` wrote."""
        packed = reader.stream()
        if not 1 <= packed.count <= len(widths):
            raise ValueError(f"Damaged record: {packed.count} codes, of {len(widths)} at most.")
        lengths = stream.unpack(packed)
        if lengths.dtype != np.uint8 or not 1 <= lengths.max() <= LONGEST:
            raise ValueError("Damaged record: a code length is out of range.")
        return cls(lengths)

    def to_bytes(self):
        """The code lengths as bytes."""
        return to_bytes(stream.pack(self.lengths))


def _encode(symbols, model):
    lengths = model.lengths[symbols].astype(np.int64)
    ends = np.cumsum(lengths)
    bits = np.zeros(ends[-1], np.uint8)
    for back in range(int(model.lengths.max())):
        longer = lengths > back
        bits[ends[longer] - 1 - back] = model.codes[symbols[longer]] >> back & 1
    runs = np.add.reduceat(lengths, np.arange(0, len(symbols), RUN)).astype(np.uint16)
    data = np.packbits(bits).tobytes()
    return to_bytes(stream.pack(runs)) + varint(len(data)) + data


def encode(fields):
    """Codes symbols.

    Args:
        fields: List of pairs of an array of symbols and its `Model`.

    Returns:
        Bytes.
    """
    return b"".join(_encode(symbols, model) for symbols, model in fields if len(symbols))


class Decoder:
    """Gives back the fields that `encode` was given, in the same order.

    Args:
        data: The bytes.
    """

    def __init__(self, data):
        self._reader = RecordReader(data, max_bytes=16 * len(data))

    def take(self, model, count):
        """The next so many symbols, an integer array."""
        if not count:
            return np.zeros(0, np.int32)
        packed = self._reader.stream()
        if packed.count != -(-count // RUN):
            raise ValueError(f"Damaged record: not {count} symbols.")
        runs = stream.unpack(packed).astype(np.int64)
        data = np.frombuffer(self._reader.take(self._reader.varint()), np.uint8)
        if -(-int(runs.sum()) // 8) != len(data):
            raise ValueError("Damaged record: runs of another number of bits.")
        padded = np.concatenate([data, np.zeros(3, np.uint8)]).astype(np.int64)
        windows = padded[:-2] << 16 | padded[1:-1] << 8 | padded[2:]
        ends = np.cumsum(runs)
        at = ends - runs
        symbols = np.zeros((len(runs), RUN), np.int32)
        for step in range(min(count, RUN)):
            # The last run may be shorter than the others.
            active = len(runs) - (step >= count - RUN * (len(runs) - 1))
            here = np.minimum(at[:active], ends[-1])
            code = windows[here >> 3] >> (8 - (here & 7)) & 0xFFFF
            found = symbols[:active, step] = model.symbol_at[code]
            at[:active] += model.lengths[found]
        if not np.array_equal(at, ends):
            raise ValueError("Damaged record: a run of symbols ends too early or too late.")
        return symbols.reshape(-1)[:count]

    def finish(self):
        """Raises unless everything was decoded."""
        if self._reader.left:
            raise ValueError("Damaged record: symbols are left over.")
