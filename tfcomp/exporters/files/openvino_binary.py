"""Binary layers as OpenVINO's `BinaryConvolution`.

It multiplies signs only behind a `FakeQuantize` of two levels, 0 and 1, in which a threshold and a
direction may stand for each channel; of others it silently computes something else. So it does
where channels are no multiple of eight, and it runs for fixed batch sizes alone. What lies between
two binary layers becomes thresholds between whole numbers, as in `tfcomp.exporters.latency.signs`.
"""

import warnings
from typing import NamedTuple

import numpy as np

from tfcomp.exporters.files.holes import Hole, unit_of
from tfcomp.exporters.kernels.xnor import Window, outside, sign_weights
from tfcomp.exporters.latency.binary import chains, finished, takes_signs
from tfcomp.exporters.latency.product import product_of
from tfcomp.exporters.latency.units import has_kernel
from tfcomp.model.choice import Unsuited
from tfcomp.model.result import LeftOut

# Channels come in so many.
_CHANNELS = 8
# Numbers from here on are +1. Smaller ones than this are zeros to an engine that flushes them.
_ZERO = -np.finfo(np.float32).tiny
# Groups of fewer channels than this are mostly filled up.
_LEAST = 8
# Columns of outputs that are computed at once, with AVX2 and with AVX-512: no padding may be wider.
_AT_ONCE = (2, 4)
# Wider windows are not padded and moved by more than one at once.
_WIDEST = 7


class Signs(NamedTuple):
    """One binary convolution.

    Attributes:
        pool: `Window` of max-pooling before it, or `None`.
        features: Whether positions become channels before it.
        threshold: float32 array, one for each channel: above, a bit is 1.
        inverted: Boolean array, one for each channel: above, it is 0.
        kernels: List of boolean arrays of shape `(outputs, inputs, height, width)`, of each group.
        window: `Window` of two axes.
        added: What channels that were filled up add to each position, or `None`.
    """

    pool: Window | None
    features: bool
    threshold: np.ndarray
    inverted: np.ndarray
    kernels: list
    window: Window
    added: np.ndarray | None


class BinaryConvolutions(Hole):
    """Binary layers, one or several in a row.

    Args:
        unit: A `Unit`.
        links: List of `tfcomp.exporters.latency.binary.Link`.
    """

    is_for_one_size = True

    def __init__(self, unit, links):
        last = links[-1]
        super().__init__(unit, [*_outer(last.product), last.product.kernel.shape[-1]])
        several = f", {len(links)} layers" if len(links) > 1 else ""
        self.name = f"BinaryConvolution{several}"
        self._last = last
        self.steps, before = [], None
        for link in links:
            self.steps.append(_step(link, before))
            before = link

    def finish(self, outputs, inputs):
        scales = [weights.scale for weights in self._last.groups]
        if scales[0] is not None:
            outputs = outputs * np.concatenate(scales)
        return finished(self._last.product, outputs, inputs)

    def answer(self, inputs, kept):
        return _Emitter(kept).fill(self, inputs)


def binary_holes(flow, final):
    """Finds the binary layers of a model.

    Args:
        flow: Dict from number to `tfcomp.exporters.latency.flow.Seen`.
        final: The model's `FinalWeights`.

    Returns:
        List of `BinaryConvolutions`, and list of `LeftOut`, of the other layers with kernels.
    """
    signs, left = {}, []
    for number, seen in flow.items():
        if takes_signs(seen.layer) or has_kernel(seen.layer):
            try:
                signs[number] = _product(seen, final)
            except Unsuited as reason:
                left.append(LeftOut(seen.layer.path, str(reason)))
    holes = [
        BinaryConvolutions(unit_of(numbers, flow), links) for links, numbers in chains(flow, signs)
    ]
    return holes, left


def _product(seen, final):
    """A product of signs, and its laid out weights."""
    if not takes_signs(seen.layer):
        raise Unsuited("its inputs are not signs")
    product = product_of(seen, final)
    window = product.window
    if len(product.space) > 2:
        raise Unsuited("BinaryConvolution has two axes of space")
    if window.pad_value not in (-1, 0, 1):
        raise Unsuited(f"it pads with {window.pad_value}")
    if window.groups > 1 and product.kernel.shape[-2] < _LEAST:
        raise Unsuited(f"it has groups of {product.kernel.shape[-2]} channels")
    if len(product.space) == 2:
        _check_columns(window, product.space)
    found = sign_weights(product.kernel, window.groups)
    if found is None:
        raise Unsuited("its weights are not signs")
    return product, found


def _check_columns(window, space):
    """Raises for windows with which some processor, not always this one, loads no file."""
    (top, _), (left, _) = window.pads
    size, stride = window.size[1], window.strides[1]
    if size > _WIDEST and (top or left) and max(window.strides) > 1:
        raise Unsuited(f"its windows of {size} columns are padded, and not moved by 1")
    columns = window.outputs(space)[1]
    for count in _AT_ONCE:
        count = min(count, columns)
        last = (columns - columns % count - 1) * stride + (size - 1) * window.dilation[1] + 1
        most = max(left, last - left - space[1])
        if most > count:
            raise Unsuited(f"it pads {most} columns, where {count} are computed at once")


# ---- as numbers


def _outer(product):
    """Lengths of the axes of space of the outputs."""
    return product.window.outputs(product.space) if product.window.size else list(product.space)


def _plane(window):
    """The same window with two axes of space."""
    rest = 2 - len(window.size)
    return window._replace(
        size=(*window.size, *[1] * rest),
        strides=(*window.strides, *[1] * rest),
        dilation=(*window.dilation, *[1] * rest),
        pads=(*window.pads, *[(0, 0)] * rest),
    )


def _step(link, before):
    product, how = link.product, None if before is None else before.between
    kernel, window = np.sign(product.kernel), _plane(product.window)
    *_, channels, outputs = kernel.shape
    space = [*product.space, *[1] * (2 - len(product.space))]
    pool = features = None
    if how is None:
        threshold = np.full(channels * window.groups, _ZERO)
        inverted = np.zeros(len(threshold), bool)
    else:
        threshold, inverted = _thresholds(before), how.before ^ how.after
        if how.pool is not None:
            pool = _plane(how.pool)
            threshold = np.where(how.before, -threshold, threshold)
            inverted = how.after
        if how.flat:
            # As channels where each position has limits of its own, and else as a window.
            features = threshold.ndim > 1
            if features:
                threshold, inverted = (
                    np.broadcast_to(x, threshold.shape).reshape(-1) for x in (threshold, inverted)
                )
            else:
                space = _pooled(before)
                kernel = kernel.reshape(*space, -1, outputs)
                window = window._replace(size=tuple(space))
    kernel = kernel.reshape(*window.size, -1, outputs)
    if link.between is not None and link.between.pool is not None:
        # The largest of falling values is found among their negatives.
        kernel = np.where(link.between.before, -kernel, kernel)
    kernel, added = _filled(kernel, window, space)
    bits = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1) > 0)
    kernels = np.split(bits, window.groups)
    return Signs(pool, bool(features), threshold, inverted, kernels, window, added)


def _pooled(link):
    """Lengths of space behind a link, two of them."""
    space, pool = _outer(link.product), link.between.pool
    space = pool.outputs(space) if pool is not None else space
    return [*space, *[1] * (2 - len(space))]


def _thresholds(link):
    """Halfway between the sums that become -1 and those that become +1."""
    product, most = link.product, link.between.most
    added = outside(np.sign(product.kernel), product.window, product.space)
    never = np.float32(2 * product.entries + 2)
    found = np.where(most >= 0, product.entries - 2 * most - added - 1, never).astype(np.float32)
    if found.ndim == 1:
        return found
    each = np.where(found < never, found, np.nan).reshape(-1, found.shape[-1])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        low, high = np.nanmin(each, axis=0), np.nanmax(each, axis=0)
    if np.any(high - low > 1):
        return found
    # Padding with zeros makes even sums of odd ones: one limit between two is that of both.
    return np.where(np.isnan(low), never, (low + high) / 2)


def _filled(kernel, window, space):
    """Fills up the channels, which are -1 there, and what that adds to the outputs."""
    extra = -kernel.shape[2] % _CHANNELS
    if not extra:
        return kernel, None
    # In turns, so that they add nothing, but for one that is left over.
    turns = np.where(np.arange(extra) % 2, -1.0, 1.0)[:, None]
    turns = np.broadcast_to(turns, (*kernel.shape[:2], extra, kernel.shape[3]))
    kernel = np.concatenate([kernel, turns], axis=2)
    if extra % 2 == 0:
        return kernel, None
    plane = np.pad(np.full(space, -1.0), window.pads, constant_values=window.pad_value)
    added = sum(window.seen(plane, offset, space) for offset in window.offsets)
    return kernel, added.astype(np.float32)[None, None]


# ---- as OpenVINO's operations


def _order(node):
    """The order of axes that a node puts its input in, or `None`."""
    if node.get_type_name() != "Transpose":
        return None
    order = node.input_value(1).get_node()
    return list(order.data) if order.get_type_name() == "Constant" else None


class _Emitter:
    """Makes nodes of binary convolutions.

    Args:
        kept: List that arrays are added to which constants are, and not copies of.
    """

    def __init__(self, kept):
        import openvino
        from openvino import opset1, opset13

        self.ov, self.op, self.op1, self.kept = openvino, opset13, opset1, kept

    def fill(self, hole, inputs):
        """The node that answers for a hole, with any batch size.

        Args:
            hole: `BinaryConvolutions`.
            inputs: Output of a node, of shape `(batch, ...)`.
        """
        before, first = inputs.get_node(), False
        if len(hole.unit.shape) == 3 and _order(before) == [0, 2, 3, 1]:
            # The converter has put channels last for the sake of this one alone.
            inputs, first = before.input_value(0), True
        if inputs.partial_shape[0].is_static:
            return self._node(hole, inputs, first)
        # One sample after the other, since it is for fixed sizes alone.
        shape = [1, *(size.get_length() for size in list(inputs.partial_shape)[1:])]
        one = self.op.parameter(shape, np.float32)
        body = self.ov.Model([self._node(hole, one.output(0), first)], [one])
        loop = self.op.tensor_iterator()
        loop.set_body(body)
        loop.set_sliced_input(one, inputs, 0, 1, 1, -1, 0)
        return loop.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)

    def _node(self, hole, node, channels_first):
        op, (*space, outputs) = self.op, hole.shape
        if not channels_first:
            node = self._channels_first(node, hole.unit.shape)
        for step in hole.steps:
            node = self._convolved(step, self._prepared(step, node))
        if len(space) != 2:
            node = op.reshape(node, np.array([0, outputs, *space]), True)
        if space:
            node = op.transpose(node, np.array([0, *range(2, 2 + len(space)), 1]))
        return node.output(0)

    def _channels_first(self, node, shape):
        *space, channels = shape
        if space:
            order = [0, 1 + len(space), *range(1, 1 + len(space))]
            node = self.op.transpose(node, np.array(order))
        if len(space) != 2:
            node = self.op.reshape(node, np.array([0, channels, *(space or [1]), 1]), True)
        return node

    def _prepared(self, step, node):
        op = self.op
        if step.pool is not None:
            pads = list(zip(*step.pool.pads))
            node = op.max_pool(node, step.pool.strides, [1, 1], *pads, step.pool.size).output(0)
        if step.features:
            node = op.transpose(node, np.array([0, 2, 3, 1]))
            node = op.reshape(node, np.array([0, len(step.threshold), 1, 1]), True)
        return node

    def _convolved(self, step, node):
        op, groups = self.op, len(step.kernels)
        parts = [node] if groups == 1 else op.split(node, np.int64(1), groups).outputs()
        limits = zip(*(np.split(x, groups) for x in (step.threshold, step.inverted)))
        found = [
            self._product(step, part, kernel, *limit)
            for part, kernel, limit in zip(parts, step.kernels, limits)
        ]
        node = found[0] if groups == 1 else op.concat(found, 1)
        return node if step.added is None else op.subtract(node, op.constant(step.added))

    def _product(self, step, node, kernel, threshold, inverted):
        op, channels = self.op, kernel.shape[1]
        extra = channels - len(threshold)
        if extra:
            ends = [np.array([0, 0, 0, 0]), np.array([0, extra, 0, 0])]
            node = op.pad(node, *ends, "constant", np.float32(-1))
            # -1 is below any threshold that is no sum.
            threshold, inverted = np.pad(threshold, (0, extra)), np.pad(inverted, (0, extra))
        bound, low = (
            np.asarray(x, np.float32).reshape(1, channels, 1, 1) for x in (threshold, inverted)
        )
        bits = op.fake_quantize(node, bound, bound, low, 1 - low, 2)
        packed = np.packbits(kernel.reshape(-1), bitorder="little")
        self.kept.append(packed)
        tensor = self.ov.Tensor(packed, self.ov.Shape(kernel.shape), self.ov.Type.u1)
        window = step.window
        begins, ends = zip(*window.pads)
        return self.op1.binary_convolution(
            bits,
            op.constant(tensor),
            list(window.strides),
            list(begins),
            list(ends),
            list(window.dilation),
            "xnor-popcount",
            float(window.pad_value),
        )
