"""The formats a model can be exported to."""

import importlib.util
import math
import os
import warnings

import keras
import numpy as np

from tfcomp import keras_private
from tfcomp.console import show
from tfcomp.exporters.compared import ENDPOINT, Exported, size_of, unverified
from tfcomp.exporters.latency.budget import Search
from tfcomp.exporters.snapshot import Snapshot
from tfcomp.exporters.verify_file import compare_file
from tfcomp.model.data import Batches
from tfcomp.storage.replace import replaced_files
from tfcomp.validation import check_integer, check_number, check_verbose, invalid

# Written by Keras's own `model.export`, which finds the weights as they finally are.
_BY_KERAS = ("litert", "onnx", "openvino", "torch")
FORMATS = ("tf_saved_model", *_BY_KERAS)
# Of fewer zeros, positions take as many bytes as are saved.
_SPARSE = 0.6
_ENDINGS = {"openvino": ".xml", "litert": ".tflite"}
# Packages that write a format on the TensorFlow backend, and that time its kernels.
_WRITTEN_BY = {"onnx": ("onnx", "tf2onnx"), "openvino": ("openvino",)}
_TIMED_BY = {"litert": ("ai_edge_litert",), "onnx": ("onnxruntime",)}


def export(
    model,
    path,
    format="tf_saved_model",
    verbose=1,
    input_signature=None,
    signatures=None,
    verify=True,
    data=None,
    optimize="size",
    batch_sizes=(1,),
    search_seconds=300.0,
    **kwargs,
):
    """Exports the forward pass of a model, its weights in the smallest form that is still exact.

    With `format="tf_saved_model"` every weight is stored once, in whichever form is smallest for
    the values it has (`tfcomp.storage`), and decoded once, on loading, by TensorFlow's own ops.
    The folder needs nothing but TensorFlow: no Keras, no tfcomp, no custom op. It is loaded by
    `tf.saved_model.load` and by everything that serves SavedModels, and has the endpoint `serve`
    and the signatures of the one that `model.export` writes. Training methods need not be named:
    pruned, clustered and quantized weights are recognized by their values. Weights that a layer
    quantizes in its forward pass are stored quantized. Optimizer state is not exported, and a
    weight of -0.0 becomes 0.0. The weights are variables, so that the
    folder can be frozen, and converted by `tf.lite.TFLiteConverter.from_saved_model`. They get
    their values on loading, which under `tf.distribute` has to be done outside the strategy's
    scope.

    Only inference is exported: layers are called with `training=False`, also those that train
    unless they are told not to, such as the ones that augment images. Before it takes its place,
    the folder or file is loaded and what it computes of a batch of two is compared with what the
    model computes. A file is run by LiteRT or TensorFlow Lite, ONNX Runtime, OpenVINO or PyTorch,
    where they are installed.

    The other formats are those of `keras.Model.export`, made of the final weights. In a LiteRT file
    pruned weights are stored without their zeros.

    Args:
        model: A built `keras.Model` of any kind. A subclassed one must have been called once.
        path: Where to write. A SavedModel is a folder; one that is there already is replaced, and
            only once the new one is complete. A folder that holds anything else is refused.
        format: `"tf_saved_model"`, `"litert"`, `"onnx"`, `"openvino"` or `"torch"`.
        verbose: 0 for silence; 1 to print the endpoint and the sizes before and after, with a
            progress bar for large models; 2 is the same.
        input_signature: Optional structure of `keras.InputSpec`, `tf.TensorSpec` or
            `keras.KerasTensor`, as in `keras.Model.export`: a list with one entry for each
            positional argument of the model.
        signatures: Optional dict from names to further endpoints of a SavedModel: a `tf.function`
            with an `input_signature`, which calls the model among other things, or inputs of the
            model in the form of `input_signature`. Each is a signature and an attribute of what is
            loaded. `"serve"` is the model's forward pass unless it is given, and
            `"serving_default"` the same as `"serve"` unless it is given.
        verify: Whether to compare what is written with the model. An endpoint or file that cannot
            be compared, a file whose runtime is not installed for example, is left out of the
            result, with a warning that says why.
        data: Optional inputs to compare on, as `model.predict` takes them, of which the first batch
            is used. By default inputs are drawn: normal numbers, small integers, short strings.
        optimize: `"size"`, or `"latency"` for a SavedModel whose layers are computed by whatever
            takes least time on this machine, Keras's own kernels among them: XNOR and popcount for
            binary layers, products that leave out pruned inputs, weights of a few bits decoded
            while they are multiplied, batch normalizations that are part of the kernel and bias
            before them. What is chosen is printed, and computes the same but for the
            order of sums. Arrays laid out for kernels may take more bytes. Of other formats it
            takes kernels of their engines. OpenVINO's `BinaryConvolution` for binary layers, its
            products with integers for dense layers of four and eight bits, and ONNX Runtime's
            `MatMulNBits` for those of two and four compute the same. LiteRT's for integers of four
            and eight bits quantize their inputs on the fly: the rows of the result say by how much
            outputs move.
        batch_sizes: The batch sizes that `"latency"` is for. Those of 1, of 2 or 3, of 4 to 8, and
            larger ones have kernels of their own, where a size is named; else they have Keras's
            and folded batch normalizations. The folder takes batches of any size, and compiles
            nothing anew for another one; a fixed size in `input_signature` is the one that it is
            for, whatever is given here. Where samples depend on each other, as in a model with the
            largest of a batch, or where calls change variables, as those of random numbers do, no
            batch is computed in parts, which some kernels need. A file has the same kernels for
            all sizes, those that take less time for each of these.
        search_seconds: Seconds after which `"latency"` tries no further kernels: the slowest layers
            are tried first, and those that are left are Keras's, as the table says.
        **kwargs: Passed on to `keras.Model.export` for the other formats.

    Returns:
        A `tfcomp.Result` with a row for each output that was compared, the largest difference
        from the model's, `left_out`, and `path`, `weight_bytes`, `file_bytes` and `kernels`.

    Raises:
        ValueError: If the model is not built, the format is unknown, the backend cannot write it,
            or `path` is taken by something that is not a SavedModel; or if what was written
            computes something else than the model, which says how much and which output. Then
            nothing is left at `path` but what was there before.
        ImportError: If a package is missing that writes the format, or times its kernels.

    Reference:
        - [Deep Compression](https://arxiv.org/abs/1510.00149) stores positions and shared values
          of the weights that are left under an entropy coder.

    Example:

    ```python
    tfcomp.export(model, "small")

    # Elsewhere, with TensorFlow alone:
    served = tf.saved_model.load("small")
    predictions = served.serve(images)
    ```
    """
    verbose = bool(check_verbose(verbose))
    batch_sizes = _check_optimize(optimize, batch_sizes, format)
    _check(model, path, format, input_signature)
    _check_packages(format, optimize)
    check_number("search_seconds", search_seconds, 0)
    search = Search(batch_sizes, search_seconds) if optimize == "latency" else None
    if format == "tf_saved_model":
        if kwargs:
            raise invalid("kwargs", kwargs, "no further arguments for format='tf_saved_model'")
        # TensorFlow is imported here and not with tfcomp.
        from tfcomp.exporters.saved_model import export_saved_model

        result = export_saved_model(
            model,
            os.fspath(path),
            verbose,
            input_signature,
            signatures,
            verify,
            data,
            search,
        )
    else:
        result = _export_file(
            model,
            os.fspath(path),
            verbose,
            format,
            input_signature,
            signatures,
            verify,
            data,
            search,
            kwargs,
        )
    for left in result.left_out if verify else []:
        warnings.warn(f"{left.path!r} was {left.reason}.", stacklevel=2)
    return result


def _export_file(
    model,
    path,
    verbose,
    format,
    input_signature,
    signatures,
    verify,
    data,
    search,
    kwargs,
):
    """Writes a file; see `export`. Kernels are chosen where there is a `Search`."""
    if signatures is not None:
        raise invalid("format", format, "'tf_saved_model' with `signatures`")
    if search and kwargs:
        raise invalid("kwargs", kwargs, "no further arguments for optimize='latency'")
    if search:
        _check_ending(path, format)
    if input_signature is None:
        input_signature = keras_private.input_signature(model)
    elif not isinstance(input_signature, (list, tuple)):
        input_signature = [input_signature]
    data = None if data is None else Batches(model, data)
    kernels, chosen = {}, False
    with replaced_files(path) as new:
        if not search:
            _write(model, new, format, input_signature, kwargs)
        else:
            kernels[ENDPOINT], chosen = _write_for_latency(
                model, new, format, input_signature, search, verbose, verify, data
            )
        # The arguments of this converter are there to make another network of it, and so are
        # inputs that are quantized on the fly.
        exact = format != "litert" or not (kwargs or chosen)
        if verify:
            rows, left_out = compare_file(model, new, format, input_signature, data, exact)
        else:
            rows, left_out = [], unverified([format])
        if chosen and not all(math.isfinite(row.difference) for row in rows):
            raise ValueError(
                f"The exported {format} file computes no numbers, or other shapes: {rows}"
            )
        before, after = _weight_bytes(model), size_of(os.path.dirname(new))
    result = Exported(model, rows, left_out, path, before, after, kernels)
    if verbose:
        print(f"Saved artifact at {path!r}.")
        if not exact:
            show(result.table())
    return result


def _check_ending(path, format):
    ending = _ENDINGS.get(format, "")
    if not path.endswith(ending):
        raise invalid("path", path, f"one that ends in {ending} for format={format!r}")


def _write_for_latency(model, path, format, specs, search, verbose, verify, data):
    """Writes a file whose kernels take least time; returns what `write_for_latency` does."""
    from tfcomp.exporters.files.choice import write_for_latency

    def check(file, batch=None):
        if verify:
            compare_file(model, file, format, specs, data, batch=batch)

    kernels, chosen = write_for_latency(model, path, format, specs, search, verbose, check)
    if verbose:
        show(kernels.table())
    return kernels, chosen


def _write(model, path, format, input_signature, kwargs):
    """Writes one of the other formats."""
    if format == "openvino" and keras.backend.backend() == "tensorflow":
        from tfcomp.exporters.to_openvino import write_openvino

        if kwargs:
            raise invalid("kwargs", kwargs, "no further arguments for format='openvino'")
        _check_ending(path, format)
        write_openvino(Snapshot(model), path, input_signature)
        return
    snapshot = Snapshot(model)
    if format == "litert" and not kwargs and keras.backend.backend() == "tensorflow":
        kwargs = _sparse_options(snapshot)
    snapshot.export(path, format=format, verbose=False, input_signature=input_signature, **kwargs)


def _sparse_options(snapshot):
    """Has LiteRT's converter leave out the zeros of pruned weights, which its runtime fills in."""
    values = (keras.ops.convert_to_numpy(copy.value) for copy in snapshot.copies)
    if not any(value.ndim > 1 and np.mean(value == 0) > _SPARSE for value in values if value.size):
        return {}
    import tensorflow as tf

    return {"optimizations": [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]}


def _weight_bytes(model):
    return sum(keras.ops.convert_to_numpy(variable.value).nbytes for variable in model.variables)


def _check_optimize(optimize, batch_sizes, format):
    """Returns the batch sizes as a tuple."""
    if optimize not in ("size", "latency"):
        raise invalid("optimize", optimize, "'size' or 'latency'")
    if optimize == "latency" and (format == "torch" or keras.backend.backend() != "tensorflow"):
        expected = f"'size' with format={format!r} on the {keras.backend.backend()} backend"
        raise invalid("optimize", optimize, expected)
    if isinstance(batch_sizes, int):
        batch_sizes = (batch_sizes,)
    if not isinstance(batch_sizes, (list, tuple)) or not batch_sizes:
        raise invalid("batch_sizes", batch_sizes, "a tuple of integers")
    return tuple(check_integer("batch_sizes", size, 1) for size in batch_sizes)


def _check_packages(format, optimize):
    """Raises before any work is done for a file that could not be written or timed."""
    if keras.backend.backend() != "tensorflow":
        return
    needed = [
        *_WRITTEN_BY.get(format, ()),
        *(_TIMED_BY.get(format, ()) if optimize == "latency" else ()),
    ]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"format={format!r} with optimize={optimize!r} needs {' and '.join(missing)}: "
            f'`pip install "tfcomp[{format}]"`'
        )


def _check(model, path, format, input_signature):
    if not isinstance(model, keras.Model):
        raise invalid("model", model, "a keras.Model")
    if format not in FORMATS:
        raise invalid("format", format, f"one of {list(FORMATS)}")
    if not isinstance(path, (str, os.PathLike)) or "://" in os.fspath(path):
        raise invalid("path", path, "a path on this machine")
    backend = keras.backend.backend()
    if format == "tf_saved_model" and backend != "tensorflow":
        raise ValueError(
            f"Invalid value for argument `format`. Received: format={format!r} with the {backend} "
            "backend. A compact SavedModel is traced by TensorFlow: save the model with "
            '`model.save("model.keras")`, then load and export it in a process with '
            "KERAS_BACKEND=tensorflow."
        )
    if not model.built:
        raise ValueError(
            f"Invalid value for argument `model`. Model {model.name!r} has no weights yet. Build "
            "it first: give it an `Input`, or call it once on a batch of data."
        )
    known = input_signature is not None or getattr(model, "inputs", None)
    if not known and not keras_private.was_called(model):
        raise ValueError(
            f"Invalid value for argument `model`. Model {model.name!r} was never called, so the "
            "shapes of its inputs are not known. Call it once on a batch of data, or pass "
            "`input_signature`."
        )
