"""Layers whose inputs are a sum of signs, each times a scale, as XNOR kernels."""

import tensorflow as tf

from tfcomp.exporters.kernels import words, xnor
from tfcomp.exporters.kernels.compiled import compiled
from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.model.choice import Unsuited


class ResidualSigns(Candidate):
    """A layer with a method `input_terms`, as those of high-order residual quantization have.

    Scales are computed as the layer computes them: where a number is on the edge of a sign, any
    other order of sums would end on the other side.

    Args:
        product: A `Product`.
    """

    name = "xnor terms"
    is_static = True

    def __init__(self, product):
        layer, groups = product.layer, product.window.groups
        self.name = f"xnor, {layer.order} terms"
        self.product = product
        self._run = compiled(self._blocks)
        # A column is all that one output is computed from.
        found = xnor.sign_weights(product.matrix, groups)
        if found is None:
            raise Unsuited("its weights are not signs")
        self.groups = found = [weights.unpacked(product.window) for weights in found]
        self.arrays = [weights.words for weights in found]
        if found[0].scale is not None:
            self.arrays += [weights.of_lanes(weights.scale) for weights in found]

    def compute(self, inputs, tensors):
        layer, count = self.product.layer, len(self.groups)
        found = layer.input_terms(inputs)
        if found is None:
            raise Unsuited("its inputs have other scales than one for each output")
        terms, outer = found
        blocks = self._run(terms, tensors[:count], tensors[count:])
        outputs = [xnor.in_order(part, self.groups[0].outputs) for part in blocks]
        outputs = outputs[0] if count == 1 else tf.concat(outputs, -1)
        return self.product.finish(tf.reshape(outputs, [*outer, -1]))

    def _blocks(self, terms, weights, scales):
        length = self.product.entries
        found = []
        for group, own in enumerate(weights):
            total = 0.0
            for beta, rest in terms:
                rest = tf.reshape(rest, [-1, len(weights), length])[:, group]
                beta = tf.reshape(beta, [-1, len(weights)])[:, group]
                counted = xnor.mismatches(words.pack(rest >= 0), own, xnor.Window())
                total += xnor.products(counted, length, 0) * beta[None, :, None]
            found.append(total * scales[group][:, None] if scales else total)
        return found
