"""A tensor under DEFLATE, stream by stream, and the numbers that say how far it is compressed."""

from typing import Any, NamedTuple

import numpy as np

from tfcomp.storage.choose import numbers, smallest
from tfcomp.storage.coders import deflate
from tfcomp.storage.forms import Palette
from tfcomp.storage.patterns import bit_patterns, sorted_distinct


class Streams(NamedTuple):
    """A tensor in a form under DEFLATE, as TensorFlow decodes it.

    Attributes:
        shape: Shape of the tensor.
        dtype: Its numpy dtype.
        scales: `Streams` of what it is to be multiplied by, or `None`.
        where: Name of the form of the positions, or `None`.
        positions: `Stream` of the positions, or `None`.
        table: `Stream` of the palette, or `None`.
        values: `Stream` of the values, or of their indices in the palette; `None` without elements.
    """

    shape: tuple
    dtype: Any
    scales: Any = None
    where: str | None = None
    positions: Any = None
    table: Any = None
    values: Any = None

    @property
    def form(self):
        """Names of the form's parts from the outside in, such as `"relative/palette"`."""
        what = "raw" if self.table is None else "palette"
        parts = (self.scales and "scaled", self.where, self.values and what)
        return "/".join(part for part in parts if part) or "empty"

    def own(self):
        """List of the streams of positions, palette and values that there are."""
        streams = (self.positions, self.table, self.values)
        return [stream for stream in streams if stream is not None]

    def all(self):
        """List of every `Stream`."""
        return ([] if self.scales is None else self.scales.all()) + self.own()


def in_streams(coded):
    """`Streams` of a `tfcomp.storage.choose.Coded` for DEFLATE."""
    (chunk,) = coded.chunks
    packed = deflate.streams(coded.fields(chunk))
    return Streams(
        coded.array.shape,
        coded.array.dtype,
        None if coded.scales is None else in_streams(coded.scales),
        None if coded.positions is None else coded.positions.NAME,
        None if coded.positions is None else packed[0],
        coded.values.packed if isinstance(coded.values, Palette) else None,
        packed[-1],
    )


def streams(array):
    """Packs a tensor in its smallest form under DEFLATE.

    Args:
        array: Array of any shape and of a boolean, integer or floating dtype.

    Returns:
        `Streams`.
    """
    array = numbers(array)
    if not array.size:
        return Streams(array.shape, array.dtype)
    return in_streams(smallest(array, deflate))


class Description(NamedTuple):
    """How far a tensor is compressed.

    Attributes:
        size: Number of weights.
        nonzeros: How many of them are not zero (-0.0 is zero).
        distinct: Number of distinct values.
        coded_bytes: Bytes in the smallest form under DEFLATE, without its header.
        form: Its name, `"relative/palette"` for instance.
        is_estimate: Whether `distinct` and `coded_bytes` are estimates; see
            `tfcomp.storage.estimate`.
    """

    size: int
    nonzeros: int
    distinct: int
    coded_bytes: int
    form: str
    is_estimate: bool = False

    @property
    def sparsity(self):
        """Share of zeros, 0 for an empty tensor."""
        return 1 - self.nonzeros / self.size if self.size else 0.0

    @property
    def bits_per_weight(self):
        """Bits per weight in the smallest form, 0 for an empty tensor."""
        return 8 * self.coded_bytes / self.size if self.size else 0.0


def describe(array):
    """Describes how far a tensor is compressed.

    Args:
        array: Array of any shape and of a boolean, integer or floating dtype.

    Returns:
        A `Description`.

    Example:

    >>> import numpy as np
    >>> from tfcomp import storage
    >>> described = storage.describe(np.array([0.0, 0.5, 0.0, -0.5], "float32"))
    >>> described.sparsity, described.distinct
    (0.5, 3)
    """
    array = numbers(array)
    packed = streams(array)
    return Description(
        array.size,
        int(np.count_nonzero(array)),
        len(sorted_distinct(bit_patterns(array))),
        sum(len(stream.data) for stream in packed.all()),
        packed.form,
    )
