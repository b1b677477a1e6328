"""Canonical Huffman codes: symbols in whole bits, as Deep Compression codes them.

Song Han et al., "Deep Compression", https://arxiv.org/abs/1510.00149, section 4. The symbols of a
field are cut into runs of `RUN`, and how many bits each takes is stored, so that numpy can decode
all runs side by side; that adds half a per cent.
"""

import functools
import heapq

import numpy as np

from tfcomp.storage import stream
from tfcomp.storage.coders.counts import counted, read_levels
from tfcomp.storage.reader import Reader, varint

NAME = "huffman"
WHOLE = False
LEAST = 1
POSITIONS = 0
PALETTE = 1 << 12
RUN = 1024
# A window of 24 bits holds the longest code at any of eight places in its first byte.
LONGEST = 16


def _lengths(counts):
    """Code lengths of a Huffman tree, 0 where a symbol never occurs."""
    lengths = np.zeros(len(counts), np.uint8)
    heap = [(int(counts[symbol]), symbol) for symbol in np.flatnonzero(counts).tolist()]
    heapq.heapify(heap)
    parents, node = {}, len(counts)
    while len(heap) > 1:
        (first, left), (second, right) = heapq.heappop(heap), heapq.heappop(heap)
        parents[left] = parents[right] = node
        heapq.heappush(heap, (first + second, node))
        node += 1
    depths = {heap[0][1]: 0}
    for node in sorted(parents, reverse=True):
        depths[node] = depths[parents[node]] + 1
    for symbol, depth in depths.items():
        if symbol < len(counts):
            # A symbol alone takes a bit.
            lengths[symbol] = max(depth, 1)
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
    """The code of each symbol, canonical: shorter ones first, equally long ones in order.

    Args:
        lengths: Bits of the code of each symbol, 0 where it never occurs.
        bits: Bits that the symbols and the lengths take.
    """

    def __init__(self, lengths, bits=0.0):
        self.lengths, self.bits = lengths, bits

    @classmethod
    def of(cls, counts):
        """The model of symbols that occur so often."""
        lengths = _limited(counts)
        bits = float(np.dot(counts, lengths.astype(np.int64)))
        lengths = np.trim_zeros(lengths, "b")
        # Packed, a length takes about four bits.
        return cls(lengths, bits + 4 * len(lengths) + 8 * stream.HEADER)

    @functools.cached_property
    def _used(self):
        """Symbols in the order of their codes, and how many `LONGEST` bits begin with each code."""
        used = np.flatnonzero(self.lengths)
        used = used[np.argsort(self.lengths[used], kind="stable")]
        return used, 1 << (LONGEST - self.lengths[used].astype(np.int64))

    def check(self):
        """Raises unless the lengths make a code."""
        used, spans = self._used
        if len(used) > 1 and spans.sum() != 1 << LONGEST:
            raise ValueError("Damaged record: code lengths that make no Huffman code.")

    @functools.cached_property
    def codes(self):
        """The code of each symbol."""
        used, spans = self._used
        codes = np.zeros(len(self.lengths), np.int64)
        codes[used] = (np.cumsum(spans) - spans) // spans
        return codes

    @functools.cached_property
    def symbol_at(self):
        """The symbol whose code any number of `LONGEST` bits begins with."""
        used, spans = self._used
        return np.repeat(used, spans if len(used) > 1 else 1 << LONGEST).astype(np.int32)

    def to_bytes(self):
        """The code lengths as bytes."""
        return stream.to_bytes(stream.pack(self.lengths))


def model(parts, widths):
    """The model of a field; see `tfcomp.storage.coders`."""
    return Model.of(counted(parts, widths.sum()))


def read(reader, widths):
    """Reads what `to_bytes` wrote."""
    found = Model(read_levels(reader, widths.sum(), LONGEST))
    found.check()
    return found


def _encode(symbols, model):
    lengths = model.lengths[symbols].astype(np.int64)
    ends = np.cumsum(lengths)
    bits = np.zeros(ends[-1], np.uint8)
    for back in range(int(model.lengths.max())):
        longer = lengths > back
        bits[ends[longer] - 1 - back] = model.codes[symbols[longer]] >> back & 1
    runs = np.add.reduceat(lengths, np.arange(0, len(symbols), RUN)).astype(np.uint16)
    data = np.packbits(bits).tobytes()
    return stream.to_bytes(stream.pack(runs)) + varint(len(data)) + data


def encode(fields):
    """Codes symbols; see `tfcomp.storage.coders`."""
    return b"".join(_encode(symbols, model) for symbols, model in fields if len(symbols))


class Decoder:
    """Gives back the fields that `encode` was given, in the same order.

    Args:
        data: The bytes.
    """

    def __init__(self, data):
        self._reader = Reader(data, max_bytes=16 * len(data))

    def take(self, model, count):
        """The next so many symbols, an integer array."""
        if not count:
            return np.zeros(0, np.int32)
        packed = stream.read(self._reader)
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
