"""What `benchmarks/zoo.py` counts and writes: a summary, an export, an archive.

Each check takes a model and a batch and returns a dict: "result", which is "ok" or what is wrong,
and numbers.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

import keras
import numpy as np
import zoo_networks
from zoo_networks import PUBLISHED, measured

import tfcomp

SPARSITY, LEVELS = 0.8, 7
MOST_SECONDS, MOST_GB = 60, 4
SUMMARY_SECONDS = 5
TOLERANCE = 1e-5

# A process that has nothing but TensorFlow.
LOADER = """
import json, re, statistics, sys, time
import numpy as np, tensorflow as tf
folder, data = sys.argv[1:]
with np.load(data) as arrays:
    batch, wanted = arrays["batch"], arrays["wanted"]
times = [time.process_time()]
loaded = tf.saved_model.load(folder)
times.append(time.process_time())
batch = tf.constant(batch)
for _ in range(4):
    output = loaded.serve(batch).numpy()
    times.append(time.process_time())
load, first, *further = np.diff(times)
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps({
    "load_seconds": load, "first_seconds": first, "further_seconds": statistics.median(further),
    "gap": float(np.max(np.abs(output - wanted))), "load_gb": int(peak[1]) * 1024 / 1e9,
}))
"""


def make(name):
    """A network at the size it was published with, most of each kernel zero, the rest coarse."""
    model, batch = zoo_networks.make(name, PUBLISHED[name][0], 1000)
    for weight in zoo_networks.kernels(model):
        value = weight.numpy()
        size = np.abs(value)
        step = size.max() / LEVELS
        least = np.partition(size, int(SPARSITY * size.size), axis=None)[int(SPARSITY * size.size)]
        levels = np.maximum(np.round(size / step), 1) * np.sign(value) * step
        weight.assign(np.where(size < least, 0, levels))
    return model, batch[:1]


def _leaves(model):
    for layer in model.layers:
        yield from _leaves(layer) if isinstance(layer, keras.Model) else (layer,)


_ONE_KERNEL = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Dense)


def macs_by_hand(model):
    """MACs of convolutions and dense layers, each called once, from the shapes of its output."""
    total = 0
    for layer in _leaves(model):
        if isinstance(layer, keras.layers.SeparableConv2D):
            kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
        elif isinstance(layer, _ONE_KERNEL):
            kernels = [layer.kernel]
        else:
            continue
        places = int(np.prod(layer.output.shape[1:-1]))
        total += places * sum(int(np.prod(kernel.shape)) for kernel in kernels)
    return total


def by_the_clock(function, *args, **kwargs):
    """What a function that computes on all cores returns, and seconds."""
    begin = time.perf_counter()
    return function(*args, **kwargs), round(time.perf_counter() - begin, 2)


def macs(model, batch, name):
    (summed, seconds), _, peak = measured(by_the_clock, tfcomp.summary, model, print_table=False)
    found, by_hand = sum(summed.macs.values()), macs_by_hand(model)
    published = PUBLISHED[name][1]
    numbers = {"macs": found, "seconds": seconds, "gb": peak, "published": published}
    if not summed.macs_complete:
        return {"result": "not complete", **numbers}
    if found != by_hand:
        return {"result": f"{found:,} MACs, by hand {by_hand:,}", **numbers}
    if published is not None and abs(found / published / 1e6 - 1) > 0.05:
        return {"result": f"{found / 1e6:,.0f} M MACs, published {published:,} M", **numbers}
    return _within_limits(numbers, SUMMARY_SECONDS)


def _within_limits(numbers, seconds=MOST_SECONDS):
    limits = {"seconds": seconds, "gb": MOST_GB}
    over = [f"{key} {numbers[key]:.1f}" for key in numbers if _is_over(key, numbers[key], limits)]
    return {"result": f"over the limit: {', '.join(over)}" if over else "ok", **numbers}


def _is_over(key, number, limits):
    if key.startswith("keras_") or number is None:
        return False
    return number > limits.get(key.split("_")[-1], float("inf"))


def _size(folder):
    return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())


def _loaded(folder, data):
    done = subprocess.run(
        [sys.executable, "-c", LOADER, folder, data], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{folder} cannot be loaded: {done.stderr[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def _export(model, folder, data, write):
    _, seconds, peak = measured(write, model, folder)
    return {
        "seconds": seconds,
        "gb": peak,
        "bytes": _size(folder),
        "graph_bytes": (pathlib.Path(folder) / "saved_model.pb").stat().st_size,
        **_loaded(folder, data),
    }


def export(model, batch, name):
    wanted = np.asarray(model.predict(batch, verbose=0))
    writers = {
        "": lambda model, folder: tfcomp.export(model, folder, verbose=0),
        "keras_": lambda model, folder: model.export(folder, verbose=False),
    }
    numbers = {}
    with tempfile.TemporaryDirectory() as root:
        data = f"{root}/data.npz"
        np.savez(data, batch=batch, wanted=wanted)
        for prefix, write in writers.items():
            # Modules are imported, and what is compiled once is.
            write(keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]), f"{root}/small")
            found = _export(model, f"{root}/{prefix}model", data, write)
            numbers.update({prefix + key: number for key, number in found.items()})
    if numbers["gap"] > TOLERANCE * np.max(np.abs(wanted)):
        return {"result": f"differs from `predict` by {numbers['gap']:.2g}", **numbers}
    return _within_limits(numbers)


def archive(model, batch, name):
    with tempfile.TemporaryDirectory() as root:
        path = pathlib.Path(root) / "model.tfc"
        _, seconds, peak = measured(tfcomp.save, model, path)
        loaded, load_seconds, load_peak = measured(tfcomp.load, path)
        numbers = {
            "seconds": seconds,
            "gb": peak,
            "bytes": path.stat().st_size,
            "load_seconds": load_seconds,
            "load_gb": load_peak,
        }
    for old, new in zip(model.weights, loaded.weights, strict=True):
        if old.numpy().tobytes() != new.numpy().tobytes():
            return {"result": f"{old.path} is another", **numbers}
    return _within_limits(numbers)


CHECKS = {"macs": macs, "export": export, "archive": archive}
