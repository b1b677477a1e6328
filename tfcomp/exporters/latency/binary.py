"""Binary layers, one or several in a row, as XNOR kernels."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels import words, xnor
from tfcomp.exporters.kernels.compiled import compiled
from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.exporters.latency.signs import Between, between
from tfcomp.model.choice import Unsuited

# As many words of weights may be written out for one layer; more take long to compile.
_TERMS = 1024


def takes_signs(layer):
    """Whether a layer multiplies by the signs of its inputs."""
    quantizer = getattr(layer, "input_quantizer", None)
    if getattr(quantizer, "levels", None) != (-1.0, 1.0):
        return False
    tried = np.float32([-2, -1e-30, -0.0, 0, 1e-30, 2])
    return np.array_equal(np.asarray(quantizer(tf.constant(tried))), [-1, -1, 1, 1, 1, 1])


class Link(NamedTuple):
    """One layer of a chain.

    Attributes:
        product: Its `Product`.
        groups: List of `SignWeights`.
        between: What leads to the next layer, or `None` behind the last.
    """

    product: object
    groups: list
    between: Between | None


def sign_product(product):
    """The laid out weights of a product of signs.

    Raises:
        Unsuited: If it is none.
    """
    if not takes_signs(product.layer):
        raise Unsuited("its inputs are not signs")
    window = product.window
    if window.pad_value not in (-1, 0, 1):
        raise Unsuited(f"it pads with {window.pad_value}")
    found = xnor.sign_weights(product.kernel, window.groups)
    if found is None:
        raise Unsuited("its weights are not signs")
    terms = sum(weights.words.shape[1] for weights in found)
    if terms > _TERMS and window.size:
        raise Unsuited(f"it would take {terms} terms")
    return found


def chain_of(first, flow, products):
    """The longest chain of binary layers that begins with a call.

    Args:
        first: Number of the call.
        flow: Dict from number to `Seen`.
        products: Dict from number to pairs of `Product` and the laid out weights.

    Returns:
        List of `Link`, and the numbers of all calls that it stands for.
    """
    links, numbers, number = [], [first], first
    while True:
        product, groups = products[number]
        found = _next(number, flow, products)
        if found is None:
            return [*links, Link(product, groups, None)], numbers
        following, passed = found
        (weights,) = groups
        how = between(product, [flow[n].layer for n in passed], weights.scale)
        if how is None:
            return [*links, Link(product, groups, None)], numbers
        links.append(Link(product, groups, how))
        numbers += [*passed, following]
        number = following


def chains(flow, products):
    """Yields what `chain_of` returns for all binary layers, each of which is in one chain."""
    taken = set()
    for number in sorted(products):
        if number not in taken:
            links, numbers = chain_of(number, flow, products)
            taken |= set(numbers)
            yield links, numbers


def _next(number, flow, products):
    """The next binary layer that a number alone leads to, and the calls between, or `None`."""
    product, groups = products[number]
    if len(groups) > 1 or getattr(product.layer, "input_scale", False):
        return None
    passed = []
    following = flow[number].following
    while following in flow:
        if following in products:
            after, its_groups = products[following]
            alone = len(its_groups) == 1 and not getattr(after.layer, "input_scale", False)
            return (following, passed) if alone else None
        passed.append(following)
        following = flow[following].following
    return None


class BinaryChain(Candidate):
    """Binary layers whose signs are passed on as words.

    Args:
        links: List of `Link`.
    """

    name = "xnor"
    is_static = True

    def __init__(self, links):
        if len(links) > 1:
            self.name = f"xnor, {len(links)} layers"
        last = links[-1]
        groups = [weights.unpacked(last.product.window) for weights in last.groups]
        self.links = links = [*links[:-1], last._replace(groups=groups)]
        self._run = compiled(self._blocks)
        self.arrays = []
        self._places = []
        for before, link in zip([None, *links], links):
            self._places.append(self._add(link, before))

    def _add(self, link, before):
        """Puts the arrays of a layer with the others; returns where they are."""
        places = {"words": [self._put(self._words(link, w, before)) for w in link.groups]}
        if link.groups[0].scale is not None:
            places["scale"] = [self._put(w.of_lanes(w.scale)) for w in link.groups]
        how, bias = link.between, link.product.bias
        if how is None and bias is not None and not _is_scaled(link.product):
            parts = np.split(bias, len(link.groups))
            places["bias"] = [self._put(w.of_lanes(b)) for w, b in zip(link.groups, parts)]
        if how is not None:
            places["most"] = self._put(xnor.limits(how.most, link.groups[0].words.shape[-1]))
            for name in ("before", "after"):
                flips = getattr(how, name)
                if flips.any():
                    packed = words.pack_array(flips)
                    places[name] = self._put(np.moveaxis(packed, -1, 0)[:, None])
        return places

    def _put(self, array):
        self.arrays.append(array)
        return len(self.arrays) - 1

    def _words(self, link, weights, before):
        if before is None or not before.between.flat:
            return weights.words
        # Behind a flattening, each position has words of its own.
        outputs = before.product.kernel.shape[-1]
        kernel = link.product.kernel.reshape(-1, outputs, weights.outputs)
        (found,) = xnor.sign_weights(kernel)
        return (found.unpacked(link.product.window) if link.between is None else found).words

    def compute(self, inputs, tensors):
        link = self.links[-1]
        each = link.groups[0].outputs
        found = [xnor.in_order(blocks, each) for blocks in self._run(inputs, tensors)]
        outputs = found[0] if len(found) == 1 else tf.concat(found, -1)
        return finished(link.product, outputs, inputs, "bias" in self._places[-1])

    def _blocks(self, inputs, tensors):
        product = self.links[0].product
        channels = product.kernel.shape[-2]
        packed = [
            words.pack(inputs[..., group * channels : (group + 1) * channels] >= 0)
            for group in range(product.window.groups)
        ]
        for link, places in zip(self.links, self._places):
            weights = [tensors[place] for place in places["words"]]
            if link.between is None:
                return self._last(link, packed, weights, places, tensors)
            packed = [self._passed(link, packed[0], weights[0], places, tensors)]
        raise AssertionError("a chain without an end")

    def _passed(self, link, packed, weights, places, tensors):
        how = link.between
        counted = self._counted(link, packed, weights)
        found = xnor.fired(counted, tensors[places["most"]])
        if "before" in places:
            found = _inverted(found, tensors[places["before"]])
        if how.pool is not None:
            found = xnor.any_of(found, how.pool)
        if "after" in places:
            found = _inverted(found, tensors[places["after"]])
        if how.flat:
            count, batch, *space = found.shape
            found = tf.transpose(found, [*range(2, 2 + len(space)), 0, 1])
            found = tf.reshape(found, [int(np.prod(space)) * count, batch])
        return found

    def _counted(self, link, packed, weights):
        product = link.product
        packed = xnor.padded(packed, product.window, product.kernel.shape[-2])
        return xnor.mismatches(packed, weights, product.window)

    def _last(self, link, packed, weights, places, tensors):
        product, found = link.product, []
        each = link.groups[0].outputs
        for group, (bits, own) in enumerate(zip(packed, weights)):
            kernel = np.sign(product.kernel[..., group * each : (group + 1) * each])
            added = xnor.outside(kernel, product.window, product.space)
            counted = self._counted(link, bits, own)
            sums = xnor.products(counted, product.entries, added)
            wide = [sums.shape[0], *[1] * (len(sums.shape) - 2), sums.shape[-1]]
            if "scale" in places:
                sums = sums * tf.reshape(tensors[places["scale"][group]], wide)
            if "bias" in places:
                sums = sums + tf.reshape(tensors[places["bias"][group]], wide)
            found.append(sums)
        return found


def _is_scaled(product):
    return getattr(product.layer, "input_scale", False)


def finished(product, outputs, inputs, has_bias=False):
    """What a layer makes of the sums, given the inputs that they are of the signs of."""
    layer = product.layer
    if _is_scaled(product):
        channels = [layer.filters] if hasattr(layer, "filters") else []
        outputs = outputs * layer.input_scales(inputs, *channels)
    return product.finish(outputs, has_bias)


def _inverted(packed, mask):
    return tf.bitwise.bitwise_xor(packed, tf.reshape(mask, _spread(mask, packed)))


def _spread(mask, packed):
    count, batch, *space = mask.shape
    return [count, batch, *[1] * (len(packed.shape) - 2 - len(space)), *space]
