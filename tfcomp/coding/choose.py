"""A tensor in the smallest of the codings."""

import numpy as np

from tfcomp.coding.expect import SAMPLE, expected_bytes
from tfcomp.coding.registry import CODINGS
from tfcomp.coding.serial import to_bytes
from tfcomp.coding.stats import Stats
from tfcomp.validation import invalid


def _names_to_try(array, stats, names):
    """Leaves out codings that cannot win; of a large tensor, all but the best for a sample."""
    if len(names) > 1 and stats.patterns.all():
        # Without zeros there are no positions to tell.
        names = [name for name in names if name not in ("bitmap", "gaps")] or names
    if stats.size <= SAMPLE:
        return names
    sampled = [name for name in names if name != "scaled"]
    expected = {name: expected_bytes(CODINGS[name], array, stats) for name in sampled}
    # What a scale leaves shows in whole channels, not in a sample; it is quick to see.
    return [name for name in names if name == "scaled" or name == min(expected, key=expected.get)]


def encode(array, codings=None):
    """Codes a tensor in the smallest way found, exactly.

    Tried are the codings in `tfcomp.coding.CODINGS`: raw, a palette, positions and values of the
    non-zeros, and a scale per channel times one of these, each under DEFLATE where that helps.

    Args:
        array: Array of any shape and of a boolean, integer or floating dtype.
        codings: Optional list of names to choose from.

    Returns:
        A `Coded`, from which `decode` makes the array again, bit for bit.

    Raises:
        ValueError: If the array is no array of numbers, or a coding has no such name.

    Example:

    >>> import numpy as np
    >>> from tfcomp import coding
    >>> kernel = np.random.default_rng(0).choice([-0.5, 0.5], (64, 64)).astype("float32")
    >>> coded = coding.encode(kernel)
    >>> coded.coding, kernel.nbytes, len(coding.to_bytes(coded)) < 600
    ('palette', 16384, True)
    >>> bool((coding.decode(coded) == kernel).all())
    True
    """
    array = np.asarray(array)
    if array.dtype.hasobject or array.dtype.kind in "USMm" or array.dtype.itemsize > 8:
        raise invalid("array", array.dtype, "an array of numbers of at most eight bytes each")
    names = list(CODINGS) if codings is None else list(codings)
    for name in names:
        if name not in CODINGS:
            raise invalid("codings", name, f"names among {list(CODINGS)}")
    stats = Stats(array)
    names = _names_to_try(array, stats, names)
    tried = [CODINGS[name].encode(array, stats) for name in names]
    tried = [coded for coded in tried if coded is not None]
    if not tried:
        raise invalid("codings", codings, "a coding that can hold this array")
    return min(tried, key=lambda coded: len(to_bytes(coded)))


def decode(coded):
    """Returns the numpy array of a `Coded`.

    Raises:
        ValueError: If it is damaged.
    """
    return CODINGS[coded.coding].decode(coded)
