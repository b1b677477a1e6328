"""LeNet-300-100 and Caffe's LeNet-5 on MNIST, trained and pruned: what benchmarks begin with.

Settings were chosen on the last 5,000 images of the training set.
"""

import argparse
import pathlib

import keras
import numpy as np

import tfcomp

BATCH = 128
HELD_OUT = 5000


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


def decayed(decay):
    """The same with a decay of kernels, in training also of those values that are hidden."""

    def make(rate):
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=decay)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    return make


def steps(train, epochs, batch=BATCH):
    """Optimizer steps of so many epochs."""
    return epochs * -(-len(train[0]) // batch)


def compiled(model, optimizer, rate, number):
    """Compiles for classification; the learning rate falls to a hundredth over `number` steps."""
    decay = keras.optimizers.schedules.CosineDecay(rate, number, alpha=0.01)
    model.compile(
        optimizer(decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def error(model, data):
    """In per cent."""
    return 100 * (1 - model.evaluate(*data, batch_size=1000, verbose=0)[1])


class Task:
    """MNIST for one seed."""

    def __init__(self, data, seed):
        self.train, self.validation, self.test = data
        self.seed = seed

    def compiled(self, model, optimizer, rate, epochs, batch=BATCH):
        return compiled(model, optimizer, rate, self.steps(epochs, batch))

    def fit(self, model, epochs, *callbacks, batch=BATCH):
        model.fit(*self.train, batch_size=batch, epochs=epochs, verbose=0, callbacks=callbacks)

    def steps(self, epochs, batch=BATCH):
        return steps(self.train, epochs, batch)

    error = staticmethod(error)


class Bench(Task):
    """A trained network that every method starts from."""

    def __init__(self, settings, data, seed):
        super().__init__(data, seed)
        self.make, epochs = settings["make"], settings["epochs"]
        keras.utils.set_random_seed(seed)
        model = self.make(1e-5, settings["dropout"])
        self.compiled(model, adam, 1e-3, epochs)
        self.fit(model, epochs)
        self.weights = model.get_weights()
        self.size = model.count_params()

    def start(self, l2=0.0, dropout=0.0):
        """The trained network."""
        keras.utils.set_random_seed(self.seed)
        model = self.make(l2, dropout)
        model.set_weights(self.weights)
        return self.compiled(model, momentum, 0.0, 1)


def scheduled(bench, own, method):
    """Pruning by magnitude or sensitivity on a schedule, to a given sparsity of each layer."""
    model = bench.start(own["l2"], own.get("dropout", 0.0))
    bench.compiled(model, adam, own["rate"], own["epochs"])
    end = bench.steps(own["epochs"]) * 6 // 10

    def schedule(sparsity):
        return tfcomp.schedules.PolynomialDecay(0.0, sparsity, 0, end, frequency=50)

    targets = {layer: {"schedule": schedule(1 - kept)} for layer, kept in own["kept"].items()}
    bench.fit(model, own["epochs"], method(schedule(0.9), targets=targets))
    return model


def surgery(bench, own):
    """One phase after the other; each takes its thresholds from what the one before has left."""
    model = bench.start(own.get("l2", 0.0))
    for rate, epochs, phase in own["phases"]:
        bench.compiled(model, decayed(own["decay"]) if "decay" in own else momentum, rate, epochs)
        targets = {**{layer: {"c": c} for layer, c in phase.items()}, ...: None}
        callback = tfcomp.callbacks.DynamicNetworkSurgery(
            gamma=1e-3, end_step=bench.steps(epochs) * 7 // 10, targets=targets
        )
        bench.fit(model, epochs, callback)
    return model


def dense(*c):
    return {f"dense{i + 1}": value for i, value in enumerate(c)}


NETS = {
    "lenet300": {
        "make": lenet300,
        "epochs": 20,
        "dropout": 0.3,
        "careful": {
            "l2": 3e-5,
            "rate": 2e-3,
            "epochs": 40,
            "dropout": 0.1,
            "kept": dense(0.05, 0.12, 0.6),
        },
        "magnitude": {
            "l2": 1e-4,
            "epochs": 40,
            "quality": dense(1.2, 1.1, 0.65),
            "paper": "(paper: 1.64 -> 1.59, 12x)",
        },
        "scheduled": {"l2": 1e-4, "rate": 2e-3, "epochs": 40, "kept": dense(0.013, 0.033, 0.3)},
        "surgery": {
            "l2": 1e-4,
            "phases": [
                (0.1, 20, dense(3.0, 2.2, 0.8)),
                (0.1, 20, dense(0.3, 0.2, -1.0)),
                (0.1, 20, dense(0.3, 0.2, -1.0)),
                (0.05, 20, dense(0.3, 0.2, -1.0)),
                (0.03, 20, dense(0.3, 0.2, -1.0)),
            ],
            "paper": "(paper: 2.28 -> 1.99, 56x)",
        },
    },
    "lenet5": {
        "make": lenet5,
        "epochs": 12,
        "dropout": 0.5,
        "careful": {
            "l2": 5e-5,
            "rate": 2e-3,
            "epochs": 20,
            "dropout": 0.3,
            "kept": {"conv1": 0.5, "conv2": 0.12, **dense(0.04, 0.15)},
        },
        "magnitude": {
            "l2": 3e-5,
            "epochs": 20,
            "quality": {"conv1": 0.4, "conv2": 1.0, **dense(1.55, 0.9)},
            "paper": "(paper: 0.80 -> 0.77, 12x)",
        },
        "scheduled": {
            "l2": 2e-4,
            "rate": 2e-3,
            "epochs": 20,
            "kept": {"conv1": 0.2, "conv2": 0.045, **dense(0.0048, 0.05)},
        },
        "surgery": {
            # 5e-4 in the paper: Keras takes a decay off the weight, not through the momentum.
            "decay": 4e-3,
            # The paper, too, prunes convolutions and dense layers in turn.
            "phases": [
                (0.03, 4, {"conv1": 0.8, "conv2": 1.6}),
                (0.03, 4, dense(2.5, 1.7)),
                (0.03, 4, {"conv1": 0.0, "conv2": 0.2}),
                (0.03, 4, dense(0.3, 0.2)),
                (0.03, 4, {"conv1": 0.0, "conv2": 0.1}),
                (0.03, 14, dense(0.3, 0.3)),
                (0.01, 4, dense(-0.75)),
            ],
            "paper": "(paper: 0.91 -> 0.91, 108x)",
        },
    },
}


def arguments(script, description, methods):
    """What the command line of a script says: data, seed, nets, methods, json."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, as keras.datasets has it")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS)
    parser.add_argument("--methods", nargs="+", default=list(methods), choices=methods)
    parser.add_argument("--json", default=f"{pathlib.Path(script).stem}.json")
    return parser.parse_args()
