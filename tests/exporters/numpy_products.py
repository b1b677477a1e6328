"""Convolutions position by position, what kernels are compared with."""

import numpy as np


def reference(x, kernel, window):
    """A convolution, position by position, in whole numbers."""
    pads = [(0, 0), *window.pads, (0, 0)]
    x = np.pad(x, pads, constant_values=window.pad_value)
    rank, groups = len(window.size), window.groups
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    reach = [(k - 1) * d + 1 for k, d in zip(window.size, window.dilation)]
    space = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, window.strides)]
    out = np.zeros((len(x), *space, kernel.shape[-1]))
    for at in np.ndindex(*space):
        begin = [a * s for a, s in zip(at, window.strides)]
        cut = [slice(b, b + r, d) for b, r, d in zip(begin, reach, window.dilation)]
        patch = x[(slice(None), *cut)]
        for g in range(groups):
            a = patch[..., g * inputs : (g + 1) * inputs]
            b = kernel[..., g * outputs : (g + 1) * outputs]
            out[(slice(None), *at, slice(g * outputs, (g + 1) * outputs))] = np.tensordot(
                a, b, rank + 1
            )
    return out
