"""Layers as products of a matrix that is pruned, or has few values, as kernels."""

import functools

import numpy as np
import tensorflow as tf

from tfcomp.exporters.kernels import fields, gathered, shared_inputs
from tfcomp.exporters.kernels.compiled import compiled
from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.exporters.latency.product import columns
from tfcomp.exporters.latency.residual import ResidualSigns
from tfcomp.model.choice import Unsuited

# Less sparse matrices are multiplied faster as they are.
_SPARSE = 0.7
# Nor are there savings in few products.
_SMALL = 1 << 12
# Compiled once for all layers of the same shapes.
_OF_COLUMNS = compiled(gathered.product_of_columns)
_GATHER = compiled(tf.gather)
_OF_BLOCKS = {
    has_order: compiled(functools.partial(shared_inputs.product_of_arrays, has_order=has_order))
    for has_order in (False, True)
}


@functools.cache
def _of_one(outputs):
    return compiled(lambda *args: gathered.product_of_one(*args)[:, :outputs])


class _Matrix(Candidate):
    """A layer as one product of a matrix with columns.

    Args:
        product: A `Product` of one group.
    """

    def __init__(self, product):
        self.product = product
        product.check_inputs()
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
        return self.product.finish(self.multiplied(inputs, tensors))

    def multiplied(self, inputs, tensors):
        """The outputs before bias and activation."""
        rows, outer = columns(self.product.take(inputs), self.product)
        outputs, channels = self.multiply(rows, tensors), self.product.matrix.shape[1]
        if outer[1:]:
            outputs = tf.reshape(outputs, [*outer, channels])
        outputs.set_shape([inputs.shape[0], *outer[1:], channels])
        return outputs


class SharedInputs(_Matrix):
    """Groups of outputs that keep the same inputs."""

    name = "shared inputs"

    def lay_out(self, matrix):
        found = shared_inputs.shared(matrix)
        if found is None:
            raise Unsuited("no groups of its outputs keep the same inputs")
        self._has_order, self.factors = found.order is not None, found.factors
        blocks = found.parts[0].values.shape[2]
        self.name = f"shared inputs, {blocks} outputs"
        return found.arrays

    def multiply(self, rows, tensors):
        return shared_inputs.product_of_arrays(rows, tensors, self._has_order)


class _StaticSharedInputs(SharedInputs):
    """The same in another way; the groups are found, and laid out, once.

    Args:
        plain: The `SharedInputs`.
    """

    is_static = True

    def __init__(self, plain):
        self.product, self.arrays, self._has_order = plain.product, plain.arrays, plain._has_order
        self.factors, self.name = plain.factors, f"{plain.name}, {self.compiled}"


class CompiledSharedInputs(_StaticSharedInputs):
    """The same, compiled by XLA."""

    compiled = "compiled"

    def multiply(self, rows, tensors):
        return _OF_BLOCKS[self._has_order](rows, tensors)


class GatheredSharedInputs(_StaticSharedInputs):
    """The same, of which only the gathering is compiled: TensorFlow copies a few bytes slowly."""

    compiled = "gathering compiled"

    def multiply(self, rows, tensors):
        return shared_inputs.product_of_arrays(rows, tensors, self._has_order, _GATHER)


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
        return _of_one(self.product.matrix.shape[1])(rows, *tensors)


class GatheredBySamples(_Matrix):
    """Single pruned weights, for a few samples or positions."""

    name = "gathered by samples"
    is_static = True

    def lay_out(self, matrix):
        _check_sparse(matrix)
        return gathered.by_samples(matrix)

    def multiply(self, rows, tensors):
        return tf.transpose(_OF_COLUMNS(tf.transpose(rows), *tensors))


class Fields(_Matrix):
    """Weights of a few bits, decoded while they are multiplied."""

    name = "few bits"
    is_static = True
    # Above, decoding takes longer than it saves.
    _samples = 3
    _kinds = {"steps": "", "powers": ", powers of two", "bits": ", two scales"}

    def lay_out(self, matrix):
        found = fields.fields(matrix)
        if found is None:
            raise Unsuited("its values are no grid of up to 4 bits, powers of two, or two scales")
        unit = "bit" if found.bits == 1 else "bits"
        self.name = f"{found.bits} {unit}{self._kinds[found.kind]}"
        self._run = fields.multiply(found.kind, found.bits, matrix.shape[1])
        return [found.words, found.factors, found.offset]

    def multiply(self, rows, tensors):
        if rows.shape[0] is None or rows.shape[0] > self._samples:
            raise Unsuited("it has too many samples")
        return self._run(rows, *tensors)


KINDS = (SharedInputs, GatheredByOutputs, GatheredBySamples, Fields)


def candidates(product):
    """The kernels that a product can be computed by.

    Returns:
        List of `Candidate`, and dict from name to why others cannot.
    """
    found, refused = [], {}
    signs = [ResidualSigns] if hasattr(product.layer, "input_terms") else []
    for kind in [*signs, *KINDS]:
        try:
            found.append(kind(product))
        except Unsuited as reason:
            refused[kind.name] = str(reason)
    plain = [one for one in found if isinstance(one, SharedInputs)]
    found += [kind(one) for kind in (CompiledSharedInputs, GatheredSharedInputs) for one in plain]
    return found, refused
