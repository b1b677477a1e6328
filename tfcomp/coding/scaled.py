"""Scaled: one scale per channel taken out, where what is left has few distinct values.

Quantizers with a scale per channel leave a tensor of many values that is a product of few: for a
ternary kernel of 512 channels, 1024 values and zero against three. The product gives back exactly
the same bits, or this coding is not used.
"""

import numpy as np

from tfcomp.coding import bitmap, gaps, palette, raw
from tfcomp.coding.coded import Coded, bit_patterns
from tfcomp.coding.expect import expected_bytes
from tfcomp.coding.stats import Stats

NAME, ID = "scaled", 4
PARTS = {"scales": "record", "units": "record"}

_CODINGS = {coding.NAME: coding for coding in (palette, bitmap, gaps)}
_MAX_UNITS = 256
# Weights that a channel needs for its scale to be worth storing.
_FEWEST = 4
# Channels, and weights of each, that are looked at to see whether a scale could help.
_CHANNELS, _GLANCE = 16, 1024


def _channel_axes(rank):
    """Axes along which layers have their channels, the usual ones first."""
    # Kernels of Dense and Conv*; DepthwiseConv*; Conv*Transpose; a matrix times the input.
    choices = [(-1,), (-2, -1), (-2,), (0,)]
    return [axes for axes in choices if rank > len(axes) and (rank > 2 or axes != (-2,))]


def _glance(array, axes):
    """Some channels along `axes`, cut short, as the rows of a matrix."""
    channels = np.moveaxis(array, axes, range(len(axes)))
    count = int(np.prod(channels.shape[: len(axes)]))
    channels = channels.reshape(count, -1)
    return channels[:: -(-count // _CHANNELS), :_GLANCE]


def _largest(size, others):
    return size.max(others, keepdims=True)


def _smallest(size, others):
    return np.where(size > 0, size, np.inf).min(others, keepdims=True)


def _largest_of_int8(size, others):
    # As 8-bit quantizers have it: a ratio of a 127th is no number to the last bit.
    return _largest(size, others) / np.float32(127)


# What the scale may be, and what the units may have been rounded to, most natural first.
_SCALES = (_largest, _smallest)
_ROUNDINGS = (np.round, lambda ratio: np.round(ratio * 2**20) / 2**20, lambda ratio: ratio)
_WAYS = [(scale, rounding) for scale in _SCALES for rounding in _ROUNDINGS]
_WAYS.append((_largest_of_int8, np.round))


def _split(array, axes, way):
    """Returns scales and units with `scales * units` equal to `array` bit for bit, or `None`."""
    scale, rounding = way
    others = tuple(axis for axis in range(array.ndim) if axis - array.ndim not in axes)
    scales = scale(np.abs(array), others)
    # A channel of zeros keeps its zeros, their signs included.
    scales = np.where(np.isfinite(scales) & (scales > 0), scales, 1).astype(np.float32)
    units = rounding(array.astype(np.float64) / scales)
    units = np.copysign(units, array).astype(np.float32)
    if (
        _fragile(units)
        or _fragile(scales)
        or not np.array_equal(bit_patterns(scales * units), bit_patterns(array))
    ):
        return None
    stats = Stats(units)
    if stats.table is None or len(stats.table) > _MAX_UNITS:
        return None
    return scales, units, stats


def _ways(array, axes):
    """The ways that split some channels into fewer values than half their weights."""
    channels = _glance(array, axes)
    limit = np.count_nonzero(channels) // 2 + 1
    for way in _WAYS:
        split = _split(channels, (-2,), way)
        if split is not None and len(split[2].table) <= limit:
            yield way


def _fragile(array):
    # TensorFlow's kernels may flush numbers this small to zero when they multiply.
    size = np.abs(array)
    return bool(np.any((size > 0) & (size < np.finfo(np.float32).tiny)))


def split(array, stats=None):
    """Takes the scales of the channels out of a float32 array of two axes or more.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        Scales, units and the `Stats` of the units, such that `scales * units` is the array bit for
        bit; or `None` where no scale helps.
    """
    if array.dtype != np.float32 or array.ndim < 2 or not array.size:
        return None
    if stats is not None and stats.table is not None and len(stats.table) <= 3:
        return None
    if not np.isfinite(array).all() or _fragile(array):
        return None
    array = np.ascontiguousarray(array)
    best, smallest = None, np.inf
    for axes in _channel_axes(array.ndim):
        axes = tuple(axis if axis < 0 else axis - array.ndim for axis in axes)
        if np.prod([array.shape[axis] for axis in axes]) > array.size // _FEWEST:
            continue
        for way in _ways(array, axes):
            found = _split(array, axes, way)
            if found is None:
                continue
            scales, units, stats = found
            size = scales.nbytes + units.size * np.log2(len(stats.table)) / 8
            if size < smallest:
                best, smallest = found, size
    return best


def encode(array, stats=None):
    """Codes a float32 array of two axes or more.

    Args:
        array: Numpy array.
        stats: Optional `Stats` of it, to save time.

    Returns:
        A `Coded`, or `None` where no scale helps.
    """
    found = split(array, stats)
    if found is None:
        return None
    scales, units, stats = found
    coding = min(_CODINGS.values(), key=lambda coding: expected_bytes(coding, units, stats))
    parts = {"scales": raw.encode(scales), "units": coding.encode(units, stats)}
    return Coded(NAME, array.shape, array.dtype.name, parts)


def decode(coded):
    """Returns the array."""
    scales, units = coded.parts["scales"], coded.parts["units"]
    fits = (
        coded.dtype == scales.dtype == units.dtype == "float32"
        and coded.shape == units.shape
        and len(scales.shape) == len(units.shape)
        and all(a in (1, b) for a, b in zip(scales.shape, units.shape))
        and scales.coding == "raw"
        and units.coding in _CODINGS
    )
    if not fits:
        raise ValueError(f"Damaged record: no scales of a tensor of shape {coded.shape}.")
    return raw.decode(scales) * _CODINGS[units.coding].decode(units)
