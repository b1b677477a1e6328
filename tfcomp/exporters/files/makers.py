"""What writes a file with or without an engine's own kernels, whole or in parts to be timed.

Each is made of a model, its specs and a folder for what it needs in passing. It has `items`, what a
kernel may be put in for, each with a `path`; `left`, a list of `LeftOut`; `options(item)`, names of
kernels for one; `parts(item)`, the paths of files of it alone, without and with each of
them, and `inputs(item, batch)` for these; `forms(engine, sizes)`, a dict from names to ways to put
kernels in, the likely one first, given what runs the file without any; and `write(path, chosen,
form)`, which takes pairs of places among the items and among their options.
"""

import os

import keras

from tfcomp.exporters.compared import are_apart, batch_of, is_free
from tfcomp.exporters.engines import RUNTIMES
from tfcomp.exporters.files import flatbuffer, litert_integers
from tfcomp.exporters.files.holes import Pierced, layers_of, with_holes
from tfcomp.exporters.files.integers import integer_holes
from tfcomp.exporters.files.onnx_bits import Bits, fill
from tfcomp.exporters.files.openvino_binary import binary_holes
from tfcomp.exporters.files.openvino_integers import Integers
from tfcomp.exporters.files.openvino_samples import one_at_once, sample_by_sample
from tfcomp.exporters.latency.flow import layer_flow
from tfcomp.exporters.latency.table import joined
from tfcomp.exporters.signature import input_specs
from tfcomp.exporters.snapshot import Snapshot
from tfcomp.exporters.to_openvino import write_openvino
from tfcomp.exporters.verify_file import computing
from tfcomp.model.choice import Unsuited
from tfcomp.model.final_weights import FinalWeights
from tfcomp.model.result import LeftOut

_ONE_FORM = {"kernels": None}


class _Holes:
    """Writes models with holes, which kernels are put into."""

    def __init__(self, model, specs, folder):
        self.model, self.specs, self._folder = model, specs, folder
        final = FinalWeights(model)
        self.flow = layer_flow(
            lambda *args: model(*args, training=False), input_specs(model, specs), final.scope
        )
        self.items, self.left = self.find(self.flow, final)

    def options(self, item):
        return [item.name]

    def inputs(self, item, batch):
        return item.unit.draw(batch).numpy()

    def parts(self, item):
        call, flow = layers_of(item.unit, self.flow)
        specs = [
            keras.InputSpec(
                shape=(batch_of(self.specs), *item.unit.shape), dtype=item.unit.dtype, name="x"
            )
        ]
        paths = []
        for holes, form in (([], None), ([item.alone()], self._form_of_part(item))):
            # One file for all batch sizes, as the whole one is.
            paths.append(os.path.join(self._folder, f"part_{len(holes)}{self.ending}"))
            self._write(paths[-1], call, flow, holes, specs, form)
        return paths

    def _form_of_part(self, item):
        return None

    def forms(self, engine, sizes):
        return _ONE_FORM

    def write(self, path, chosen, form=None):
        holes = [self.items[place] for place, _ in chosen]
        self._write(path, self.model, self.flow, holes, self.specs, form)

    def _write(self, path, call, flow, holes, specs, form=None):
        self.save(Snapshot(self.model, Pierced(call, flow, holes)), path, specs, holes, form)


class OpenVINOFile(_Holes):
    """Binary layers as `BinaryConvolution`, dense layers of up to eight bits as they are."""

    ending = ".xml"

    def find(self, flow, final):
        found, left = binary_holes(flow, final)
        taken = {number for hole in found for number in hole.unit.numbers}
        others, refused = integer_holes(Integers, flow, final, taken)
        known = {hole.path for hole in others}
        reasons = {row.path: {"BinaryConvolution": row.reason} for row in left}
        for row in refused:
            reasons[row.path]["MatMul"] = row.reason
        left = [LeftOut(path, joined(own)) for path, own in reasons.items() if path not in known]
        return [*found, *others], left

    def forms(self, engine, sizes):
        if not any(item.is_for_one_size for item in self.items):
            return _ONE_FORM
        free = all(tuple(spec.shape)[:1] == (None,) for spec in keras.tree.flatten(self.specs))
        if not free or is_free(self.specs):
            return _ONE_FORM
        if not are_apart(computing(engine, self.specs), self.specs):
            return _ONE_FORM
        if set(sizes) == {1}:
            return {"kernels, one sample at once": one_at_once}
        return {"kernels, sample by sample": sample_by_sample, **_ONE_FORM}

    def _form_of_part(self, item):
        # In a whole model there is one loop around all of them, or none for one sample.
        is_looped = item.is_for_one_size and batch_of(self.specs) is None
        return one_at_once if is_looped else None

    def save(self, snapshot, path, specs, holes, form):
        write_openvino(snapshot, path, specs, holes, form)


class ONNXFile(_Holes):
    """Dense layers of a few bits as `MatMulNBits`."""

    ending = ".onnx"

    def find(self, flow, final):
        return integer_holes(Bits, flow, final)

    def save(self, snapshot, path, specs, holes, form):
        specs = with_holes(specs, holes)
        snapshot.export(path, format="onnx", verbose=False, input_signature=specs)
        if holes:
            fill(path, holes)


class LiteRTFile:
    """Weights as integers."""

    def __init__(self, model, specs, folder):
        self._folder = folder
        path = os.path.join(folder, "plain.tflite")
        Snapshot(model).export(path, format="litert", verbose=False, input_signature=specs)
        with open(path, "rb") as file:
            self._content = file.read()
        self._plain = flatbuffer.read(self._content)
        batch = batch_of(specs)
        self._traced = 1 if batch is None else batch
        found, self.left = litert_integers.find_whole(self._plain)
        self.items = []
        for whole in found:
            bits = [number for number in whole.bits if self._computes(whole, number)]
            if bits:
                self.items.append(whole._replace(bits=bits))

    def _computes(self, whole, bits):
        def run(content, inputs):
            path = self._saved("single", content)
            (outputs,) = RUNTIMES["litert"](path, None).prepare([inputs])()
            return outputs

        try:
            litert_integers.check(self._plain, self._changed([(whole, bits)]), whole, run)
        except Unsuited as reason:
            self.left.append(LeftOut(whole.path, f"{bits} bits: {reason}"))
            return False
        return True

    def _saved(self, name, content):
        path = os.path.join(self._folder, f"{name}.tflite")
        with open(path, "wb") as file:
            file.write(content)
        return path

    def _changed(self, chosen):
        changed = flatbuffer.read(self._content)
        for whole, bits in chosen:
            litert_integers.change(changed, whole, bits)
        return changed

    def options(self, item):
        return [f"{bits} bits, inputs quantized" for bits in item.bits]

    def inputs(self, item, batch):
        return litert_integers.draw(self._plain, item, batch, self._traced)

    def parts(self, item):
        models = [self._plain, *(self._changed([(item, bits)]) for bits in item.bits)]
        return [
            self._saved(f"part_{number}", litert_integers.single(model, item))
            for number, model in enumerate(models)
        ]

    def forms(self, engine, sizes):
        return _ONE_FORM

    def write(self, path, chosen, form=None):
        picked = [(self.items[place], self.items[place].bits[option]) for place, option in chosen]
        content = flatbuffer.write(self._changed(picked)) if picked else self._content
        with open(path, "wb") as file:
            file.write(content)
