"""Layers seen as linear maps: which matrix a weight is, and which vectors it is applied to."""

import keras
import numpy as np

from tfcomp.model.choice import Unsuited

# Numbers that patches taken out of images may hold at a time.
_CHUNK = 1 << 23
# Rows of a matrix of squares that are brought up to date together.
_ROWS = 512


def add_squares(total, samples):
    """Adds `samples.T @ samples` to `total`, both for every group, in little more memory.

    Args:
        total: Array `(groups, inputs, inputs)`.
        samples: Array `(groups, samples, inputs)`.
    """
    for begin in range(0, total.shape[1], _ROWS):
        rows = slice(begin, begin + _ROWS)
        total[:, rows] += np.matmul(samples[:, :, rows].swapaxes(1, 2), samples)


class LinearMap:
    """A weight as a stack of matrices, and its inputs as a stack of samples.

    Subclasses define `matrices` and `samples`; `assemble` undoes `matrices`.

    Attributes:
        choose: `None` for all samples, or a function from how many images or sequences there are,
            and how many samples, to those that are wanted, an array of indices.
    """

    def __init__(self, target):
        self.target = target
        self.layer = target.layer
        self.choose = None

    def chosen(self, samples, images):
        """Those that are wanted of an array of samples, which come from so many images."""
        return samples if self.choose is None else samples[self.choose(images, len(samples))]

    def matrices(self, value):
        """Array `(groups, inputs, outputs)` from the value of the variable."""
        raise NotImplementedError

    def assemble(self, matrices):
        """The value of the variable from an array `(groups, inputs, outputs)`."""
        raise NotImplementedError

    def samples(self, args, kwargs):
        """Yields arrays `(groups, samples, inputs)` from the arguments of a call of the layer."""
        raise NotImplementedError


def _numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor), np.float32)


class _Dense(LinearMap):
    def matrices(self, value):
        return value[None]

    def assemble(self, matrices):
        return matrices[0]

    def samples(self, args, kwargs):
        inputs = _numpy(args[0])
        yield self.chosen(inputs.reshape(-1, inputs.shape[-1]), len(inputs))[None]


class _Einsum(LinearMap):
    """An equation that contracts some axes of the input with some of the kernel."""

    def __init__(self, target):
        super().__init__(target)
        ins, out = self.layer.equation.replace(" ", "").split("->")
        self.input, self.kernel = ins.split(",")
        if any(a in self.input and a in out for a in self.kernel) or "." in self.kernel:
            raise Unsuited(f"it is not one matrix in {self.layer.equation!r}")
        self.inner = [axis for axis in self.kernel if axis not in out]
        self.axes = [self.kernel.index(axis) for axis in self.inner]
        self.axes += [i for i in range(len(self.kernel)) if i not in self.axes]

    def matrices(self, value):
        value = value.transpose(self.axes)
        size = int(np.prod(value.shape[: len(self.inner)]))
        return value.reshape(1, size, -1)

    def assemble(self, matrices):
        shape = [self.target.variable.shape[axis] for axis in self.axes]
        return matrices[0].reshape(shape).transpose(np.argsort(self.axes))

    def samples(self, args, kwargs):
        inputs = _numpy(args[0])
        head, _, tail = self.input.partition("...")
        labels = self.input
        if "..." in self.input:
            unnamed = inputs.ndim - len(head) - len(tail)
            labels = head + "." * unnamed + tail
        last = [labels.index(axis) for axis in self.inner]
        order = [axis for axis in range(inputs.ndim) if axis not in last] + last
        size = int(np.prod([inputs.shape[axis] for axis in last]))
        yield self.chosen(inputs.transpose(order).reshape(-1, size), len(inputs))[None]


class _Conv(LinearMap):
    """Patches of the input, in the order of the kernel's axes."""

    def matrices(self, value):
        groups = self.layer.groups
        matrix = value.reshape(-1, groups, value.shape[-1] // groups)
        return matrix.transpose(1, 0, 2)

    def assemble(self, matrices):
        return matrices.transpose(1, 0, 2).reshape(self.target.variable.shape)

    def samples(self, args, kwargs):
        for patches in _patches(self, _numpy(args[0])):
            # (positions, window, channels) to one row of windows for each group of channels
            positions, window, channels = patches.shape
            groups = self.layer.groups
            split = patches.reshape(positions, window, groups, channels // groups)
            yield split.transpose(2, 0, 1, 3).reshape(groups, positions, -1)


class _Depthwise(LinearMap):
    def matrices(self, value):
        return value.reshape(-1, *value.shape[-2:]).transpose(1, 0, 2)

    def assemble(self, matrices):
        return matrices.transpose(1, 0, 2).reshape(self.target.variable.shape)

    def samples(self, args, kwargs):
        for patches in _patches(self, _numpy(args[0])):
            yield patches.transpose(2, 0, 1)


class _Pointwise(LinearMap):
    """The second kernel of a separable convolution sees what the first makes of the inputs."""

    def __init__(self, target):
        super().__init__(target)
        self.first = _Depthwise(target)

    def matrices(self, value):
        return value.reshape(1, -1, value.shape[-1])

    def assemble(self, matrices):
        return matrices.reshape(self.target.variable.shape)

    def samples(self, args, kwargs):
        self.first.choose = self.choose
        kernels = self.first.matrices(_numpy(self.layer.depthwise_kernel))
        for patches in self.first.samples(args, kwargs):
            seen = np.matmul(patches, kernels).transpose(1, 0, 2)
            yield seen.reshape(1, len(seen), -1)


class _Transposed(LinearMap):
    """A convolution, by the flipped kernel, of the inputs with zeros between them."""

    def __init__(self, target):
        super().__init__(target)
        if any(padding is not None for padding in np.atleast_1d(self.layer.output_padding)):
            raise Unsuited("its layer has `output_padding`")

    def _flipped(self, value):
        return np.flip(value, tuple(range(self.layer.rank))).swapaxes(-1, -2)

    def matrices(self, value):
        return self._flipped(value).reshape(1, -1, value.shape[-2])

    def assemble(self, matrices):
        *window, outputs, inputs = self.target.variable.shape
        return self._flipped(matrices.reshape(*window, inputs, outputs))

    def samples(self, args, kwargs):
        layer, images = self.layer, _numpy(args[0])
        if layer.data_format == "channels_first":
            images = np.moveaxis(images, 1, -1)
        lengths = images.shape[1:-1]
        spread = [(length - 1) * stride + 1 for length, stride in zip(lengths, layer.strides)]
        wide = np.zeros((len(images), *spread, images.shape[-1]), np.float32)
        wide[(slice(None), *(slice(None, None, stride) for stride in layer.strides))] = images
        pads = []
        for length, stride, size, dilation in zip(
            lengths, layer.strides, layer.kernel_size, layer.dilation_rate
        ):
            reach = (size - 1) * dilation
            over = max(reach + 1 - stride, 0)
            # All positions that an input reaches, less those that "same" cuts off.
            before = reach - (over // 2 if layer.padding == "same" else 0)
            outputs = length * stride + (0 if layer.padding == "same" else over)
            pads.append((before, outputs + reach - before - (length - 1) * stride - 1))
        for patches in _windows(self, _cropped(wide, pads), [1] * layer.rank):
            yield patches.reshape(1, len(patches), -1)


def _cropped(images, pads):
    """The images with zeros around them, or less of them where a width is negative."""
    images = np.pad(images, [(0, 0), *((max(a, 0), max(b, 0)) for a, b in pads), (0, 0)])
    ends = [slice(max(-a, 0), min(b, 0) or None) for a, b in pads]
    return images[(slice(None), *ends)]


def _patches(linear, images):
    """Yields arrays `(positions, window, channels)`, a few images at a time."""
    layer = linear.layer
    if layer.data_format == "channels_first":
        images = np.moveaxis(images, 1, -1)
    window = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    pads = [(0, 0)]
    for size, reach, stride in zip(images.shape[1:-1], window, layer.strides):
        total = 0
        if layer.padding == "same":
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        before = reach - 1 if layer.padding == "causal" else total // 2
        pads.append((before, 0 if layer.padding == "causal" else total - before))
    return _windows(linear, np.pad(images, [*pads, (0, 0)]), layer.strides)


def _windows(linear, images, strides):
    """Yields what the kernel of a layer lies over, position by position."""
    layer, rank = linear.layer, linear.layer.rank
    window = [(k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    views = np.lib.stride_tricks.sliding_window_view(images, window, tuple(range(1, rank + 1)))
    steps = [slice(None, None, stride) for stride in strides]
    holes = [slice(None, None, dilation) for dilation in layer.dilation_rate]
    views = views[(slice(None), *steps, slice(None), *holes)]
    views = np.moveaxis(views, rank + 1, -1)
    few = max(1, _CHUNK // max(1, int(np.prod(views.shape[1:]))))
    for begin in range(0, len(views), few):
        part = views[begin : begin + few]
        places = part.shape[: rank + 1]
        if linear.choose is not None:
            chosen = linear.choose(len(part), int(np.prod(places)))
            part = part[np.unravel_index(chosen, places)]
        yield part.reshape(-1, int(np.prod(layer.kernel_size)), part.shape[-1])


class _Recurrent(LinearMap):
    """`kernel` sees the sequence, `recurrent_kernel` the states before each step."""

    def __init__(self, target):
        super().__init__(target)
        if self.layer.stateful:
            raise Unsuited("its layer is stateful")
        recurrent = target.variable is self.layer.cell.recurrent_kernel
        if recurrent and not getattr(self.layer, "reset_after", True):
            raise Unsuited("its layer has `reset_after=False`")
        self.recurrent = recurrent

    def matrices(self, value):
        return value[None]

    def assemble(self, matrices):
        return matrices[0]

    def samples(self, args, kwargs):
        inputs = self._states(args, kwargs) if self.recurrent else _numpy(args[0])
        mask = kwargs.get("mask", args[2] if len(args) > 2 else None)
        if mask is not None:
            mask = np.asarray(keras.ops.convert_to_numpy(mask), bool)
            if self.recurrent and self.layer.go_backwards:
                mask = mask[:, ::-1]
            inputs = inputs[mask]
        yield self.chosen(inputs.reshape(-1, inputs.shape[-1]), len(inputs))[None]

    def _states(self, args, kwargs):
        layer, settings = self.layer, (self.layer.return_sequences, self.layer.return_state)
        layer.return_sequences, layer.return_state = True, False
        try:
            states = _numpy(type(layer).call(layer, *args, **kwargs))
        finally:
            layer.return_sequences, layer.return_state = settings
        initial = kwargs.get("initial_state", args[1] if len(args) > 1 else None)
        first = np.zeros_like(states[:, :1])
        if initial is not None:
            first = _numpy(keras.tree.flatten(initial)[0])[:, None]
        return np.concatenate([first, states[:, :-1]], axis=1)


def _owner(target, sites):
    """The layer whose call says what the weight is applied to: for a cell, the layer around it."""
    for site in sites:
        if getattr(site.layer, "cell", None) is target.layer:
            return site.layer
    return target.layer


_RECURRENT = (keras.layers.LSTM, keras.layers.GRU, keras.layers.SimpleRNN)
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
_TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)
_SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)

# Types of layers, names of their weights, and what these are.
_KINDS = [
    (_RECURRENT, ("kernel", "recurrent_kernel"), _Recurrent),
    (keras.layers.Dense, ("kernel",), _Dense),
    (keras.layers.EinsumDense, ("kernel",), _Einsum),
    (_CONVOLUTIONS, ("kernel",), _Conv),
    (_TRANSPOSED, ("kernel",), _Transposed),
    ((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), ("kernel",), _Depthwise),
    (_SEPARABLE, ("depthwise_kernel",), _Depthwise),
    (_SEPARABLE, ("pointwise_kernel",), _Pointwise),
]


def linear_map(target, sites):
    """Returns the `LinearMap` of a target.

    Args:
        target: A `tfcomp.targets.Target`.
        sites: The `tfcomp.targets.layer_sites` of its model.

    Raises:
        Unsuited: If its layer is not known to be one, or not with these settings.
    """
    layer = _owner(target, sites)
    for types, names, kind in _KINDS:
        if isinstance(layer, types) and target.variable.name in names:
            return kind(target._replace(layer=layer))
    raise Unsuited(f"the {target.variable.name!r} of {type(layer).__name__}")
