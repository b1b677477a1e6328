"""What `tfcomp.export` takes beside Keras's own export: processor seconds and bytes.

    python benchmarks/export_time.py [--only NAME ...] [--rounds 3] [--json FILE]

Kernels get 20 % of 4-bit values, at random. Both sides take turns in one process; times are medians
of processor seconds, those of `tfcomp.export` with and without the comparison with the model.
"""

import argparse
import functools
import os
import statistics
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from export_load import folder_bytes, seconds
from record import write

import tfcomp

NETWORKS = ("MobileNetV2", "Xception")


def network(name):
    """A network of its usual size, pruned to 80 % and of 4 bits."""
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    rng = np.random.default_rng(0)
    for variable in model.trainable_weights:
        if len(variable.shape) > 1:
            value = np.round(rng.standard_normal(variable.shape) * 5).clip(-7, 7) / 15
            variable.assign(value * (rng.random(variable.shape) < 0.2))
    return model


def measured(model, folder, rounds):
    """Dict from side to its figures."""
    exports = {
        "keras": functools.partial(model.export, verbose=False),
        "tfcomp": functools.partial(tfcomp.export, model, verbose=0),
        "without comparison": functools.partial(tfcomp.export, model, verbose=0, verify=False),
    }
    paths = {side: os.path.join(folder, side) for side in exports}
    times = {side: [] for side in paths}
    # The first round, in which TensorFlow is set up, is not counted.
    for turn in range(rounds + 1):
        for side, path in paths.items():
            _, spent = seconds(lambda s=side, p=path: exports[s](p))
            times[side] += [spent] * (turn > 0)
    return {
        side: {"seconds": statistics.median(times[side]), "bytes": folder_bytes(path)}
        for side, path in paths.items()
    }


def main():
    """Prints a line for each network and side, and writes all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="*", default=NETWORKS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = measured(network(name), folder, arguments.rounds)
        for side, row in results[name].items():
            print(f"{name:12} {side:20} {row['seconds']:6.2f} s {row['bytes']:>12,}", flush=True)
    write(arguments.json, results)


if __name__ == "__main__":
    main()
