"""Zhu and Gupta's comparison: large pruned networks against small dense ones of as many weights.

    python benchmarks/large_sparse.py --data mnist.npz [--seeds 1 2 3]

A multilayer perceptron 784-500-500-10 is trained and pruned gradually while it trains; beside each
sparsity stands a dense one, narrower, that has as many parameters and trains for as many epochs.
"""

import argparse
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import lenets
import numpy as np
from record import write

import tfcomp

WIDE = 500
SPARSITIES = (0.8, 0.9, 0.95, 0.975)


def load(path):
    """All images of the training set, and those of the test set, in rows."""
    train, held_out, (x, y) = lenets.load(path)
    images, labels = map(np.concatenate, zip(train, held_out))
    return (images.reshape(-1, 784), labels), (x.reshape(-1, 784), y)


def network(width):
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(width, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def narrow(parameters):
    """The widest dense network of no more than so many parameters."""
    return max(w for w in range(1, WIDE) if w * w + (784 + 10 + 2) * w + 10 <= parameters)


def train(model, data, epochs, sparsity=None):
    """Trains, prunes on the way if asked to; returns the error in per cent, and parameters."""
    images, test = data
    steps = lenets.steps(images, epochs)
    lenets.compiled(model, lenets.adam, 1e-3, steps)
    callbacks = []
    if sparsity is not None:
        schedule = tfcomp.schedules.PolynomialDecay(
            0.0, sparsity, steps // 10, steps * 6 // 10, frequency=100
        )
        callbacks = [tfcomp.callbacks.GradualPruning(schedule)]
    model.fit(*images, batch_size=lenets.BATCH, epochs=epochs, verbose=0, callbacks=callbacks)
    return lenets.error(model, test), sum(
        int(np.count_nonzero(weight)) for weight in model.get_weights()
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, as keras.datasets has it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", default="large_sparse.json")
    arguments = parser.parse_args()
    data = load(arguments.data)

    def errors(width, sparsity=None):
        found = []
        for seed in arguments.seeds:
            keras.utils.set_random_seed(seed)
            found.append(train(network(width), data, arguments.epochs, sparsity))
        return statistics.mean(error for error, _ in found), found[0][1]

    dense, size = errors(WIDE)
    print(f"dense, width {WIDE}: {size:,} parameters, error {dense:.2f} %", flush=True)
    rows = [{"width": WIDE, "parameters": size, "error": dense}]
    for sparsity in SPARSITIES:
        sparse, kept = errors(WIDE, sparsity)
        small, parameters = errors(narrow(kept))
        rows.append(
            {
                "sparsity": sparsity,
                "large sparse": {"parameters": kept, "error": sparse},
                "small dense": {
                    "width": narrow(kept),
                    "parameters": parameters,
                    "error": small,
                },
            }
        )
        print(
            f"sparsity {sparsity:.1%}: large sparse {kept:,} parameters, error {sparse:.2f} %; "
            f"small dense, width {narrow(kept)}, {parameters:,} parameters, error {small:.2f} %",
            flush=True,
        )
    write(arguments.json, {"seeds": arguments.seeds, "rows": rows})


if __name__ == "__main__":
    main()
