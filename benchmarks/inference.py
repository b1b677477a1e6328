"""Exports for latency beside the fastest engine there is for the same network in floats.

    python benchmarks/inference.py --folder FILES [--only NAME ...] [--write-only] [--again] \\
        --json benchmarks/results/inference.json

Every network is exported by `tfcomp.export(optimize="latency")`, and in floats to a SavedModel,
LiteRT, ONNX and OpenVINO, to that also for a fixed batch size, where their runtimes are installed;
Keras's own export stands beside them. Files that a folder has already are not written again, nor
are rows that the JSON has timed again: it may be broken off and run again. All sides take turns in
one run of `tfcomp.benchmark`; the ratio is the time of the fastest side but ours by our time. What
is "fixed" is for one batch size. With `--more` rows are timed once more, in a process of their own,
where memory lies elsewhere, and the run with the median ratio is the one that counts.
"""

import argparse
import json
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from record import Rows

import tfcomp

K, T = keras.layers, tfcomp.layers


def settled(model):
    """Statistics at which signs of both kinds appear."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, K.BatchNormalization):
            size = layer.gamma.shape
            deviation = rng.uniform(100, 400, size)
            layer.set_weights(
                [rng.normal(size=size), rng.normal(size=size), rng.normal(size=size), deviation]
            )
    return model


def binary_vgg():
    """BinaryNet's network for images of 32 x 32, with 128 to 512 channels."""
    layers = [keras.Input((32, 32, 3)), K.Conv2D(128, 3, padding="same"), K.BatchNormalization()]
    for channels, pooled in ((128, 1), (256, 0), (256, 1), (512, 0), (512, 1)):
        layers.append(T.BinaryConv2D(channels, 3, padding="same"))
        layers += [K.MaxPooling2D()] * pooled + [K.BatchNormalization()]
    layers += [K.Flatten(), T.BinaryDense(1024), K.BatchNormalization(), T.BinaryDense(10)]
    return settled(keras.Sequential(layers))


def two_binary_convolutions():
    """Two layers of 64 filters of 3 x 3 on 56 x 56."""
    layers = [T.BinaryConv2D(64, 3, padding="same"), K.BatchNormalization()]
    layers.append(T.BinaryConv2D(64, 3, padding="same"))
    return settled(keras.Sequential([keras.Input((56, 56, 64)), *layers]))


def dense(width, layer=K.Dense):
    """One layer of as many inputs as outputs."""
    return keras.Sequential([keras.Input((width,)), layer(width)])


def pruned(kernel, size, share, rng):
    """Normal numbers in a kernel's shape, of which `size` neighbours each keep the same inputs."""
    inputs, outputs = int(np.prod(kernel.shape[:-1])), kernel.shape[-1]
    value = rng.standard_normal((inputs, outputs)).astype("float32") / np.float32(inputs**0.5)
    kept = max(1, round(inputs * share))
    for begin in range(0, outputs, size):
        value[rng.permutation(inputs)[kept:], begin : begin + size] = 0
    kernel.assign(value.reshape(kernel.shape))


def pruned_dense(size, share, width=4096):
    """A layer of which `size` neighbouring outputs keep the same inputs."""
    model = dense(width)
    pruned(model.layers[0].kernel, size, share, np.random.default_rng(0))
    return model


def pruned_mobilenet(share):
    """MobileNet for images of 224 x 224; all its pointwise layers, the last too, keep a share."""
    model, rng = keras.applications.MobileNet(weights=None), np.random.default_rng(0)
    for layer in model.layers:
        if type(layer) is K.Conv2D and layer.kernel_size == (1, 1):
            pruned(layer.kernel, 64, share, rng)
    return model


def low_bit_dense(levels, width=4096):
    """A layer with values on a grid."""
    model = dense(width)
    codes = np.random.default_rng(0).integers(0, levels, (width, width)) - levels // 2
    model.layers[0].kernel.assign(codes.astype("float32") * np.float32(0.01))
    return model


# Of each network: how it is made, and batch sizes with the ratio that is aimed at on one thread.
NETWORKS = {
    "binary VGG": (binary_vgg, {1: 7, 32: 6.5}),
    "two binary convolutions": (two_binary_convolutions, {1: 5.5}),
    "binary dense": (lambda: dense(4096, T.BinaryDense), {1: 12, 8: 4.5}),
    "groups of 64 at 90 %": (lambda: pruned_dense(64, 0.1), {1: 8, 8: 10, 64: 4.5}),
    "groups of 16 at 90 %": (lambda: pruned_dense(16, 0.1), {1: None, 8: None}),
    "single weights at 90 %": (lambda: pruned_dense(1, 0.1), {1: 2.5}),
    "single weights at 95 %": (lambda: pruned_dense(1, 0.05), {1: 4.5}),
    "single weights at 99 %": (lambda: pruned_dense(1, 0.01), {1: 10.5}),
    "MobileNet, groups of 64 at 80 %": (lambda: pruned_mobilenet(0.2), {1: 1.4, 8: 1.4}),
    "MobileNet, groups of 64 at 90 %": (lambda: pruned_mobilenet(0.1), {1: 1.8, 8: 1.8}),
    "ternary dense": (lambda: low_bit_dense(3), {1: 2.7}),
    "4-bit dense": (lambda: low_bit_dense(15), {1: 2.7}),
}
# The same of calls with cold caches.
COLD = {"ternary dense": 2, "4-bit dense": 2}
OURS, FIXED = "tfcomp", "tfcomp fixed"
# A LiteRT file in which the zeros of a pruned network are left out.
SPARSE = "sparse litert"
ENDINGS = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}


class Files:
    """Exports of a network in a folder, each made once, and the network only where one is missing.

    Args:
        make: Callable that returns the model.
        folder: Folder of the folders of all networks.
        name: The network's name.
    """

    def __init__(self, make, folder, name):
        self.make, self._model = make, None
        self.folder = os.path.join(folder, name.replace(" ", "_"))
        os.makedirs(self.folder, exist_ok=True)

    @property
    def model(self):
        if self._model is None:
            keras.utils.set_random_seed(0)
            self._model = self.make()
        return self._model

    def path(self, name, ending="", export=tfcomp.export, **arguments):
        """Path of an export, or `None` if a converter or a runtime cannot do it, which is said."""
        path = os.path.join(self.folder, name.replace(" ", "_") + ending)
        if not os.path.exists(path):
            try:
                export(self.model, path, verbose=0, **arguments)
            except (ImportError, ValueError) as error:
                print(f"  {name}: {type(error).__name__}: {str(error)[:200]}", flush=True)
                return None
        return path

    def fixed(self, batch):
        """A signature for one batch size."""
        shape = (batch, *self.model.input_shape[1:])
        return [keras.InputSpec(shape=shape, dtype="float32", name="x")]

    def floats(self, batch):
        """Dict from names to paths of the network in floats, for each engine."""
        # Keras's export computes signs of weights at every call; this does not.
        found = {"TensorFlow": self.path("TensorFlow")}
        for format, ending in ENDINGS.items():
            # Without the encoding of zeros that a file of a pruned network would have.
            dense = {"optimizations": []} if format == "litert" else {}
            found[format] = self.path(format, ending, format=format, **dense)
        name = f"openvino fixed {batch}"
        arguments = {"format": "openvino", "input_signature": self.fixed(batch)}
        found["openvino fixed"] = self.path(name, ".xml", **arguments)
        return {name: path for name, path in found.items() if path}


def kernels_of(folder, batch):
    """Names of the kernels that were chosen for a batch size, in order, each with its number."""
    with open(os.path.join(folder, "assets.extra", "kernels.json"), encoding="utf-8") as file:
        rows = json.load(file)["serve"]["kernels"]
    names = [row["kernel"] for row in rows if row["batch"] == batch][:-1]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def timed(sides, shape, rounds, threads):
    """Times all sides beside each other: a dict from names to what of them is kept."""
    x = np.random.default_rng(shape[0]).standard_normal(shape).astype("float32")
    found = tfcomp.benchmark(sides, x, rounds=rounds, threads=threads, verbose=0)
    print(found, flush=True)
    return {
        row.path: {
            "milliseconds": round(row.milliseconds, 4),
            "cold": round(row.cold, 4),
            "bytes": row.bytes,
            "difference": float(f"{row.difference:.1e}"),
        }
        for row in found
    }


def fastest(models, of="milliseconds", ours=OURS):
    """The name of the fastest side in floats, and how many times our time its time is."""
    floats = [name for name in models if name not in (OURS, FIXED, SPARSE)]
    name = min(floats, key=lambda name: models[name][of])
    return name, models[name][of] / models[ours][of]


def row_of(files, batch, batches, is_pruned, arguments):
    """What is measured of one network and batch size."""
    sides = {OURS: files.path(OURS, optimize="latency", batch_sizes=tuple(batches))}
    sides[FIXED] = files.path(
        f"{FIXED} {batch}", optimize="latency", input_signature=files.fixed(batch)
    )
    sides |= {"Keras": files.path("Keras", export=keras.Model.export), **files.floats(batch)}
    if is_pruned:
        sides[SPARSE] = files.path(SPARSE, ".tflite", format="litert")
    if arguments.write_only:
        return None
    shape = (batch, *files.model.input_shape[1:])
    models = timed(sides, shape, arguments.rounds, arguments.threads)
    name, ratio = fastest(models)
    cold_name, cold_ratio = fastest(models, "cold")
    return {
        "kernels": kernels_of(sides[OURS], batch),
        "fastest": name,
        "ratio": round(ratio, 3),
        "fixed ratio": round(fastest(models, ours=FIXED)[1], 3),
        "cold fastest": cold_name,
        "cold ratio": round(cold_ratio, 3),
        "models": models,
        "runs": [],
    }


RUN = ("kernels", "fastest", "ratio", "fixed ratio", "cold fastest", "cold ratio", "models")


def runs_of(rows, key):
    """All runs of a row that is there."""
    found = [row for row in rows.rows if key.items() <= row.items()]
    runs = [{name: run[name] for name in RUN} for row in found for run in (row, *row["runs"])]
    return [{**run, "models": {k: whole(v) for k, v in run["models"].items()}} for run in runs]


def median_of(runs):
    """The run with the median ratio, which holds the times of the others."""
    order = sorted(runs, key=lambda run: run["ratio"])
    median = order.pop((len(order) - 1) // 2)
    return {**median, "runs": [{**run, "models": times_of(run["models"])} for run in order]}


def times_of(models):
    """Of further runs the times are kept."""
    return {side: found["milliseconds"] for side, found in models.items()}


def whole(found):
    """What is kept of a side, as there is more of it in a row."""
    return found if isinstance(found, dict) else {"milliseconds": found}


def on_cores(count):
    """Starts anew on as many cores as threads: threads that are there already stay where they are.

    What one thread hands to one on another core would show in every call otherwise.
    """
    cores = sorted(os.sched_getaffinity(0))
    if count < len(cores):
        os.sched_setaffinity(0, cores[-count:])
        os.execv(sys.executable, [sys.executable, *sys.argv])
    tf.config.threading.set_intra_op_parallelism_threads(count)
    tf.config.threading.set_inter_op_parallelism_threads(count)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, help="of these sizes only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", help="where files are kept; by default they are not")
    parser.add_argument("--write-only", action="store_true", help="times nothing")
    parser.add_argument("--again", action="store_true", help="also what the JSON has")
    parser.add_argument("--more", action="store_true", help="the same, beside the runs it has")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    on_cores(arguments.threads)
    order = list(NETWORKS)
    rows = Rows(
        arguments.json,
        lambda row: (row["threads"], order.index(row["network"]), row["batch"]),
    )
    with tempfile.TemporaryDirectory() as passing:
        for name in arguments.only:
            make, batches = NETWORKS[name]
            files = Files(make, arguments.folder or passing, name)
            for batch in batches:
                key = {"network": name, "batch": batch, "threads": arguments.threads}
                wanted = arguments.batch is None or batch in arguments.batch
                again = arguments.again or arguments.more
                if not wanted or (rows.has(**key) and not again):
                    continue
                row = row_of(files, batch, batches, "%" in name, arguments)
                if row is not None:
                    if arguments.more:
                        row = median_of([*runs_of(rows, key), row])
                    rows.drop(**key)
                    wanted = {"wanted": batches[batch], "wanted cold": COLD.get(name)}
                    rows.add(**key, **(wanted if arguments.threads == 1 else {}), **row)


if __name__ == "__main__":
    main()
