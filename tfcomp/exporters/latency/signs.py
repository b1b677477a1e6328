"""What lies between two layers of signs, as a limit for each output of the first.

A binary layer gives whole numbers. Its scale, bias and activation, and the layers up to the next
binary one, such as batch normalization, make of each number another, of which the next layer sees
only the sign. Which numbers become +1 is found by trying: the layers themselves are called on every
number there can be. Where these are, for each output, all above or all below some limit, comparing
with the limit does what the layers do. Max-pooling between them is an OR of signs.
"""

from typing import NamedTuple

import keras
import numpy as np

from tfcomp.exporters.kernels.xnor import Window, outside

# More numbers than this are not tried.
_MOST = 1 << 26
_POOLS = (keras.layers.MaxPooling1D, keras.layers.MaxPooling2D, keras.layers.MaxPooling3D)


class Between(NamedTuple):
    """How differing bits become bits of the next layer's inputs.

    Attributes:
        most: int64 array of shape `(outputs,)` or `(*space, outputs)`: so many bits may differ for
            a bit of 1.
        before: Boolean array of the same shape: these bits are inverted before they are pooled.
        pool: `Window` of the pooling, or `None`.
        after: Boolean array of the same shape: these are inverted after pooling.
        flat: Whether the axes of space become channels.
    """

    most: np.ndarray
    before: np.ndarray
    pool: Window | None
    after: np.ndarray
    flat: bool


def between(product, layers, scale):
    """Finds the limits.

    Args:
        product: The first `Product`, of one group.
        layers: Layers between it and the next.
        scale: Magnitudes of its weights, or `None`.

    Returns:
        A `Between`, or `None` where no limits stand for the layers.
    """
    parts = _split(layers)
    if parts is None:
        return None
    first, pool, second, flat, third = parts
    space = product.window.outputs(product.space) if product.window.size else list(product.space)
    window = None if pool is None else _pooling(pool, space)
    if window is not None:
        space = window.outputs(space)
    added = outside(np.sign(product.kernel), product.window, product.space)
    step = 2 if np.isscalar(added) else 1
    numbers = np.arange(-product.entries, product.entries + 1, step)
    outputs = product.kernel.shape[-1]
    features = outputs * (int(np.prod(space)) if flat and third else 1)
    if len(numbers) * features > _MOST:
        return None

    def ahead(values):
        values = values if scale is None else values * scale
        return _called(first, product.finish(keras.ops.convert_to_tensor(values)))

    rank = len(space)
    table = _tried(ahead, numbers, outputs, rank)
    if table is None:
        return None
    falls = np.zeros(outputs, bool)
    if pool is not None:
        falls = _falling(table)
        if falls is None:
            return None
    values = table.reshape(len(numbers), *[1] * rank, outputs)
    table = _continued(values, second, rank)
    if table is not None and flat and third:
        wide = np.broadcast_to(
            table.reshape(len(numbers), *[1] * rank, outputs), (len(numbers), *space, outputs)
        )
        table = _continued(wide.reshape(len(numbers), -1), third, 0)
        if table is not None:
            table = table.reshape(len(numbers), *space, outputs)
            if pool is not None:
                return None
    if table is None:
        return None
    return _limits(table >= 0, numbers, product.entries, added, falls, window, flat)


def _split(layers):
    """Layers before, between and after pooling and flattening, and these two."""
    parts, pool, flat = [[]], None, False
    for layer in layers:
        if isinstance(layer, _POOLS) and pool is None and not flat:
            pool = layer
            parts.append([])
        elif isinstance(layer, keras.layers.Flatten) and not flat:
            if layer.data_format != "channels_last":
                return None
            flat = True
            parts += [[]] * (2 - len(parts)) + [[]]
        elif isinstance(layer, (*_POOLS, keras.layers.Flatten)):
            return None
        else:
            parts[-1].append(layer)
    if any(getattr(p, "data_format", "channels_last") != "channels_last" for p in [pool] if p):
        return None
    parts += [[]] * (3 - len(parts))
    return parts[0], pool, parts[1], flat, parts[2]


def _pooling(layer, space):
    pads = [(0, 0)] * len(space)
    if layer.padding == "same":
        pads = []
        for length, size, stride in zip(space, layer.pool_size, layer.strides):
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2))
    ones = (1,) * len(space)
    return Window(tuple(layer.pool_size), tuple(layer.strides), ones, tuple(pads))


def _called(layers, values):
    for layer in layers:
        values = layer(values, training=False)
    return values


def _tried(function, numbers, outputs, rank):
    """A table of what each number becomes for each output, or `None` if more than that matters."""
    column = np.repeat(numbers.astype(np.float32)[:, None], outputs, 1)
    return _checked(function, column, rank)


def _continued(values, layers, rank):
    """The same for values that are there already."""
    column = np.asarray(values).reshape(len(values), -1)
    if not layers:
        return column
    return _checked(lambda x: _called(layers, keras.ops.convert_to_tensor(x)), column, rank)


def _checked(function, column, rank):
    """Applies a function of channels to a column of numbers for each.

    Whether a channel's result is that of its number alone is tried by mixing the numbers, otherwise
    in each channel, and by laying them along an axis of space.
    """
    count, channels = column.shape
    random = np.random.default_rng(0)
    mixed = np.argsort(random.random((count, min(channels, 64))), axis=0)
    mixed = mixed[:, np.arange(channels) % mixed.shape[1]]
    mixed = (mixed + np.arange(channels)) % count
    shapes = [(count, *[1] * rank, channels)]
    shapes += [(1, count, *[1] * (rank - 1), channels)] if rank else []
    samples = np.take_along_axis(column, mixed, 0)
    plain = np.asarray(keras.ops.convert_to_numpy(function(column.reshape(shapes[0]))))
    if plain.shape != shapes[0]:
        return None
    plain = plain.reshape(count, channels)
    expected = np.take_along_axis(plain, mixed, 0)
    for shape in shapes:
        found = np.asarray(keras.ops.convert_to_numpy(function(samples.reshape(shape))))
        if found.shape != shape:
            return None
        if not np.allclose(found.reshape(count, channels), expected, rtol=1e-5, atol=1e-6):
            return None
    return plain


def _falling(table):
    """Which columns fall, where the others rise; `None` if one does neither."""
    steps = np.diff(table, axis=0)
    rises, falls = np.all(steps >= 0, axis=0), np.all(steps <= 0, axis=0)
    return falls & ~rises if np.all(rises | falls) else None


def _limits(signs, numbers, entries, added, falls, pool, flat):
    """Limits for a table of signs, the numbers along its first axis."""
    inverted = _falling(signs.astype(np.int8))
    if inverted is None:
        return None
    # From this number on the sign is +1, or no more +1 where it is inverted.
    above = signs ^ inverted
    place = np.where(above.any(axis=0), np.argmax(above, axis=0), len(numbers) - 1)
    most = (entries - numbers[place] - added) // 2
    most = np.where(above.any(axis=0), most, -1)
    shape = inverted.shape
    if pool is None:
        none = np.zeros(shape, bool)
        return Between(most.astype(np.int64), none, None, inverted, flat)
    # The largest value after a function that falls is that of the smallest number. All are +1 where
    # not any is -1.
    before = np.broadcast_to(falls, shape)
    return Between(most.astype(np.int64), before, pool, inverted ^ falls, flat)
