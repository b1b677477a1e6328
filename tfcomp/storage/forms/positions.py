"""What the forms of positions have in common."""

import numpy as np


class Positions:
    """Where the elements of a tensor are that are not zero.

    Attributes:
        NAME: Name of the form.
        widths: Array, how many symbols share a frequency.
    """

    def split(self, flat):
        """Returns the symbols of the positions of non-zero elements, and these elements."""
        raise NotImplementedError

    def places(self, symbols, size):
        """Returns the positions of the elements for which there is a value."""
        raise NotImplementedError

    def to_bytes(self):
        """What has to be known of the form, as bytes."""
        return b""

    @classmethod
    def read(cls, reader):
        """Reads what `to_bytes` wrote."""
        return cls()


def bridged(flat, span, bridge, first):
    """The gaps between non-zero elements as symbols, `first` for no zeros, `bridge` for `span`.

    Returns the symbols, where among them those of the elements are, and the elements. The span is a
    power of two.
    """
    places = np.flatnonzero(flat != 0)
    gaps, values = np.diff(places, prepend=-1) - 1, flat[places]
    kind = np.min_scalar_type(max(bridge, span - 1 + first))
    if not len(gaps) or gaps.max() < span:
        return (gaps + first).astype(kind), slice(None), values
    bridges = gaps >> span.bit_length() - 1
    at = np.cumsum(bridges + 1) - 1
    symbols = np.full(int(at[-1]) + 1, bridge, kind)
    symbols[at] = (gaps & span - 1) + first
    return symbols, at, values


def ends(steps, size):
    """Positions of the last element of every step; the steps, 32 or 64 bits each, are changed."""
    # Summed up in 64 bits first: beyond the end of a tensor, 32 bits may wrap around.
    if steps.sum(dtype=np.int64) > size:
        raise ValueError("Damaged record: the gaps lead beyond the end of the tensor.")
    np.cumsum(steps, out=steps)
    steps -= 1
    return steps


def checked(symbols, most, size):
    """Symbols to reckon with in place, none of them above `most`."""
    if len(symbols) > size or (len(symbols) and int(symbols.max()) > most):
        raise ValueError(f"Damaged record: no gaps of a tensor of {size} elements.")
    return symbols.astype(np.int32 if size < 1 << 30 else np.int64, copy=False)
