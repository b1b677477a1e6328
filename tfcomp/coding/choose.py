"""A tensor in the smallest of the codings."""

import math

import numpy as np

from tfcomp.coding.registry import CODINGS
from tfcomp.coding.serial import to_bytes
from tfcomp.coding.stats import Stats
from tfcomp.validation import invalid

# Up to this many elements every coding is tried; above, those whose estimate comes near the best.
_TRY_ALL = 1 << 15
_NEAR = 1.25
_FEW = 1 << 15


def _trials(array, stats, names):
    """Yields the tensor in every coding that could turn out smallest."""
    estimates = {name: CODINGS[name].estimate(stats) or 0 for name in names}
    least = min(filter(None, estimates.values()), default=math.inf)
    if stats.size > _TRY_ALL:
        near = [name for name in names if estimates[name] <= _NEAR * least]
        # DEFLATE is slow on elements with few values, and never makes up for their width.
        few = stats.table is not None and len(stats.table) <= _FEW
        names = [name for name in near if name != "raw" or not few or len(near) == 1]
    limit = math.inf
    # First what cannot be estimated: where it applies, it is far smaller than the rest.
    for name in sorted(names, key=estimates.get):
        if stats.size > _TRY_ALL and estimates[name] > _NEAR * limit:
            continue
        coded = CODINGS[name].encode(array, stats)
        if coded is not None:
            limit = min(limit, len(to_bytes(coded)))
            yield coded


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
    tried = list(_trials(array, stats, names))
    if not tried:
        raise invalid("codings", codings, "a coding that can hold this array")
    return min(tried, key=lambda coded: len(to_bytes(coded)))


def decode(coded):
    """Returns the numpy array of a `Coded`.

    Raises:
        ValueError: If it is damaged.
    """
    return CODINGS[coded.coding].decode(coded)
