"""What a SavedModel of tfcomp costs beside Keras's own: bytes of the graph, loading, calls.

    python benchmarks/export_load.py [--only NAME ...] [--rounds 5] [--json FILE]

Kernels get 10 % of 4-bit values. Both sides take turns in one process; times are medians of
processor seconds. Graph bytes are those of `saved_model.pb`.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from record import write

import tfcomp

NETWORKS = ("MobileNetV3Small", "MobileNetV2", "EfficientNetB0", "ResNet50")


def network(name):
    """A compressed network, and a batch for it."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3), classes=10)
    rng = np.random.default_rng(0)
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            value = np.round(rng.standard_normal(variable.shape) * 5).clip(-7, 7) / 15
            variable.assign(value * (rng.random(variable.shape) < 0.1))
    return model, tf.constant(rng.standard_normal((1, 96, 96, 3)), tf.float32)


def folder_bytes(path):
    """Bytes of all files in a folder."""
    return sum(os.path.getsize(os.path.join(w, n)) for w, _, names in os.walk(path) for n in names)


def seconds(function):
    """What a function returns, and the processor seconds it took."""
    begin = time.process_time()
    result = function()
    return result, time.process_time() - begin


def measured(paths, x, rounds):
    """Dict from side to its figures."""
    times = {side: {"load": [], "first_call": [], "call": []} for side in paths}
    for _ in range(rounds):
        for side, path in paths.items():
            loaded, load = seconds(lambda path=path: tf.saved_model.load(path))
            for what, count in (("first_call", 1), ("call", 10)):
                _, spent = seconds(lambda n=count, v=loaded: [v.serve(x) for _ in range(n)])
                times[side][what].append(spent / count)
            times[side]["load"].append(load)
    return {
        side: {
            "graph_bytes": os.path.getsize(os.path.join(path, "saved_model.pb")),
            "folder_bytes": folder_bytes(path),
            **{f"{what}_s": statistics.median(all_) for what, all_ in times[side].items()},
        }
        for side, path in paths.items()
    }


def main():
    """Prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.only:
        model, x = network(name)
        with tempfile.TemporaryDirectory() as folder:
            paths = {side: os.path.join(folder, side) for side in ("keras", "tfcomp")}
            model.export(paths["keras"], verbose=False)
            tfcomp.export(model, paths["tfcomp"], verbose=0)
            results[name] = measured(paths, x, arguments.rounds)
        for side, row in results[name].items():
            cells = [
                f"{value:>12,}" if isinstance(value, int) else f"{value:12.4f}"
                for value in row.values()
            ]
            print(f"{name:18} {side:8}", *cells, file=sys.stdout, flush=True)
    write(arguments.json, results)


if __name__ == "__main__":
    main()
