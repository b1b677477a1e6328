"""Hashed networks on MNIST beside dense ones of the same size, as in the paper.

    python benchmarks/hashed_mnist.py --data mnist.npz [--seeds 1 2]

784-1000-10, every kernel hashed to an eighth and to a sixty-fourth; beside each stands a dense
network, narrower, of as many parameters. All are trained alike but for dropout, which does not help
the small ones; settings were chosen on the last 5,000 images of the training set, whose error is
printed, too. The test set is looked at once, for the table.
"""

import argparse
import os
import statistics
import time
from functools import partial

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from lenets import BATCH, adam, compiled, error, load, steps
from record import write

from tfcomp.layers import HashedDense

WIDE = 1000
RATE = 1e-3
DROPOUT = {8: 0.2, 64: 0.0}  # by the share of the weights that is left
PAPER = {
    (8, "hashed"): 1.43,
    (8, "dense of that size"): 1.69,
    (64, "hashed"): 2.79,
    (64, "dense of that size"): 6.4,
}


def network(width, dropout, ratio=None):
    def layer(units, seed, **arguments):
        if ratio is None:
            return keras.layers.Dense(units, **arguments)
        return HashedDense(units, compression=1 / ratio, seed=seed, **arguments)

    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            layer(width, 1, activation="relu"),
            keras.layers.Dropout(dropout),
            layer(10, 2),
        ]
    )


def narrow(parameters):
    """The widest dense network of no more than so many parameters."""
    return (parameters - 10) // (784 + 1 + 10)


def trained(model, train, epochs):
    compiled(model, adam, RATE, steps(train, epochs))
    model.fit(*train, batch_size=BATCH, epochs=epochs, verbose=0)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, as keras.datasets has it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--json", default="hashed_mnist.json")
    given = parser.parse_args()
    train, validation, test = load(given.data)
    results = {"seeds": given.seeds, "rows": []}

    def row(name, make, paper=None):
        runs, begin = [], time.perf_counter()
        for seed in given.seeds:
            keras.utils.set_random_seed(seed)
            model = trained(make(), train, given.epochs)
            runs.append((error(model, validation), error(model, test)))
        tests = [run[1] for run in runs]
        found = {
            "name": name,
            "parameters": model.count_params(),
            "validation error": statistics.mean(run[0] for run in runs),
            "test error": statistics.mean(tests),
            "test errors": tests,
            "paper": paper,
            "seconds": time.perf_counter() - begin,
        }
        results["rows"].append(found)
        print(
            f"{name:24} {found['parameters']:>8,} parameters  validation "
            f"{found['validation error']:5.2f} %  test {found['test error']:5.2f} % "
            f"({' '.join(f'{test:.2f}' for test in tests)})"
            + ("" if paper is None else f"  (paper: {paper} %)"),
            flush=True,
        )
        write(given.json, results)
        return model

    row("dense", partial(network, WIDE, 0.5))
    for ratio, dropout in DROPOUT.items():
        name = "hashed"
        model = row(f"1/{ratio} {name}", partial(network, WIDE, dropout, ratio), PAPER[ratio, name])
        name, width = "dense of that size", narrow(model.count_params())
        row(f"1/{ratio} {name}", partial(network, width, 0.0), PAPER[ratio, name])


if __name__ == "__main__":
    main()
