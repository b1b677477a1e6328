"""What runs a model or a file: one class for each engine, all called alike.

Each is made of a source and a number of threads, `None` for as many as the engine chooses. Its
`specs` say what it takes, as `(name, shape, dtype)` for each input with `None` for a size that is
free. `prepare(arrays)` returns a callable without arguments that computes once and returns NumPy
arrays, which those that run a file call by the names in `outputs`.
"""

import importlib
import importlib.util
import os
import warnings

import keras
import numpy as np

from tfcomp.validation import invalid


def _module(name, package, path):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{path!r} is run by {package}: `pip install {package}`") from error


def _arrays(outputs):
    return [np.asarray(leaf) for leaf in keras.tree.flatten(outputs)]


def _numpy(outputs):
    return [keras.ops.convert_to_numpy(leaf) for leaf in keras.tree.flatten(outputs)]


def _limit_tensorflow(threads):
    """TensorFlow counts its threads when it starts, and never again."""
    import tensorflow as tf

    if threads is None:
        return tf
    threading = tf.config.threading
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        now = threading.get_intra_op_parallelism_threads()
        if now != threads:
            raise ValueError(
                "Invalid value for argument `threads`. TensorFlow has started with "
                f"{now or 'as many threads as there are cores'} and cannot change them. Call "
                "`tfcomp.benchmark` first of all, or use `python -m tfcomp benchmark --threads "
                f"{threads}`. Received: threads={threads}"
            ) from None
    return tf


class KerasEngine:
    """A Keras model in memory, its forward pass compiled as the backend does it."""

    def __init__(self, model, threads):
        backend = keras.backend.backend()
        self.name = f"Keras on {backend}"
        self.model = model
        self.specs = [
            (x.name, tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
            for x in keras.tree.flatten(getattr(model, "inputs", None) or [])
        ]
        self._forward = getattr(self, f"_{backend}")(threads)

    def _tensorflow(self, threads):
        tf = _limit_tensorflow(threads)
        return tf.function(lambda inputs: self.model(inputs, training=False))

    def _jax(self, threads):
        import jax

        if threads is not None:
            raise invalid("threads", threads, "None for a Keras model on JAX, which has no setting")
        model = self.model

        @jax.jit
        def forward(trainable, others, inputs):
            return model.stateless_call(trainable, others, inputs, training=False)[0]

        weights = [
            [variable.value for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]
        return lambda inputs: forward(*weights, inputs)

    def _torch(self, threads):
        import torch

        if threads is not None:
            torch.set_num_threads(threads)

        def forward(inputs):
            with torch.no_grad():
                return self.model(inputs, training=False)

        return forward

    def prepare(self, inputs):
        if self.specs:
            _by_name(inputs, self.specs)
        inputs = keras.tree.map_structure(keras.ops.convert_to_tensor, inputs)
        return lambda: _numpy(self._forward(inputs))


class SavedModelEngine:
    """A SavedModel as `tf.saved_model.load` gives it."""

    name = "TensorFlow"

    def __init__(self, path, threads):
        self._tf = _limit_tensorflow(threads)
        self._model = self._tf.saved_model.load(path)
        serve = getattr(self._model, "serve", None)
        if serve is not None:
            # The way with the least Python around it.
            concrete = serve.concrete_functions[0]
        elif "serving_default" in self._model.signatures:
            concrete = self._model.signatures["serving_default"]
        else:
            raise invalid("models", path, "a SavedModel with `serve` or `serving_default`")
        self._call = concrete
        self._signature = concrete.structured_input_signature
        self.specs = [
            (spec.name, tuple(spec.shape), spec.dtype.name)
            for spec in keras.tree.flatten(self._signature)
            if isinstance(spec, self._tf.TensorSpec)
        ]

    def prepare(self, inputs):
        tensors = _by_name(keras.tree.map_structure(self._tf.constant, inputs), self.specs)
        tensors = iter(tensors)
        args, kwargs = keras.tree.map_structure(
            lambda leaf: next(tensors) if isinstance(leaf, self._tf.TensorSpec) else leaf,
            self._signature,
        )
        return lambda: _arrays(self._call(*args, **kwargs))


def _in_order(names):
    """Names of outputs in the order of the structure they were made of, which is that of Keras."""
    numbers = [name.removeprefix("output_") for name in names]
    numbered = all(number.isdecimal() for number in numbers)
    return sorted(names, key=lambda name: int(name.removeprefix("output_")) if numbered else name)


def _interpreter(path, threads):
    """That of LiteRT, or the one that TensorFlow still has."""
    try:
        module = _module("ai_edge_litert.interpreter", LiteRTEngine.package, path)
    except ImportError:
        if importlib.util.find_spec("tensorflow") is None:
            raise
        module = _module("tensorflow", "tensorflow", path).lite
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*tf\.lite\.Interpreter is deprecated")
        return module.Interpreter(model_path=path, num_threads=threads)


class LiteRTEngine:
    """A LiteRT file, under its XNNPACK kernels."""

    name = "LiteRT"
    package = "ai-edge-litert"

    def __init__(self, path, threads):
        self._interpreter = interpreter = _interpreter(path, threads)
        self._inputs = interpreter.get_input_details()
        found = interpreter.get_output_details()
        self.outputs = [detail["name"] for detail in found]
        self._indices = [detail["index"] for detail in found]
        if interpreter.get_signature_list():
            # Outputs of a file stand in no order.
            found = interpreter.get_signature_runner().get_output_details()
            self.outputs = _in_order(found)
            self._indices = [found[name]["index"] for name in self.outputs]
        self.specs = [
            (
                detail["name"],
                tuple(None if size < 0 else int(size) for size in detail["shape_signature"]),
                np.dtype(detail["dtype"]).name,
            )
            for detail in self._inputs
        ]

    def prepare(self, inputs):
        arrays = _by_name(inputs, self.specs)
        interpreter = self._interpreter
        for detail, array in zip(self._inputs, arrays):
            interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()

        def call():
            for detail, array in zip(self._inputs, arrays):
                interpreter.set_tensor(detail["index"], array)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in self._indices]

        return call


class ONNXEngine:
    """An ONNX file in ONNX Runtime."""

    name = "ONNX Runtime"
    package = "onnxruntime"

    def __init__(self, path, threads):
        runtime = _module("onnxruntime", self.package, path)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = runtime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.outputs = [one.name for one in self._session.get_outputs()]
        self.specs = [
            (
                one.name,
                tuple(size if isinstance(size, int) else None for size in one.shape),
                _ONNX_TYPES.get(one.type[len("tensor(") : -1], one.type[len("tensor(") : -1]),
            )
            for one in self._session.get_inputs()
        ]

    def prepare(self, inputs):
        names = [name for name, _, _ in self.specs]
        feed = dict(zip(names, _by_name(inputs, self.specs)))
        return lambda: self._session.run(None, feed)


_ONNX_TYPES = {"float": "float32", "double": "float64"}


class OpenVINOEngine:
    """An OpenVINO model, compiled for latency."""

    name = "OpenVINO"
    package = "openvino"

    def __init__(self, path, threads):
        openvino = _module("openvino", self.package, path)
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        compiled = openvino.Core().compile_model(path, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._ports = compiled.outputs
        self.outputs = [_own_name(port.get_names()) for port in self._ports]
        self.specs = [
            (
                _own_name(port.get_names()),
                tuple(size.get_length() if size.is_static else None for size in port.partial_shape),
                port.element_type.to_dtype().name,
            )
            for port in compiled.inputs
        ]

    def prepare(self, inputs):
        feed = dict(enumerate(_by_name(inputs, self.specs)))

        def call():
            answer = self._request.infer(feed)
            return [np.array(answer[port]) for port in self._ports]

        return call


class TorchEngine:
    """A program that `torch.export` saved, on the PyTorch backend."""

    name = "PyTorch"
    package = "torch"

    def __init__(self, path, threads):
        torch = _module("torch", self.package, path)
        if threads is not None:
            torch.set_num_threads(threads)
        program = torch.export.load(path)
        self._call, self._without_gradients = program.module(), torch.no_grad
        self._args = program.example_inputs[0]
        leaves = keras.tree.flatten(self._args)
        self.specs = [("", tuple(x.shape), str(x.dtype).removeprefix("torch.")) for x in leaves]
        self.outputs = []

    def prepare(self, inputs):
        tensors = map(keras.ops.convert_to_tensor, _by_name(inputs, self.specs))
        args = keras.tree.pack_sequence_as(self._args, list(tensors))

        def call():
            with self._without_gradients():
                return _numpy(self._call(*args))

        return call


def _own_name(names):
    """Of all names of a tensor the one that is none of a graph."""
    return min(names, key=lambda name: (":" in name or "/" in name, name), default="")


def input_names(specs):
    """The names of a model's inputs, by the `specs` of an engine."""
    return [name.split(":")[0].removeprefix("serving_default_") for name, _, _ in specs]


def _by_name(inputs, specs):
    """The leaves of a structure in the order of an engine, by name where they have the same."""
    if isinstance(inputs, dict) and set(names := input_names(specs)) == set(inputs):
        return [inputs[name] for name in names]
    leaves = keras.tree.flatten(inputs)
    if len(leaves) != len(specs):
        raise invalid("inputs", len(leaves), f"as many arrays as the model has inputs, {specs}")
    return leaves


_FILES = {".tflite": LiteRTEngine, ".onnx": ONNXEngine, ".xml": OpenVINOEngine}
# What runs the formats of `tfcomp.export`.
RUNTIMES = {
    "litert": LiteRTEngine,
    "onnx": ONNXEngine,
    "openvino": OpenVINOEngine,
    "torch": TorchEngine,
}


def engine(source, threads):
    """Opens what a source is run by.

    Args:
        source: A `keras.Model`; or the path of a SavedModel, or of a `.keras`, `.tfc`, `.tflite`,
            `.onnx` or `.xml` file.
        threads: Number of threads, or `None`.
    """
    if isinstance(source, keras.Model):
        return KerasEngine(source, threads)
    if not isinstance(source, (str, os.PathLike)):
        raise invalid("models", source, "Keras models and paths")
    path = os.fspath(source)
    if not os.path.exists(path):
        raise FileNotFoundError(f"No model at {path!r}")
    if os.path.isdir(path):
        return SavedModelEngine(path, threads)
    ending = os.path.splitext(path)[1]
    if ending == ".tfc":
        from tfcomp.storage.archive import load

        return KerasEngine(load(path), threads)
    if ending in (".keras", ".h5"):
        return KerasEngine(keras.models.load_model(path, compile=False), threads)
    if ending not in _FILES:
        raise invalid("models", path, f"a SavedModel's folder, or .keras, .tfc, {list(_FILES)}")
    return _FILES[ending](path, threads)
