"""What lies in an archive, weight by weight."""

from typing import NamedTuple

import numpy as np
from rich.table import Table

from tfcomp.storage.archive.container import MAX_BYTES, Archive
from tfcomp.storage.coders.counts import entropy_bits
from tfcomp.storage.patterns import bit_patterns
from tfcomp.storage.record import name_of


class WeightReport(NamedTuple):
    """One weight of an archive.

    Attributes:
        path: Its path in the model.
        shape: Its shape.
        dtype: Name of its dtype.
        form: Name of its form.
        bytes: Bytes in the file.
        entropy: Zero-order entropy of its values, in bits for each; a coding that finds structure
            may need less.
    """

    path: str
    shape: tuple
    dtype: str
    form: str
    bytes: int
    entropy: float

    @property
    def size(self):
        """Number of weights."""
        return int(np.prod(self.shape))

    @property
    def bits_per_weight(self):
        """Bits per weight in the file, 0 for an empty one."""
        return 8 * self.bytes / self.size if self.size else 0.0


def entropy(array):
    """Zero-order entropy of the values of an array, in bits for each; 0 for an empty one."""
    patterns = bit_patterns(array)
    counts = np.unique(patterns, return_counts=True)[1]
    return entropy_bits(counts) / max(len(patterns), 1)


class Inspection:
    """What lies in an archive.

    Args:
        path: The file.
        max_bytes: Refuse files whose weights would take more than this in memory.

    Attributes:
        bytes: Bytes of the file.
        header_bytes: Bytes of what is no weight: config, names and shapes, files, checksum.
        coding: Name of the entropy coder.
        weights: List of `WeightReport`.

    Raises:
        tfcomp.ArchiveError: If the file is no archive, damaged, or declares more than `max_bytes`.
    """

    def __init__(self, path, max_bytes=MAX_BYTES):
        with open(path, "rb") as file:
            data = file.read()
        archive = Archive(data, max_bytes)
        self.path, self.bytes, self.coding = str(path), len(data), archive.coding
        self.weights = [
            WeightReport(
                f"{entry.path}/{entry.name}".lstrip("/"),
                entry.shape,
                entry.dtype.name,
                name_of(entry.data),
                len(entry.data),
                entropy(archive.decode(entry)),
            )
            for entry in archive.entries
        ]
        self.header_bytes = self.bytes - sum(row.bytes for row in self.weights)

    def table(self):
        """Returns a `rich.table.Table`."""
        size = sum(row.size for row in self.weights)
        coded = sum(row.bytes for row in self.weights)
        bits = sum(row.size * row.entropy for row in self.weights)
        table = Table(
            title=f"{self.path}: {self.bytes:,} bytes, {self.coding}, header {self.header_bytes:,}",
            show_footer=True,
            title_justify="left",
        )
        columns = [
            ("Weight", "left", "Total"),
            ("Shape", "left", f"{size:,}"),
            ("Type", "left", ""),
            ("Form", "left", ""),
            ("Bytes", "right", f"{coded:,}"),
            ("Bits/weight", "right", f"{8 * coded / max(size, 1):.3f}"),
            ("Entropy", "right", f"{bits / max(size, 1):.3f}"),
        ]
        for header, justify, footer in columns:
            table.add_column(header, footer, justify=justify)
        for row in self.weights:
            shape = " x ".join(map(str, row.shape)) or "scalar"
            bits = [f"{row.bits_per_weight:.3f}", f"{row.entropy:.3f}"]
            table.add_row(row.path, shape, row.dtype, row.form, f"{row.bytes:,}", *bits)
        return table
