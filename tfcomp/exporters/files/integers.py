"""Dense layers whose weights are integers, times one scale for each output, as holes."""

import keras

from tfcomp.exporters.files.holes import Hole, unit_of
from tfcomp.exporters.kernels.grids import integers
from tfcomp.exporters.latency.binary import finished, takes_signs
from tfcomp.exporters.latency.product import product_of
from tfcomp.exporters.latency.units import has_kernel
from tfcomp.model.choice import Unsuited
from tfcomp.model.result import LeftOut


class IntegerProduct(Hole):
    """A dense layer with integer weights.

    Args:
        number: The number of its call.
        flow: Dict from number to `tfcomp.exporters.latency.flow.Seen`.
        final: The model's `FinalWeights`.
        most: The largest magnitude of an integer.

    Attributes:
        codes: int16 array of shape `(inputs, outputs)`.
        scale: float32 array, one for each output.

    Raises:
        Unsuited: If it is no such layer.
    """

    def __init__(self, number, flow, final, most):
        seen = flow[number]
        if not isinstance(seen.layer, keras.layers.Dense):
            raise Unsuited("its layer is not dense")
        self._product = product = product_of(seen, final)
        found = integers(product.matrix, most)
        if found is None:
            bits = (2 * most).bit_length()
            raise Unsuited(f"its weights are not on a uniform grid of up to {bits} bits")
        self.codes, self.scale = found
        self._signs = takes_signs(product.layer)
        super().__init__(unit_of([number], flow), [*product.space, self.codes.shape[1]])

    def take(self, inputs):
        layer = self._product.layer
        if self._signs:
            return layer.input_quantizer(inputs)
        return layer._prepare(inputs, False) if hasattr(layer, "_prepare") else inputs

    def finish(self, outputs, inputs):
        # What signs are multiplied by is left to the outputs: they have to stay signs.
        return finished(self._product, outputs, inputs)


def integer_holes(kind, flow, final, taken=()):
    """Finds the dense layers of a model that have integer weights.

    Args:
        kind: Subclass of `IntegerProduct` of a number, `flow` and `final`.
        flow: Dict from number to `tfcomp.exporters.latency.flow.Seen`.
        final: The model's `FinalWeights`.
        taken: Numbers of calls that other kernels are for.

    Returns:
        List of holes, and list of `LeftOut`, of the other layers with kernels.
    """
    holes, left = [], []
    for number, seen in flow.items():
        if number not in taken and has_kernel(seen.layer):
            try:
                holes.append(kind(number, flow, final))
            except Unsuited as reason:
                left.append(LeftOut(seen.layer.path, str(reason)))
    return holes, left
