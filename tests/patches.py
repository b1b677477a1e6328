"""What a convolution sees at each position, one position after the other."""

import itertools

import numpy as np


def same_widths(length, size, stride, dilation):
    """What padding="same" adds before and after, as TensorFlow counts."""
    outputs = -(-length // stride)
    total = max((outputs - 1) * stride + (size - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2


def patches(x, sizes, strides=1, dilation=1, padding="valid", fill=0.0):
    """Array of shape `(batch, *positions, entries of the kernel, channels)`, channels last."""
    rank = x.ndim - 2
    strides = strides if isinstance(strides, tuple) else (strides,) * rank
    dilation = dilation if isinstance(dilation, tuple) else (dilation,) * rank
    widths = [(0, 0)] * rank
    if padding == "same":
        widths = [same_widths(*g) for g in zip(x.shape[1:-1], sizes, strides, dilation)]
    elif padding == "causal":
        widths = [((sizes[0] - 1) * dilation[0], 0)]
    x = np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=fill)
    positions = [
        range(0, n - (k - 1) * d, s) for n, k, s, d in zip(x.shape[1:-1], sizes, strides, dilation)
    ]
    out = np.zeros(
        (len(x), *map(len, positions), int(np.prod(sizes)), x.shape[-1]), dtype=np.float64
    )
    for place in itertools.product(*(enumerate(p) for p in positions)):
        where, starts = zip(*place)
        for entry, offsets in enumerate(itertools.product(*map(range, sizes))):
            at = tuple(s + o * d for s, o, d in zip(starts, offsets, dilation))
            out[(slice(None), *where, entry)] = x[(slice(None), *at)]
    return out
