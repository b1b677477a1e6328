"""How far a large tensor of continuous values is compressed, from a part of it.

Where hardly a value repeats, what zlib makes of a tensor is the entropy of its bytes, and a part of
it has the same. Then there is nothing to gain from looking at all of it but time.
"""

import numpy as np

from tfcomp.storage.choose import smallest
from tfcomp.storage.coders import deflate
from tfcomp.storage.forms import Raw
from tfcomp.storage.forms.scales import has_scales
from tfcomp.storage.packed import Description, describe, in_streams
from tfcomp.storage.patterns import bit_patterns, pieces, sorted_distinct

# Smaller tensors are looked at whole. Of others a share is enough that falls to a 16th.
LARGE, _SHARES, _ENOUGH = 1 << 18, (4, 16), 1 << 18
# zlib makes a code for so many symbols, here of as many blocks of elements: a part that is no
# multiple would have more codes that fit nothing well than the whole.
_CODE, _BLOCKS = (1 << 15) - 1, 7
# Of all bit patterns there may be, those of one in so many are counted.
_PATTERNS = 16
# This share of the elements may have come before, among so many as a code is made for. Zeros do not
# count. There have to be two codes of the others; where zeros lie between them, three.
_REPEATING, _CODES, _CODES_BETWEEN_ZEROS = 1 / 16, 2, 3
# The golden ratio times 2 to the bits of an element: its odd multiples spread evenly.
_FACTORS = {4: 0x9E3779B9, 8: 0x9E3779B97F4A7C15}


def _sample(flat):
    """Blocks spread evenly, each at a random place in its part, for no pattern to be in step."""
    most, least = (len(flat) // share for share in _SHARES)
    count = max(min(most, _ENOUGH), least) // _CODE * _BLOCKS
    part, block = len(flat) // count, _CODE // _BLOCKS
    rng = np.random.default_rng(0)
    places = part * np.arange(count) + rng.integers(0, part - block + 1, count)
    return np.concatenate([flat[place : place + block] for place in places])


def _repeats(patterns):
    """Whether values but zero repeat, near each other or all over, or are too few to tell."""
    values = patterns[patterns != 0]
    codes = _CODES if len(values) == len(patterns) else _CODES_BETWEEN_ZEROS
    if len(values) < codes * _CODE:
        return True
    near, spread = values[:_CODE], values[:: len(values) // _CODE][:_CODE]
    least = (1 - _REPEATING) * _CODE
    return any(len(sorted_distinct(part)) < least for part in (near, spread))


def some_distinct(array):
    """The distinct bit patterns of a 16th of all patterns there may be, sorted."""
    patterns = bit_patterns(array)
    wide = np.promote_types(patterns.dtype, np.uint32)
    factor = wide.type(_FACTORS[wide.itemsize])
    limit = wide.type((1 << 8 * wide.itemsize) // _PATTERNS)
    widened = (piece.astype(wide, copy=False) for piece in pieces(patterns))
    chosen = [piece[piece * factor < limit] for piece in widened]
    return sorted_distinct(np.concatenate(chosen))


def about_distinct(arrays):
    """About how many distinct values arrays have together."""
    found = [some_distinct(array) for array in arrays]
    return _PATTERNS * len(sorted_distinct(np.concatenate(found)))


def _is_entropy(coded):
    """Whether zlib makes of the values what their bytes need, and does not find them again."""
    return isinstance(coded.values, Raw) and not coded.values.models[0].way.is_searched


def _coded_bytes(packed, sample, size, nonzeros):
    """About how many bytes all elements take, of which values are as many as are not zero."""
    if packed.positions is None:
        return round(len(packed.values.data) * size / sample.size)
    where = len(packed.positions.data) * size / sample.size
    return round(where + len(packed.values.data) * nonzeros / np.count_nonzero(sample))


def estimate(array):
    """Describes how far a tensor is compressed; of a large one of continuous values, about how far.

    Args:
        array: As `tfcomp.storage.describe` takes it.

    Returns:
        A `Description`. Where it `is_estimate`, `distinct` and `coded_bytes` are estimates, from
        a part of all bit patterns and of the elements; the others are exact.
    """
    array = np.asarray(array)
    if array.size < LARGE or array.dtype.kind != "f" or array.dtype.itemsize not in _FACTORS:
        return describe(array)
    sample = _sample(bit_patterns(array))
    if _repeats(sample) or has_scales(array):
        return describe(array)
    coded = smallest(sample.view(array.dtype), deflate)
    if not _is_entropy(coded):
        return describe(array)
    nonzeros = int(np.count_nonzero(array))
    packed = in_streams(coded)
    coded_bytes = _coded_bytes(packed, coded.array, array.size, nonzeros)
    distinct = about_distinct([array])
    return Description(array.size, nonzeros, distinct, coded_bytes, packed.form, True)
