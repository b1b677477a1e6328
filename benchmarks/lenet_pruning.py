"""Every pruning method on LeNet-300-100 and Caffe's LeNet-5, beside the papers' figures.

    python benchmarks/lenet_pruning.py --data mnist.npz [--seed 1] [--nets lenet300 lenet5]

Settings were chosen on the last 5,000 images of the training set, whose error is printed, too. The
test set is looked at once, for the table.
"""

import argparse
import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import tfcomp
from tfcomp.callbacks import (
    DynamicNetworkSurgery,
    GradualPruning,
    MagnitudePruning,
    SensitivityPruning,
)

BATCH = 128
HELD_OUT = 5000
GRID = (0.5, 0.7, 0.8, 0.9)


def load(path):
    with np.load(path) as data:
        x, y = data["x_train"][..., None] / np.float32(255), data["y_train"]
        test = data["x_test"][..., None] / np.float32(255), data["y_test"]
    return (x[:-HELD_OUT], y[:-HELD_OUT]), (x[-HELD_OUT:], y[-HELD_OUT:]), test


def lenet300(l2=0.0, dropout=0.0):
    layers, decay = keras.layers, {"kernel_regularizer": keras.regularizers.L2(l2)}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(300, activation="relu", name="dense1", **decay),
            layers.Dropout(dropout),
            layers.Dense(100, activation="relu", name="dense2", **decay),
            layers.Dropout(dropout),
            layers.Dense(10, name="dense3", **decay),
        ]
    )


def lenet5(l2=0.0, dropout=0.0):
    layers, decay = keras.layers, {"kernel_regularizer": keras.regularizers.L2(l2)}
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(20, 5, name="conv1", **decay),
            layers.MaxPooling2D(),
            layers.Conv2D(50, 5, name="conv2", **decay),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(500, activation="relu", name="dense1", **decay),
            layers.Dropout(dropout),
            layers.Dense(10, name="dense2", **decay),
        ]
    )


def adam(rate):
    return keras.optimizers.Adam(rate)


def momentum(rate):
    return keras.optimizers.SGD(rate, momentum=0.9)


class Bench:
    """A trained network that every method starts from."""

    def __init__(self, settings, data, seed):
        self.make, self.seed = settings["make"], seed
        self.train, self.validation, self.test = data
        epochs = settings["epochs"]
        keras.utils.set_random_seed(seed)
        model = self.make(1e-5, settings["dropout"])
        self.compiled(model, adam, 1e-3, epochs)
        self.fit(model, epochs)
        self.weights = model.get_weights()
        self.size = model.count_params()

    def compiled(self, model, optimizer, rate, epochs):
        steps = epochs * -(-len(self.train[0]) // BATCH)
        model.compile(
            optimizer(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def start(self, l2=0.0, dropout=0.0):
        """The trained network."""
        keras.utils.set_random_seed(self.seed)
        model = self.make(l2, dropout)
        model.set_weights(self.weights)
        return self.compiled(model, momentum, 0.0, 1)

    def fit(self, model, epochs, *callbacks):
        model.fit(*self.train, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=callbacks)

    def error(self, model, data):
        return 100 * (1 - model.evaluate(*data, batch_size=1000, verbose=0)[1])

    def row(self, model, method, paper, begin):
        seconds = time.perf_counter() - begin
        kept = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
        row = {
            "method": method,
            "validation error": self.error(model, self.validation),
            "test error": self.error(model, self.test),
            "weights": kept,
            "ratio": self.size / kept,
            "kept": {
                target.path: float(np.mean(keras.ops.convert_to_numpy(target.variable.value) != 0))
                for target in tfcomp.targets.find(model)
            },
            "paper": paper,
            "seconds": seconds,
        }
        print(
            f"  {method:34} validation {row['validation error']:5.2f} %  test "
            f"{row['test error']:5.2f} %  weights {kept:>7,}  {row['ratio']:6.1f}x  "
            f"{seconds:4.0f} s  {paper}",
            flush=True,
        )
        return row


def without_retraining(bench):
    """Magnitude and optimal brain surgeon, each weight to the same sparsity."""
    rows = []
    for sparsity in GRID:
        model, begin = bench.start(), time.perf_counter()
        # The one update is due before the first step, of a learning rate of zero.
        schedule = tfcomp.schedules.ConstantSparsity(sparsity, begin_step=0)
        pruning = GradualPruning(schedule)
        model.fit(*(part[:1] for part in bench.train), verbose=0, callbacks=[pruning])
        rows.append(bench.row(model, f"magnitude, {sparsity:.0%}, not retrained", "", begin))
        model, begin = bench.start(), time.perf_counter()
        tfcomp.prune_obs(model, bench.train[0][:2000], sparsity, verbose=0)
        rows.append(bench.row(model, f"prune_obs, {sparsity:.0%}, not retrained", "", begin))
    return rows


def magnitude(bench, settings):
    own, begin = settings["magnitude"], time.perf_counter()
    model = bench.compiled(bench.start(own["l2"], settings["dropout"]), adam, 1e-3, own["epochs"])
    targets = {layer: {"quality": quality} for layer, quality in own["quality"].items()}
    bench.fit(model, own["epochs"], MagnitudePruning(rounds=4, targets=targets))
    return bench.row(model, "MagnitudePruning", own["paper"], begin)


def scheduled(bench, settings, method):
    """Pruning by magnitude or sensitivity on a schedule, to a given sparsity of each layer."""
    own, begin = settings["scheduled"], time.perf_counter()
    model = bench.compiled(bench.start(own["l2"]), adam, own["rate"], own["epochs"])
    steps = own["epochs"] * -(-len(bench.train[0]) // BATCH)

    def schedule(sparsity):
        return tfcomp.schedules.PolynomialDecay(0.0, sparsity, 0, steps * 6 // 10, frequency=50)

    targets = {layer: {"schedule": schedule(1 - kept)} for layer, kept in own["kept"].items()}
    bench.fit(model, own["epochs"], method(schedule(0.9), targets=targets))
    return bench.row(model, method.__name__, "", begin)


def surgery(bench, settings):
    """One phase after the other; each takes its thresholds from what the one before has left."""
    own, begin = settings["surgery"], time.perf_counter()
    model = bench.start(own["l2"])
    steps = own["epochs"] * -(-len(bench.train[0]) // BATCH)
    for rate, phase in own["phases"]:
        bench.compiled(model, momentum, rate, own["epochs"])
        targets = {**{layer: {"c": c} for layer, c in phase.items()}, ...: None}
        callback = DynamicNetworkSurgery(gamma=1e-3, end_step=steps * 7 // 10, targets=targets)
        bench.fit(model, own["epochs"], callback)
    return bench.row(model, "DynamicNetworkSurgery", own["paper"], begin)


def dense(*c):
    return {f"dense{i + 1}": value for i, value in enumerate(c)}


NETS = {
    "lenet300": {
        "make": lenet300,
        "epochs": 20,
        "dropout": 0.3,
        "magnitude": {
            "l2": 1e-4,
            "epochs": 40,
            "quality": dense(1.3, 1.2, 0.7),
            "paper": "(paper: 1.64 -> 1.59, 12x)",
        },
        "scheduled": {"l2": 1e-4, "rate": 2e-3, "epochs": 40, "kept": dense(0.013, 0.033, 0.3)},
        "surgery": {
            "l2": 1e-4,
            "epochs": 20,
            "phases": [
                (0.1, dense(3.0, 2.2, 0.8)),
                (0.1, dense(0.3, 0.2, -1.0)),
                (0.1, dense(0.3, 0.2, -1.0)),
                (0.05, dense(0.3, 0.2, -1.0)),
                (0.03, dense(0.3, 0.2, -1.0)),
            ],
            "paper": "(paper: 2.28 -> 1.99, 56x)",
        },
    },
    "lenet5": {
        "make": lenet5,
        "epochs": 12,
        "dropout": 0.5,
        "magnitude": {
            "l2": 3e-5,
            "epochs": 20,
            "quality": {"conv1": 0.4, "conv2": 1.0, **dense(1.5, 0.9)},
            "paper": "(paper: 0.80 -> 0.77, 12x)",
        },
        "scheduled": {
            "l2": 2e-4,
            "rate": 2e-3,
            "epochs": 20,
            "kept": {"conv1": 0.2, "conv2": 0.045, **dense(0.0048, 0.05)},
        },
        "surgery": {
            "l2": 2e-4,
            "epochs": 8,
            # The paper, too, prunes convolutions and dense layers in turn.
            "phases": [
                (0.02, {"conv1": 0.8, "conv2": 1.6}),
                (0.02, dense(2.5, 1.7)),
                (0.02, {"conv1": 0.0, "conv2": 0.2}),
                (0.02, dense(0.3, 0.2)),
                (0.02, {"conv1": 0.0, "conv2": 0.1}),
                (0.01, dense(0.3, 0.3)),
            ],
            "paper": "(paper: 0.91 -> 0.91, 108x)",
        },
    },
}
METHODS = ("none", "magnitude", "gradual", "sensitivity", "surgery")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, as keras.datasets has it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--json", default="lenet_pruning.json")
    arguments = parser.parse_args()
    data = load(arguments.data)
    results = {"seed": arguments.seed, "keras": keras.__version__}
    for name in arguments.nets:
        settings, begin = NETS[name], time.perf_counter()
        bench = Bench(settings, data, arguments.seed)
        print(f"{name}, {bench.size:,} parameters, seed {arguments.seed}")
        rows = [bench.row(bench.start(), "float", "", begin)]
        if "none" in arguments.methods:
            rows += without_retraining(bench)
        if "magnitude" in arguments.methods:
            rows.append(magnitude(bench, settings))
        if "gradual" in arguments.methods:
            rows.append(scheduled(bench, settings, GradualPruning))
        if "sensitivity" in arguments.methods:
            rows.append(scheduled(bench, settings, SensitivityPruning))
        if "surgery" in arguments.methods:
            rows.append(surgery(bench, settings))
        results[name] = rows
    written = pathlib.Path(arguments.json)
    with tempfile.NamedTemporaryFile("w", dir=written.parent, delete=False) as file:
        json.dump(results, file, indent=2)
    os.replace(file.name, written)


if __name__ == "__main__":
    main()
