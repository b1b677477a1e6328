"""How time and memory of layer-wise optimal brain surgeon grow with the width of a layer.

    python benchmarks/obs_scaling.py [--widths 256 512 1024 2048 4096]

Every width is a process of its own: a dense layer of that many inputs and outputs, pruned to 70 %
by `tfcomp.prune_obs` from 2,000 samples. Memory is what the process's peak grew by.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from record import write


def one(width, method):
    import keras
    import numpy as np

    import tfcomp

    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(width)])
    x = np.random.default_rng(0).normal(size=(2000, width)).astype("float32")
    model.predict(x[:32], verbose=0)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    tfcomp.prune_obs(model, 0.7, x, method=method, verbose=0)
    seconds = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    print(
        json.dumps(
            {
                "width": width,
                "method": method,
                "seconds": seconds,
                "bytes": grown,
                "layer bytes": kernel.nbytes,
                "sparsity": float((kernel == 0).mean()),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[256, 512, 1024, 2048, 4096])
    parser.add_argument("--greedy", type=int, nargs="*", default=[64, 128, 192])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", default="obs_scaling.json")
    arguments = parser.parse_args()
    if arguments.one:
        return one(int(arguments.one[0]), arguments.one[1])
    rows = []
    jobs = [(w, "greedy") for w in arguments.greedy] + [(w, "sweep") for w in arguments.widths]
    for width, method in jobs:
        command = [sys.executable, __file__, "--one", str(width), method]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        row = json.loads(output.splitlines()[-1])
        rows.append(row)
        print(
            f"{width:>5} x {width:<5} {method:7} {row['seconds']:6.1f} s  "
            f"{row['bytes'] / 2**20:6.0f} MiB  layer {row['layer bytes'] / 2**20:5.1f} MiB",
            flush=True,
        )
    write(arguments.json, rows)


if __name__ == "__main__":
    main()
