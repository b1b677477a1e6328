"""Dense layers with weights of two or four bits, as ONNX Runtime's `MatMulNBits`.

For inputs that are floats it computes in floats, for weights of four bits alone: for others it has
no kernel, and takes dozens of times as long. For inputs of -1, 0 and 1 it may quantize them to
eight bits, block by block, which changes nothing.
"""

import numpy as np

from tfcomp.exporters.files.holes import NAME
from tfcomp.exporters.files.integers import IntegerProduct

_DOMAIN = "com.microsoft"
# Inputs that have a scale of their own. Larger blocks of two bits have no kernel.
_BLOCK = 128
# How inputs are computed with: as floats, or in eight bits.
_FLOATS, _INTEGERS = 0, 4


class Bits(IntegerProduct):
    """A dense layer with weights of a few bits.

    Args:
        number, flow, final: As of `IntegerProduct`.

    Attributes:
        bits: 2 or 4.
        few: Whether inputs are -1, 0 and 1.
    """

    def __init__(self, number, flow, final):
        super().__init__(number, flow, final, 7)
        quantizer = getattr(flow[number].layer, "input_quantizer", None)
        levels = getattr(quantizer, "levels", None) or (None,)
        self.few = self._signs or set(levels) <= {-1.0, 0.0, 1.0}
        # Two bits are for inputs of signs alone.
        self.bits = 2 if self.few and np.abs(self.codes).max() <= 1 else 4
        self.name = f"MatMulNBits, {self.bits} bits"

    def packed(self):
        """The codes as `MatMulNBits` has them.

        Returns:
            uint8 array of shape `(outputs, blocks, bytes)`, and float32 array of scales.
        """
        inputs, outputs = self.codes.shape
        zero, each = 2 ** (self.bits - 1), 8 // self.bits
        codes = np.pad(self.codes.T, ((0, 0), (0, -inputs % _BLOCK))) + zero
        codes = codes.astype(np.uint8).reshape(outputs, -1, _BLOCK)
        found = np.zeros((*codes.shape[:2], _BLOCK // each), np.uint8)
        for place in range(each):
            found |= codes[..., place::each] << np.uint8(self.bits * place)
        return found, np.repeat(self.scale, codes.shape[1])


def fill(path, holes):
    """Puts kernels into an ONNX file that was written of a `Pierced` model.

    Args:
        path: Path of the file.
        holes: List of `Bits`, whose inputs and outputs are the last of the graph's.
    """
    import onnx

    model = onnx.load(path)
    graph, first = model.graph, len(model.graph.output) - len(holes)
    taken = [value.name for value in graph.output[first:]]
    del graph.output[first:]
    for number, (hole, source) in enumerate(zip(holes, taken)):
        (filling,) = (value for value in graph.input if value.name == NAME.format(number))
        graph.input.remove(filling)
        _add(graph, f"tfcomp_{number}", hole, source, filling.name)
    _sort(graph)
    model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
    onnx.save(model, path)


def _add(graph, name, hole, source, target):
    from onnx import helper, numpy_helper

    names = [f"{name}/{part}" for part in ("weights", "scales")]
    for array, own in zip(hole.packed(), names):
        graph.initializer.append(numpy_helper.from_array(array, own))
    inputs, outputs = hole.codes.shape
    node = helper.make_node(
        "MatMulNBits",
        [source, *names],
        [target],
        name=name,
        domain=_DOMAIN,
        K=inputs,
        N=outputs,
        bits=hole.bits,
        block_size=_BLOCK,
        accuracy_level=_INTEGERS if hole.few else _FLOATS,
    )
    graph.node.append(node)


def _sort(graph):
    """Puts nodes behind those that they take something of."""
    made = {name for node in graph.node for name in node.output}
    waiting, done, ordered = list(graph.node), {""}, []
    while waiting:
        later = []
        for node in waiting:
            if (_read(node) & made) - done:
                later.append(node)
            else:
                ordered.append(node)
                done.update(node.output)
        if len(later) == len(waiting):
            raise ValueError("The graph of the ONNX file goes round in a circle.")
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)


def _read(node):
    """Names that a node reads, those within its branches and bodies among them."""
    found = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            found |= {name for inner in graph.node for name in _read(inner)}
            found |= {value.name for value in graph.output}
    return found
