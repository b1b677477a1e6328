"""Raw: every element as it is."""

from tfcomp.coding import stream
from tfcomp.coding.coded import Coded, bit_patterns, from_bit_patterns

NAME, ID = "raw", 0
PARTS = {"elements": "stream"}


def encode(array, stats=None):
    """Codes any array.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        A `Coded`.
    """
    width = array.dtype.itemsize
    layouts = [("words", width)] + ([("planes", width)] if width > 1 else [])
    elements = stream.pack(bit_patterns(array), layouts)
    return Coded(NAME, array.shape, array.dtype.name, {"elements": elements})


def decode(coded):
    """Returns the array."""
    elements = coded.parts["elements"]
    if elements.count != coded.size:
        raise ValueError(
            f"Damaged record: {elements.count} elements for a tensor of shape {coded.shape}."
        )
    return from_bit_patterns(stream.unpack(elements), coded.shape, coded.dtype)
