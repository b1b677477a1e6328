"""Layers whose matrix is pruned, or has values of a few bits, as kernels."""

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels import fields, gathered, shared_inputs
from tfcomp.exporters.latency.candidate import Candidate, compiled
from tfcomp.exporters.latency.product import columns
from tfcomp.model.choice import Unsuited

# Less sparse matrices are multiplied faster as they are.
_SPARSE = 0.7
# Nor are there savings in few products.
_SMALL = 1 << 12


class _Matrix(Candidate):
    """A layer as one product of a matrix with columns.

    Args:
        product: A `Product` of one group.
    """

    def __init__(self, product):
        self.product = product
        if product.window.groups > 1:
            raise Unsuited("it has groups of channels")
        if product.matrix.size < _SMALL:
            raise Unsuited("it is small")
        self.arrays = self.lay_out(product.matrix)

    def lay_out(self, matrix):
        raise NotImplementedError

    def multiply(self, rows, tensors):
        raise NotImplementedError

    def compute(self, inputs, tensors):
        rows, outer = columns(inputs, self.product)
        outputs, channels = self.multiply(rows, tensors), self.product.matrix.shape[1]
        if outer[1:]:
            outputs = tf.reshape(outputs, [*outer, channels])
        outputs.set_shape([inputs.shape[0], *outer[1:], channels])
        return self.product.finish(outputs)


class SharedInputs(_Matrix):
    """Groups of outputs that keep the same inputs."""

    name = "shared inputs"

    def lay_out(self, matrix):
        found = shared_inputs.shared(matrix)
        if found is None:
            raise Unsuited("no groups of its outputs keep the same inputs")
        self._has_order = found.order is not None
        blocks = found.parts[0].values.shape[2]
        self.name = f"shared inputs, {blocks} outputs"
        return found.arrays

    def multiply(self, rows, tensors):
        return shared_inputs.product_of_arrays(rows, tensors, self._has_order)


class CompiledSharedInputs(SharedInputs):
    """The same, compiled by XLA."""

    is_static = True

    def __init__(self, plain):
        # The groups are found, and laid out, once.
        self.product, self.arrays, self._has_order = plain.product, plain.arrays, plain._has_order
        self.name = f"{plain.name}, compiled"

    def multiply(self, rows, tensors):
        return compiled(super().multiply)(rows, tensors)


def _check_sparse(matrix):
    if np.mean(matrix == 0) < _SPARSE:
        raise Unsuited("too few of its weights are zero")


class GatheredByOutputs(_Matrix):
    """Single pruned weights, for one sample."""

    name = "gathered"
    is_static = True

    def lay_out(self, matrix):
        _check_sparse(matrix)
        return gathered.by_outputs(matrix)

    def multiply(self, rows, tensors):
        if rows.shape[0] != 1:
            raise Unsuited("it has more than one sample")
        outputs = self.product.matrix.shape[1]
        one = compiled(lambda *args: gathered.product_of_one(*args)[:, :outputs])
        return one(rows, *tensors)


class GatheredBySamples(_Matrix):
    """Single pruned weights, for a few samples or positions."""

    name = "gathered by samples"
    is_static = True

    def lay_out(self, matrix):
        _check_sparse(matrix)
        return gathered.by_samples(matrix)

    def multiply(self, rows, tensors):
        found = compiled(gathered.product_of_columns)(tf.transpose(rows), *tensors)
        return tf.transpose(found)


class Fields(_Matrix):
    """Weights of two or four bits, decoded while they are multiplied."""

    is_static = True
    # Above, decoding takes longer than it saves.
    _samples = 3

    def lay_out(self, matrix):
        found = fields.fields(matrix)
        if found is None:
            raise Unsuited("its weights are not on a uniform grid of up to 4 bits")
        self._bits, self.name = found.bits, f"{found.bits} bits"
        return [found.words, found.scale, found.zero]

    def multiply(self, rows, tensors):
        if rows.shape[0] is None or rows.shape[0] > self._samples:
            raise Unsuited("it has too many samples")

        def decoded(inputs, words, scale, zero):
            found = fields.sums(inputs, words, self._bits)
            return fields.product(inputs, found, scale, zero)

        return compiled(decoded)(rows, *tensors)


KINDS = (SharedInputs, GatheredByOutputs, GatheredBySamples, Fields)


def candidates(product):
    """The kernels that a product can be computed by.

    Returns:
        List of `Candidate`, and dict from name to why others cannot.
    """
    found, refused = [], {}
    for kind in KINDS:
        try:
            found.append(kind(product))
        except Unsuited as reason:
            refused[kind.__name__] = str(reason)
    found += [CompiledSharedInputs(one) for one in found if isinstance(one, SharedInputs)]
    return found, refused
