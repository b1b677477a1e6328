"""LSTM layers whose kernels are pruned in groups of outputs, as kernels."""

import keras
import tensorflow as tf

from tfcomp.exporters.kernels import shared_inputs
from tfcomp.exporters.latency.candidate import Candidate
from tfcomp.model.choice import Unsuited
from tfcomp.targets import layer_sites


class _Factor:
    """A matrix to multiply by: in blocks where groups of its outputs share inputs, or as it is."""

    def __init__(self, matrix):
        found = shared_inputs.shared(matrix)
        self.is_shared = found is not None
        self.has_order = self.is_shared and found.order is not None
        self.arrays = found.arrays if self.is_shared else [matrix]

    def multiply(self, rows, tensors):
        if self.is_shared:
            return shared_inputs.product_of_arrays(rows, tensors, self.has_order)
        return tf.matmul(rows, tensors[0])


class SharedInputsLSTM(Candidate):
    """An LSTM: the inputs of all steps are multiplied at once, the states step by step.

    Args:
        layer: The layer.
        final: The model's `FinalWeights`.
    """

    name = "shared inputs, LSTM"

    def __init__(self, layer, final):
        cell = layer.cell
        self.layer = layer
        self.factors = [_Factor(final.value(v)) for v in (cell.kernel, cell.recurrent_kernel)]
        if not any(factor.is_shared for factor in self.factors):
            raise Unsuited("no groups of its outputs keep the same inputs")
        self.arrays = [array for factor in self.factors for array in factor.arrays]
        if cell.use_bias:
            self.arrays.append(final.value(cell.bias))

    def compute(self, inputs, tensors):
        count = len(self.factors[0].arrays)
        of_inputs, of_states = tensors[:count], tensors[count:]
        samples, steps, features = tf.shape(inputs)[0], inputs.shape[1], inputs.shape[2]
        gates = self.factors[0].multiply(tf.reshape(inputs, [-1, features]), of_inputs)
        if self.layer.cell.use_bias:
            gates, of_states = gates + of_states[-1], of_states[:-1]
        gates = tf.reshape(gates, [samples, steps, 4 * self.layer.units])
        gates = tf.transpose(gates, (1, 0, 2))
        if self.layer.go_backwards:
            gates = gates[::-1]
        outputs = self._steps(gates, samples, of_states)
        shape = [*([steps] * self.layer.return_sequences), self.layer.units]
        outputs.set_shape([inputs.shape[0], *shape])
        return outputs

    def _steps(self, gates, samples, tensors):
        keep, steps = self.layer.return_sequences, gates.shape[0]
        zeros = tf.zeros([samples, self.layer.units], gates.dtype)
        seen = tf.TensorArray(gates.dtype, steps if keep else 0)

        def step(number, h, c, seen):
            h, c = self._step(gates[number] + self.factors[1].multiply(h, tensors), c)
            return number + 1, h, c, seen.write(number, h) if keep else seen

        free = tf.TensorShape([None, self.layer.units])
        _, h, _, seen = tf.while_loop(
            lambda number, *_: number < steps,
            step,
            (0, zeros, zeros, seen),
            shape_invariants=(tf.TensorShape([]), free, free, None),
            maximum_iterations=steps,
        )
        return tf.transpose(seen.stack(), (1, 0, 2)) if keep else h

    def _step(self, gates, carry):
        """States after a step, from the sums of its gates: input, forget, cell, output."""
        squash, bend = self.layer.recurrent_activation, self.layer.activation
        i, f, g, o = tf.split(gates, 4, axis=1)
        carry = squash(f) * carry + squash(i) * bend(g)
        return squash(o) * bend(carry), carry


def recurrent_candidates(seen, final):
    """The kernels that a call of a recurrent layer can be computed by.

    Args:
        seen: A `tfcomp.exporters.latency.flow.Seen`.
        final: The model's `FinalWeights`.

    Raises:
        Unsuited: If there are none.
    """
    layer = seen.layer
    if type(layer) is not keras.layers.LSTM or type(layer.cell) is not keras.layers.LSTMCell:
        raise Unsuited("its layer is recurrent, and not Keras's LSTM")
    if layer.stateful or layer.return_state:
        raise Unsuited("its layer hands its states on")
    if seen.dtype != "float32" or layer.compute_dtype != "float32":
        raise Unsuited(f"it computes in {layer.compute_dtype}")
    if None in seen.shape[1:]:
        raise Unsuited("the size of its inputs is not known")
    if any(_makes_masks(site.layer) for site in layer_sites(final.model)):
        raise Unsuited("the model masks steps")
    return [SharedInputsLSTM(layer, final)]


def _makes_masks(layer):
    return isinstance(layer, keras.layers.Masking) or getattr(layer, "mask_zero", False)
