"""Time of one mask update over a kernel of 100 million weights, beside one numpy.partition of it.

    python benchmarks/mask_update.py [--side 10000] [--rounds 5]

Both in one run, in turn. The update is all of what `GradualPruning` does: it reads the weight and
the mask, scores, chooses exactly the scheduled number, and writes both back.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from record import write

import tfcomp


class Timed(tfcomp.callbacks.GradualPruning):
    """Gradual pruning that times its updates."""

    def compress(self, entries, amount):
        begin = time.perf_counter()
        super().compress(entries, amount)
        self.seconds = time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=10_000, help="inputs, and outputs")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="mask_update.json")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((arguments.side,)), keras.layers.Dense(arguments.side)])
    model.compile(keras.optimizers.SGD(1e-6), "mse")
    data = np.ones((1, arguments.side), "float32")
    kernel = model.layers[0].kernel
    partitions, updates = [], []
    for turn in range(arguments.rounds + 1):
        # Each update finds what the one before has pruned, as in a schedule.
        amount = 0.9 * turn / (arguments.rounds + 1)
        weights = np.abs(keras.ops.convert_to_numpy(kernel)).ravel()
        begin = time.perf_counter()
        np.partition(weights, int(amount * weights.size))
        partitions.append(time.perf_counter() - begin)
        schedule = tfcomp.schedules.ConstantSparsity(amount, begin_step=0)
        callback = Timed(schedule)
        model.fit(data, data, verbose=0, callbacks=[callback])
        updates.append(callback.seconds)
        print(
            f"{weights.size:,} weights, to {amount:.0%}: numpy.partition {partitions[-1]:.2f} s, "
            f"mask update {updates[-1]:.2f} s",
            flush=True,
        )
    ratio = statistics.median(u / p for u, p in zip(updates, partitions))
    print(f"median ratio {ratio:.2f}")
    found = {"partition": partitions, "update": updates, "ratio": ratio}
    write(arguments.json, {"weights": weights.size, **found})


if __name__ == "__main__":
    main()
