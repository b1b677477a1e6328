"""The smallest form of a tensor for a coder."""

from typing import Any, NamedTuple

import numpy as np

from tfcomp.storage.coders.counts import entropy_bits
from tfcomp.storage.forms import Bitmap, Gaps, Palette, Raw, RelativeIndex
from tfcomp.storage.forms.scales import split
from tfcomp.storage.patterns import bit_patterns
from tfcomp.validation import invalid

# Elements of a chunk, in row-major order.
CHUNK = 1 << 20
# Where there are fewer zeros than this share, positions have to pay.
_FEW_ZEROS, _PAY = 0.25, 1.01
# Where there are fewer elements than this share, gaps may be too long for eight bits.
_FEW_ELEMENTS = 0.02
# What positions may cost above their entropy, and in bits of their model, for the other forms not
# to be tried, where there are more weights than `_FEW`.
_TOLERANCE, _MODEL, _FEW = 1.003, 512, 1 << 13
# Where values repeat so often, a palette is smaller than the values.
_OFTEN = 256
# A longer table of nearly as many values as there are elements is no smaller than these.
_SHORT_TABLE, _REPEATING = 256, 7 / 8


class Coded(NamedTuple):
    """A tensor in a form, ready to be coded.

    Attributes:
        array: The tensor, a numpy array.
        positions: Where elements are, one of `tfcomp.storage.forms` or `None` for all.
        model: The coder's model of the positions.
        values: What they are, one of `tfcomp.storage.forms`.
        chunks: List of pairs of the symbols of positions, or `None`, and the values.
        bits: What it will take.
        scales: `Coded` scales to multiply it by, or `None`.
    """

    array: np.ndarray
    positions: Any
    model: Any
    values: Any
    chunks: list
    bits: float
    scales: Any = None

    def fields(self, chunk):
        """The fields of a chunk, for the coder."""
        symbols, values = chunk
        positions = [] if symbols is None else [(symbols, self.model)]
        return positions + self.values.fields(values)


def chunks_of(flat, coder):
    """The chunks of a flat array that a coder gets one by one."""
    size = len(flat) if coder.WHOLE else CHUNK
    return [flat[start : start + size] for start in range(0, len(flat), size)]


def in_form(array, coder, positions=None, values=None, known=None):
    """A tensor as `Coded`.

    Args:
        array: The tensor, not empty.
        coder: The coder.
        positions: Where elements are, one of `tfcomp.storage.forms` or `None` for all.
        values: Class of the form of the values; `None` for the smaller one.
        known: Dict from numbers of values to the forms of these, which is read and filled. What
            forms of positions leave differs by padding zeros alone: as many values are the same.
    """
    parts = chunks_of(bit_patterns(array), coder)
    chunks = [(None, part) if positions is None else positions.split(part) for part in parts]
    model = None
    if positions is not None:
        model = coder.model([symbols for symbols, _ in chunks], positions.widths)
    parts = [part for _, part in chunks]
    known, count = {} if known is None else known, sum(map(len, parts))
    if count not in known:
        known[count] = values.of(parts, coder) if values else _smaller_values(parts, coder)
    values = known[count]
    bits = values.bits + (0 if model is None else model.bits)
    return Coded(array, positions, model, values, chunks, bits)


def _smaller_values(parts, coder):
    size = sum(map(len, parts))
    palette = Palette.of(parts, coder, most=max(_SHORT_TABLE, int(_REPEATING * size)))
    often = palette is not None and _OFTEN * len(palette.table) < size
    if often and parts[0].dtype.itemsize > 1:
        return palette
    raw = Raw.of(parts, coder)
    return raw if palette is None or raw.bits < palette.bits else palette


def _positions(coder, rank, density):
    """The forms of positions that suit a coder."""
    if coder.NAME == "deflate":
        # Those that TensorFlow decodes.
        few = density < _FEW_ELEMENTS
        return [RelativeIndex(8), RelativeIndex(31) if few else Bitmap()]
    if coder.NAME == "huffman":
        return [RelativeIndex(5 if rank <= 2 else 8)]
    return [Gaps()]


def _plain(array, coder):
    """The smallest form without scales."""
    size = array.size
    nonzeros = np.count_nonzero(bit_patterns(array))
    zeros = size - nonzeros
    few, dense = zeros <= _FEW_ZEROS * size, None
    if few or not nonzeros:
        dense = in_form(array, coder)
        # Positions take their entropy at least, and save what the zeros take.
        if not nonzeros or dense.bits * zeros <= entropy_bits([zeros, nonzeros]) * size:
            return dense
    known = {}
    positions = _positions(coder, array.ndim, nonzeros / size)
    sparse = _smallest(in_form(array, coder, form, known=known) for form in positions)
    # By all elements, values cost what they cost by the non-zero ones, and the zeros their share.
    least = max(sparse.values.bits + entropy_bits([zeros, nonzeros]), coder.LEAST * size)
    if size > _FEW and not few and sparse.bits <= _TOLERANCE * least + _MODEL:
        return sparse
    dense = dense or in_form(array, coder)
    pay = _PAY if few else 1
    return dense if dense.bits <= pay * sparse.bits + coder.POSITIONS else sparse


def _smallest(forms):
    return min(forms, key=lambda coded: coded.bits)


def numbers(array):
    """The array, a numpy array; raises unless it is one of numbers."""
    array = np.asarray(array)
    if array.dtype.hasobject or array.dtype.kind in "USMm" or array.dtype.itemsize > 8:
        raise invalid("array", array.dtype, "an array of numbers of at most eight bytes each")
    return array


def smallest(array, coder):
    """A numpy array, not empty, as the smallest `Coded`."""
    plain = _plain(array, coder)
    if isinstance(plain.values, Palette) and len(plain.values.table) <= 3:
        return plain
    found = split(array, plain.bits, isinstance(plain.values, Palette))
    if found is None:
        return plain
    scales, units = in_form(found[0], coder), _plain(found[1], coder)
    scaled = units._replace(scales=scales, bits=scales.bits + units.bits)
    return _smallest([plain, scaled])
