"""Scales: one scale per channel taken out, where what is left has few distinct values.

Quantizers with a scale per channel leave a tensor of many values that is a product of few: for a
ternary kernel of 512 channels, 1024 values and zero against three. The product gives back exactly
the same bits, or no scale is taken out.
"""

import math

import numpy as np

from tfcomp.storage.distinct import distinct
from tfcomp.storage.patterns import bit_patterns, sorted_distinct

_MAX_UNITS = 256
# Weights that a channel needs for its scale to be worth storing.
_FEWEST = 4
# Channels, and weights of each, that are looked at to see whether a scale could help.
_CHANNELS, _GLANCE = 16, 1024
# Values of all channels for each of one of them, for scales to be worth a try.
_MORE = 1.5


def _channel_axes(rank):
    """Axes along which layers have their channels, the usual ones first."""
    # Kernels of Dense and Conv*; DepthwiseConv*; Conv*Transpose; a matrix times the input.
    choices = [(-1,), (-2, -1), (-2,), (0,)]
    return [axes for axes in choices if rank > len(axes) and (rank > 2 or axes != (-2,))]


def _glance(array, axes):
    """Some channels along `axes`, cut short, as the rows of a matrix."""
    channels = np.moveaxis(array, axes, range(len(axes)))
    shape = channels.shape[: len(axes)]
    count = math.prod(shape)
    chosen = np.unravel_index(np.arange(0, count, -(-count // _CHANNELS)), shape)
    # Before a reshape, which may copy all of them.
    return channels[chosen].reshape(len(chosen[0]), -1)[:, :_GLANCE]


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
    if not np.isfinite(array).all() or _fragile(array):
        return None
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
    lookup = distinct([bit_patterns(units)], _MAX_UNITS)
    return None if lookup is None else (scales, units, len(lookup.table))


def _differ(channels):
    """Whether so many weights of all channels have more values than those of one channel."""
    kept = channels != 0
    fullest = kept.sum(1).argmax()
    one, every = channels[fullest][kept[fullest]], channels[kept]
    some = every[:: max(len(every) // max(len(one), 1), 1)][: len(one)]
    return len(sorted_distinct(some)) > _MORE * len(sorted_distinct(one))


def _ways(array, axes, repeat):
    """The ways that split some channels into fewer values than half their weights."""
    channels = _glance(array, axes)
    if repeat and not _differ(channels):
        return
    limit = np.count_nonzero(channels) // 2 + 1
    # A channel's units are as many as its values, whatever the scale.
    if len(sorted_distinct(bit_patterns(channels[0]))) > min(limit, _MAX_UNITS):
        return
    for way in _WAYS:
        split = _split(channels, (-2,), way)
        if split is not None and split[2] <= limit:
            yield way


def _candidates(array):
    """Axes along which an array may have channels, counted from the end, and how many channels."""
    for axes in _channel_axes(array.ndim):
        axes = tuple(axis if axis < 0 else axis - array.ndim for axis in axes)
        channels = math.prod(array.shape[axis] for axis in axes)
        if channels <= array.size // _FEWEST:
            yield axes, channels


def has_scales(array):
    """Whether a glance at some channels tells that `split` may help."""
    if array.dtype != np.float32:
        return False
    return any(any(_ways(array, axes, False)) for axes, _ in _candidates(array))


def _fragile(array):
    # TensorFlow's kernels may flush numbers this small to zero when they multiply.
    size = np.abs(array)
    return bool(np.any((size > 0) & (size < np.finfo(np.float32).tiny)))


def split(array, bits, repeat):
    """Takes the scales of the channels out of an array.

    Args:
        array: Numpy array.
        bits: What the scales alone must stay below.
        repeat: Whether values are known to repeat; then a glance tells whether channels differ.

    Returns:
        Scales and units, such that `scales * units` is the array bit for bit; or `None` where no
        scale helps, or the array is not of float32 and two axes or more.
    """
    if array.dtype != np.float32 or array.ndim < 2 or not array.size:
        return None
    array = np.ascontiguousarray(array)
    best, smallest = None, np.inf
    for axes, channels in _candidates(array):
        if 32 * channels >= bits:
            continue
        for way in _ways(array, axes, repeat):
            found = _split(array, axes, way)
            if found is None:
                continue
            scales, units, count = found
            size = scales.nbytes + units.size * np.log2(count) / 8
            if size < smallest:
                best, smallest = (scales, units), size
    return best
