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
    PreserveSparsity,
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


def lenet300():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(300, activation="relu", name="dense1"),
            keras.layers.Dense(100, activation="relu", name="dense2"),
            keras.layers.Dense(10, name="dense3"),
        ]
    )


def lenet5():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(20, 5, name="conv1"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(50, 5, name="conv2"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(500, activation="relu", name="dense1"),
            keras.layers.Dense(10, name="dense2"),
        ]
    )


class Bench:
    """A trained network that every method starts from."""

    def __init__(self, make, data, seed, epochs):
        self.make, self.seed = make, seed
        self.train, self.validation, self.test = data
        keras.utils.set_random_seed(seed)
        model = self.compiled(make(), 1e-3, epochs)
        self.fit(model, epochs)
        self.weights = model.get_weights()
        self.size = model.count_params()

    def compiled(self, model, rate, epochs):
        steps = epochs * -(-len(self.train[0]) // BATCH)
        model.compile(
            keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps, alpha=0.01)),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model

    def start(self, rate, epochs):
        """The trained network, or a new one where `rate` is `None`."""
        keras.utils.set_random_seed(self.seed)
        model = self.compiled(self.make(), rate, epochs)
        model.set_weights(self.weights)
        return model

    def fit(self, model, epochs, *callbacks):
        model.fit(*self.train, batch_size=BATCH, epochs=epochs, verbose=0, callbacks=callbacks)

    def error(self, model, data):
        return 100 * (1 - model.evaluate(*data, batch_size=1000, verbose=0)[1])

    def row(self, model, method, paper, seconds):
        kept = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
        row = {
            "method": method,
            "validation error": self.error(model, self.validation),
            "test error": self.error(model, self.test),
            "weights": kept,
            "ratio": self.size / kept,
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


def exact(sparsity):
    return tfcomp.schedules.ConstantSparsity(sparsity, begin_step=0)


def without_retraining(bench):
    """Magnitude and optimal brain surgeon, each weight to the same sparsity."""
    rows = []
    for sparsity in GRID:
        model, begin = bench.start(1e-4, 1), time.perf_counter()
        gradual = GradualPruning(exact(sparsity))
        # One update is due before the first step, of a learning rate of zero.
        model.compile(keras.optimizers.SGD(0.0), model.loss, metrics=["accuracy"])
        model.fit(*(part[:1] for part in bench.train), verbose=0, callbacks=[gradual])
        name = f"magnitude, {sparsity:.0%}, not retrained"
        rows.append(bench.row(model, name, "", time.perf_counter() - begin))
        model, begin = bench.start(1e-4, 1), time.perf_counter()
        tfcomp.prune_obs(model, bench.train[0][:2000], sparsity, verbose=0)
        name = f"prune_obs, {sparsity:.0%}, not retrained"
        rows.append(bench.row(model, name, "", time.perf_counter() - begin))
    return rows


def gradual(bench, targets, epochs, rate, steps_per_epoch):
    model = bench.start(rate, epochs)
    end = int(epochs * steps_per_epoch * 0.6)

    def schedule(sparsity):
        return tfcomp.schedules.PolynomialDecay(0.0, sparsity, 0, end, frequency=50)

    return model, {name: {"schedule": schedule(s)} for name, s in targets.items()}, schedule


def run(bench, name, methods, settings):
    steps = -(-len(bench.train[0]) // BATCH)
    paper = settings["paper"]
    rows = []
    if "none" in methods:
        rows += without_retraining(bench)
    if "magnitude" in methods:
        begin, (epochs, rate) = time.perf_counter(), settings["magnitude_run"]
        model = bench.start(rate, epochs)
        scan = {layer: {"quality": q} for layer, q in settings["magnitude"].items()}
        bench.fit(model, epochs, MagnitudePruning(rounds=4, targets=scan))
        rows.append(
            bench.row(model, "MagnitudePruning", paper["magnitude"], time.perf_counter() - begin)
        )
    for kind, method in (("gradual", GradualPruning), ("sensitivity", SensitivityPruning)):
        if kind in methods:
            begin, (epochs, rate) = time.perf_counter(), settings["gradual_run"]
            model, targets, schedule = gradual(bench, settings["sparsity"], epochs, rate, steps)
            bench.fit(model, epochs, method(schedule(0.9), targets=targets))
            rows.append(bench.row(model, method.__name__, "", time.perf_counter() - begin))
    if "surgery" in methods:
        begin = time.perf_counter()
        epochs, rate = settings["surgery_run"]
        model = bench.start(rate, epochs)
        for phase in settings["surgery"]:
            # The paper prunes convolutions and dense layers in turn.
            targets = {**{layer: {"c": c} for layer, c in phase.items()}, ...: None}
            bench.compiled(model, rate, epochs)
            surgery = DynamicNetworkSurgery(
                gamma=1e-3, end_step=int(epochs * steps * 0.7), targets=targets
            )
            bench.fit(model, epochs, surgery)
        if settings["surgery_tune"]:
            epochs, rate = settings["surgery_tune"]
            tfcomp.release(model)
            bench.compiled(model, rate, epochs)
            bench.fit(model, epochs, PreserveSparsity())
        rows.append(
            bench.row(model, "DynamicNetworkSurgery", paper["surgery"], time.perf_counter() - begin)
        )
        for target in tfcomp.targets.find(model):
            kept = np.mean(keras.ops.convert_to_numpy(target.variable.value) != 0)
            print(f"      {target.path}: {kept:.2%} kept")
    return rows


NETS = {
    "lenet300": {
        "make": lenet300,
        "epochs": 20,
        "magnitude": {"dense1": 1.6, "dense2": 1.4, "dense3": 0.8},
        "magnitude_run": (40, 1e-3),
        "sparsity": {"dense1": 0.987, "dense2": 0.96, "dense3": 0.7},
        "gradual_run": (40, 2e-3),
        "surgery": [{"dense1": 3.0, "dense2": 2.2, "dense3": 0.8}],
        "surgery_run": (40, 2e-3),
        "surgery_tune": (20, 1e-3),
        "paper": {
            "magnitude": "(paper: 1.64 -> 1.59, 12x)",
            "surgery": "(paper: 2.28 -> 1.99, 56x)",
        },
    },
    "lenet5": {
        "make": lenet5,
        "epochs": 12,
        "magnitude": {"conv1": 0.5, "conv2": 1.4, "dense1": 1.8, "dense2": 1.2},
        "magnitude_run": (16, 1e-3),
        "sparsity": {"conv1": 0.8, "conv2": 0.965, "dense1": 0.9945, "dense2": 0.93},
        "gradual_run": (16, 2e-3),
        "surgery": [{"conv1": 1.0, "conv2": 2.5}, {"dense1": 4.0, "dense2": 2.0}],
        "surgery_run": (10, 2e-3),
        "surgery_tune": (8, 1e-3),
        "paper": {
            "magnitude": "(paper: 0.80 -> 0.77, 12x)",
            "surgery": "(paper: 0.91 -> 0.91, 108x)",
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
        bench = Bench(settings["make"], data, arguments.seed, settings["epochs"])
        print(f"{name}, {bench.size:,} parameters, seed {arguments.seed}")
        model = bench.start(1e-3, 1)
        rows = [bench.row(model, "float", "", time.perf_counter() - begin)]
        results[name] = rows + run(bench, name, arguments.methods, settings)
    written = pathlib.Path(arguments.json)
    with tempfile.NamedTemporaryFile("w", dir=written.parent, delete=False) as file:
        json.dump(results, file, indent=2)
    os.replace(file.name, written)


if __name__ == "__main__":
    main()
