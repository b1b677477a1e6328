"""Seconds that the clusters of a large weight take, and their squared error over the least one.

python benchmarks/kmeans_scaling.py [--weights 25000000] [--bits 5]
"""

import argparse
import time

import numpy as np
from record import write

from tfcomp.methods.deep_compression.kmeans import INITS, kmeans


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=int, default=25_000_000)
    parser.add_argument("--bits", type=int, default=5)
    parser.add_argument("--json", default="kmeans_scaling.json")
    arguments = parser.parse_args()
    values = np.random.default_rng(0).laplace(size=arguments.weights).astype("float32")
    errors, seconds = {}, {}
    for init in INITS:
        begin = time.perf_counter()
        centroids, index = kmeans(values, 2**arguments.bits, init)
        seconds[init] = time.perf_counter() - begin
        errors[init] = np.mean((values - centroids[index]) ** 2)
    ratios = {init: float(error / errors["optimal"]) for init, error in errors.items()}
    for init, ratio in ratios.items():
        print(
            f"{arguments.weights:,} weights, {arguments.bits} bits, {init:8} "
            f"{seconds[init]:6.1f} s, {ratio:.4f} of the error of 'optimal'"
        )
    sizes = {"weights": arguments.weights, "bits": arguments.bits}
    write(arguments.json, {**sizes, "seconds": seconds, "ratios": ratios})


if __name__ == "__main__":
    main()
