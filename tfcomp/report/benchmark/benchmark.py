"""Latencies of models and files, side by side."""

import os
import time
from typing import NamedTuple

import keras
import numpy as np

from tfcomp.console import show
from tfcomp.exporters.compared import difference, size_of
from tfcomp.exporters.engines import engine
from tfcomp.model.result import Result
from tfcomp.model.timing import cold, interleaved, ratios
from tfcomp.validation import check_integer, check_verbose, invalid

# Seconds of a turn: what the engine before leaves, to caches and clocks, is over in most calls.
_TURN = 3e-2


class Latency(NamedTuple):
    """One row of a `Benchmark`.

    Attributes:
        path: The model's name.
        engine: What runs it.
        bytes: Bytes on disk of a file or folder, `None` for a model in memory.
        load: Seconds to load it.
        first: Milliseconds of the first call, in which engines compile and allocate.
        milliseconds: Median of a call right after another one.
        low, high: Quartiles.
        cold: Median of a call with caches full of something else.
        faster: How many times faster than the first of the models, the median over rounds.
        difference: Largest difference of an output from that of the first, as a share of the
            largest output; `inf` if they have other shapes.
    """

    path: str
    engine: str
    bytes: int | None
    load: float
    first: float
    milliseconds: float
    low: float
    high: float
    cold: float
    faster: float
    difference: float

    @property
    def size(self):
        """`bytes` as it is printed."""
        return "-" if self.bytes is None else f"{self.bytes:,}"


_COLUMNS = {
    "model": "{0.path}",
    "engine": "{0.engine}",
    "bytes": "{0.size}",
    "load s": "{0.load:.2f}",
    "first ms": "{0.first:.1f}",
    "median ms": "{0.milliseconds:.3f}",
    "quartiles": "{0.low:.3f}-{0.high:.3f}",
    "cold ms": "{0.cold:.3f}",
    "times faster": "{0.faster:.2f}",
    "difference": "{0.difference:.1e}",
}


class Benchmark(Result):
    """Latencies of several models; prints itself as a table.

    Attributes:
        rows: List of `Latency`.
        batch: Samples of the batch that was timed.
        threads: Number of threads, `None` where each engine chose.
    """

    def __init__(self, rows, batch, threads):
        text = "threads as each engine chooses" if threads is None else f"{threads} threads"
        super().__init__(
            None, rows, title=f"batch {batch}, {text}; against {rows[0].path}", columns=_COLUMNS
        )
        self.batch, self.threads = batch, threads

    def to_dict(self):
        """Returns everything as plain dicts and lists."""
        rows = [row._asdict() for row in self.rows]
        return {"batch": self.batch, "threads": self.threads, "models": rows}


def benchmark(models, inputs=None, batch_size=1, rounds=30, threads=None, seed=0, verbose=1):
    """Times models and files beside each other, and compares what they predict.

    The calls take turns, every round begins with another model, and the ratios are medians over
    the rounds: what else the machine does meets all of them. A time includes the call from Python
    and the outputs as NumPy arrays. A Keras model's forward pass is compiled as its backend does
    it, without the loop and the callbacks of `predict`.

    Args:
        models: List of Keras models and of paths, or a dict from names to them: SavedModel folders
            and `.keras`, `.tfc`, `.tflite`, `.onnx` (ONNX Runtime) and `.xml` (OpenVINO) files. The
            first is what the others are compared with.
        inputs: Optional structure of arrays, one batch as `predict` takes it. Normal numbers by
            default, zeros and ones where integers are asked for.
        batch_size: Samples of the batch that is drawn. Ignored if `inputs` are given.
        rounds: How often each is timed.
        threads: Number of threads of each engine; `None` lets each choose.
        seed: Seed of what is drawn.
        verbose: 0 for silence; 1 or 2 to print the table.

    Returns:
        A `Benchmark`: one `Latency` for each model, `result["name"]` by its name.

    Raises:
        ImportError: If the engine of a file is not installed.
        ValueError: If there is no model, or inputs cannot be drawn for it.

    Example:

    ```python
    tfcomp.export(model, "small")
    tfcomp.benchmark({"Keras": model, "tfcomp": "small"}, batch_size=8)
    ```
    """
    verbose = check_verbose(verbose)
    rounds = check_integer("rounds", rounds, 1)
    batch_size = check_integer("batch_size", batch_size, 1)
    threads = None if threads is None else check_integer("threads", threads, 1)
    named = _named(models)
    opened, loads = {}, {}
    for name, source in named.items():
        begin = time.perf_counter()
        opened[name] = engine(source, threads)
        loads[name] = time.perf_counter() - begin
    if inputs is None:
        inputs = _drawn([one.specs for one in opened.values()], batch_size, seed)
    inputs = keras.tree.map_structure(np.asarray, inputs)
    calls, firsts, outputs = [], [], []
    for one in opened.values():
        begin = time.perf_counter()
        calls.append(one.prepare(inputs))
        outputs.append(calls[-1]())
        firsts.append(time.perf_counter() - begin)
    seconds = interleaved(calls, rounds, least=_TURN)
    faster = ratios(seconds, 0)
    far = 1e3 * np.median(cold(calls, min(rounds, 9)), axis=0)
    low, middle, high = 1e3 * np.quantile(seconds, (0.25, 0.5, 0.75), axis=0)
    rows = [
        Latency(
            name,
            opened[name].name,
            _bytes(named[name]),
            loads[name],
            1e3 * firsts[n],
            float(middle[n]),
            float(low[n]),
            float(high[n]),
            float(far[n]),
            float(faster[n]),
            _difference(outputs[n], outputs[0]),
        )
        for n, name in enumerate(named)
    ]
    result = Benchmark(rows, len(keras.tree.flatten(inputs)[0]), threads)
    if verbose:
        show(result.table())
    return result


def _named(models):
    if isinstance(models, (str, os.PathLike, keras.Model)):
        models = [models]
    if isinstance(models, (list, tuple)):
        names = [m.name if isinstance(m, keras.Model) else str(m) for m in models]
        if len(set(names)) != len(names):
            raise invalid("models", names, "different names: pass a dict from names to models")
        models = dict(zip(names, models))
    if not isinstance(models, dict) or not models:
        raise invalid("models", models, "a list of models and paths, or a dict from names to them")
    return models


def _drawn(all_specs, batch_size, seed):
    """Inputs for the first engine that says all their shapes."""
    known = [
        specs
        for specs in all_specs
        if specs and all(None not in shape[1:] for _, shape, _ in specs)
    ]
    if not known:
        raise ValueError(
            "Invalid value for argument `inputs`. The shapes of the inputs are not all known, so "
            f"a batch must be given. Received: inputs=None, known are {all_specs}"
        )
    random = np.random.default_rng(seed)

    def draw(shape, dtype):
        shape = (shape[0] or batch_size, *shape[1:])
        if np.dtype(dtype).kind == "f" or dtype == "bfloat16":
            return random.standard_normal(shape).astype(dtype)
        if np.dtype(dtype).kind in "iub":
            return random.integers(0, 2, shape).astype(dtype)
        raise invalid("inputs", None, f"a batch, since inputs of {dtype} cannot be drawn")

    arrays = [draw(shape, dtype) for _, shape, dtype in known[0]]
    return arrays[0] if len(arrays) == 1 else arrays


def _bytes(source):
    """Bytes of all that a source has on disk."""
    if isinstance(source, keras.Model):
        return None
    path = os.fspath(source)
    if os.path.isdir(path):
        return size_of(path)
    weights = os.path.splitext(path)[0] + ".bin"
    beside = path.endswith(".xml") and os.path.exists(weights)
    return os.path.getsize(path) + (os.path.getsize(weights) if beside else 0)


def _difference(found, expected):
    if len(found) != len(expected):
        return float("inf")
    pairs = [difference(a, b) for a, b in zip(found, expected)]
    largest = max((largest for _, largest in pairs), default=0.0)
    return max((off for off, _ in pairs), default=0.0) / (largest or 1.0)
