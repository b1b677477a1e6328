"""Dense layers with integer weights in OpenVINO, which decodes them while it multiplies.

By itself it would quantize their inputs to eight bits on the fly, which changes what is computed:
the file tells it not to.
"""

from typing import ClassVar

import numpy as np

from tfcomp.exporters.files.integers import IntegerProduct

# The largest magnitude of integers of four and of eight bits.
_MOST = {4: 7, 8: 127}


class Integers(IntegerProduct):
    """A dense layer with weights of up to eight bits.

    Args:
        number, flow, final: As of `IntegerProduct`.

    Attributes:
        bits: 4 or 8.
    """

    settings: ClassVar = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}

    def __init__(self, number, flow, final):
        super().__init__(number, flow, final, max(_MOST.values()))
        # Rows of an odd number of four bits are read wrong.
        is_small = np.abs(self.codes).max(initial=0) <= _MOST[4] and len(self.codes) % 2 == 0
        self.bits = 4 if is_small else 8
        self.name = f"MatMul, {self.bits} bits"

    def packed(self):
        """The integers of each output in a row, as bytes: of four bits two, the low ones first."""
        rows = self.codes.T.astype(np.int8)
        if self.bits == 8:
            return np.ascontiguousarray(rows)
        flat = rows.reshape(-1).view(np.uint8) & 15
        return flat[::2] | flat[1::2] << np.uint8(4)

    def answer(self, inputs, kept):
        import openvino
        from openvino import opset13

        packed, (count, outputs) = self.packed(), self.codes.shape
        kept.append(packed)
        kind = openvino.Type.i4 if self.bits == 4 else openvino.Type.i8
        tensor = openvino.Tensor(packed, openvino.Shape([outputs, count]), kind)
        weights = opset13.convert(opset13.constant(tensor), np.float32)
        weights = opset13.multiply(weights, opset13.constant(self.scale[:, None]))
        return opset13.matmul(inputs, weights, False, True).output(0)
