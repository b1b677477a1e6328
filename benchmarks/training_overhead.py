"""Step time of pruning: tfcomp and tfmot, each over the same model without it, in one run.

    python benchmarks/training_overhead.py [--rounds 5] [--steps 100] [--all] [--json FILE]

Four models are trained in turn, round after round: Keras 3 plain and with
`tfcomp.callbacks.GradualPruning`, tf_keras plain and wrapped by tfmot's `prune_low_magnitude`. A
round is timed from its first batch to its last, callbacks and mask updates included. The median
over the rounds of each round's ratio is printed, so that noise of the machine falls on both sides.
Masks are updated every 100 steps, as is tfmot's default.

With `--all` the other callbacks follow, each over the same Keras model without it.
"""

import argparse
import os
import statistics
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from record import write

import tfcomp

FREQUENCY = 100


def stopwatch(library):
    """A callback that times a run from the beginning of its first batch to the end of its last."""

    class Stopwatch(library.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            self.seconds = time.perf_counter() - self.begin

    return Stopwatch()


def mlp(library):
    """5.8 million parameters."""
    return library.Sequential(
        [
            library.Input((784,)),
            library.layers.Dense(2000, activation="relu"),
            library.layers.Dense(2000, activation="relu"),
            library.layers.Dense(100, activation="relu"),
            library.layers.Dense(10),
        ]
    ), (784,)


def convnet(library):
    """A small convolutional network for 28 x 28 images."""
    return library.Sequential(
        [
            library.Input((28, 28, 1)),
            library.layers.Conv2D(32, 3, activation="relu"),
            library.layers.Conv2D(64, 3, activation="relu"),
            library.layers.MaxPooling2D(),
            library.layers.Flatten(),
            library.layers.Dense(128, activation="relu"),
            library.layers.Dense(10),
        ]
    ), (28, 28, 1)


def compiled(model, library):
    model.compile(
        library.optimizers.Adam(1e-4),
        library.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def contenders(make, last_step):
    """The four models with their callbacks."""
    ours = tfcomp.schedules.PolynomialDecay(0.0, 0.9, 0, last_step, frequency=FREQUENCY)
    theirs = tfmot.sparsity.keras.PolynomialDecay(0.0, 0.9, 0, last_step, frequency=FREQUENCY)
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(make(tf_keras)[0], pruning_schedule=theirs)
    return {
        "keras": (compiled(make(keras)[0], keras), []),
        "tfcomp": (compiled(make(keras)[0], keras), [tfcomp.callbacks.GradualPruning(ours)]),
        "tf_keras": (compiled(make(tf_keras)[0], tf_keras), []),
        "tfmot": (compiled(wrapped, tf_keras), [tfmot.sparsity.keras.UpdatePruningStep()]),
    }


def others(make, last_step):
    """Keras plain, and with each of the other callbacks."""
    schedule = tfcomp.schedules.PolynomialDecay(0.0, 0.9, 0, last_step, frequency=FREQUENCY)
    callbacks = {
        "SensitivityPruning": lambda: tfcomp.callbacks.SensitivityPruning(schedule),
        "MagnitudePruning": lambda: tfcomp.callbacks.MagnitudePruning(
            0.5, rounds=4, steps=tuple(i * last_step // 5 for i in range(1, 5))
        ),
        "DynamicNetworkSurgery": lambda: tfcomp.callbacks.DynamicNetworkSurgery(c=1.0),
        "IncrementalQuantization": lambda: tfcomp.callbacks.IncrementalQuantization(
            steps=tuple(i * last_step // 5 for i in range(1, 5))
        ),
        "QuantizedTraining": lambda: tfcomp.callbacks.QuantizedTraining("binary"),
        "WeightSharing": lambda: tfcomp.callbacks.WeightSharing(bits=5),
    }
    models = {"keras": (compiled(make(keras)[0], keras), [])}
    for name, callback in callbacks.items():
        models[name] = (compiled(make(keras)[0], keras), [callback()])
    return models


def measure(make, batch, rounds, steps, contenders=contenders):
    """Median seconds a step and median ratios."""
    shape = make(keras)[1]
    rng = np.random.default_rng(0)
    x = rng.normal(size=(steps * batch, *shape)).astype("float32")
    y = rng.integers(0, 10, size=steps * batch)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).cache().prefetch(2)
    models = contenders(make, (rounds + 2) * steps)
    times = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, (model, callbacks) in models.items():
            watch = stopwatch(keras if isinstance(model, keras.Model) else tf_keras)
            model.fit(data, verbose=0, shuffle=False, callbacks=[*callbacks, watch])
            if turn:  # the first round compiles
                times[name].append(watch.seconds / steps)

    def ratio(name, base):
        return statistics.median(a / b for a, b in zip(times[name], times[base]))

    bases = {"tfmot": "tf_keras"}
    return {
        "parameters": int(models["keras"][0].count_params()),
        "milliseconds": {name: statistics.median(t) * 1e3 for name, t in times.items()},
        "ratios": {
            f"{name} / {bases.get(name, 'keras')}": ratio(name, bases.get(name, "keras"))
            for name in models
            if name not in ("keras", "tf_keras")
        },
    }


def report(title, found):
    print(
        f"{title} ({found['parameters']:,} parameters): "
        + ", ".join(f"{name} {ms:.2f} ms" for name, ms in found["milliseconds"].items())
        + "; "
        + ", ".join(f"{name} {ratio:.3f}" for name, ratio in found["ratios"].items()),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--all", action="store_true", help="the other callbacks, too")
    parser.add_argument("--json", default="training_overhead.json")
    arguments = parser.parse_args()
    # A round is shorter than the schedule on purpose.
    warnings.filterwarnings("ignore", message="GradualPruning.*so its final value is not reached")
    results = {}
    for make, batch in ((mlp, 128), (convnet, 128), (mlp, 512)):
        title = f"{make.__name__}, batch {batch}"
        results[title] = measure(make, batch, arguments.rounds, arguments.steps)
        report(title, results[title])
    for make, batch in ((mlp, 512), (convnet, 128)) if arguments.all else ():
        title = f"{make.__name__}, batch {batch}, other callbacks"
        results[title] = measure(make, batch, arguments.rounds, arguments.steps, others)
        report(title, results[title])
    libraries = {"tf_keras": tf_keras.__version__, "tfmot": tfmot.__version__}
    write(arguments.json, results, **libraries)


if __name__ == "__main__":
    main()
