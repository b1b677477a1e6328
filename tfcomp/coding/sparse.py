"""The non-zero elements that the sparse codings store beside their positions."""

from tfcomp.coding import palette, raw
from tfcomp.coding.coded import bit_patterns, from_bit_patterns

_CODINGS = {coding.NAME: coding for coding in (raw, palette)}


def encode_values(patterns, dtype, stats):
    """Codes non-zero bit patterns by a palette or raw, whichever is smaller."""
    values = from_bit_patterns(patterns, patterns.shape, dtype)
    if stats is not None:
        stats = stats.without_zero()
    table = palette.encode(values, stats)
    if table is not None and len(values) > 1 << 16 and table.parts["indices"].width < 2:
        # A quarter of the raw bytes at most: the raw coding need not be tried.
        return table
    every = [coded for coded in (table, raw.encode(values)) if coded is not None]
    return min(every, key=lambda coded: sum(len(part.data) for part in coded.parts.values()))


def decode_values(coded, count):
    """The bit patterns of the `"values"` of a sparse `Coded`."""
    values = coded.parts["values"]
    if values.coding not in _CODINGS or values.shape != (count,) or values.dtype != coded.dtype:
        raise ValueError(f"Damaged record: not {count} values of dtype {coded.dtype}.")
    return bit_patterns(_CODINGS[values.coding].decode(values))
