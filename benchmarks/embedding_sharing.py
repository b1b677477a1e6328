"""Step time of `WeightSharing` on an embedding of 100,000 vectors of 64, over plain Keras.

    python benchmarks/embedding_sharing.py [--rounds 5] [--steps 50]

A batch of 128 texts of 64 words reads a twelfth of the vectors. Both models are trained in turn,
round after round, by plain SGD, with momentum, and by Adam; what is printed is processor time.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
from record import write

import tfcomp

WORDS, WIDTH, BATCH, LENGTH = 100_000, 64, 128, 64
OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(1e-3),
    "SGD with momentum": lambda: keras.optimizers.SGD(1e-3, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(1e-4),
}


class Stopwatch(keras.callbacks.Callback):
    """Seconds of the processor for a step, the first of a run left out."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            self.begin = time.process_time()

    def on_train_batch_end(self, batch, logs=None):
        if batch:
            self.seconds = (time.process_time() - self.begin) / batch


def make(optimizer):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(WORDS, WIDTH),
            keras.layers.GlobalAveragePooling1D(),
            keras.layers.Dense(10),
        ]
    )
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def measure(optimizer, rounds, steps):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, WORDS, (BATCH * steps, LENGTH)), rng.integers(0, 10, BATCH * steps)
    models = {
        "plain": (make(optimizer()), []),
        "shared": (make(optimizer()), [tfcomp.callbacks.WeightSharing(bits=5)]),
    }
    times = {name: [] for name in models}
    for turn in range(rounds + 1):
        for name, (model, callbacks) in models.items():
            watch = Stopwatch()
            model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[*callbacks, watch])
            if turn:  # the first round compiles
                times[name].append(watch.seconds)
    ratios = [a / b for a, b in zip(times["shared"], times["plain"], strict=True)]
    found = {name: statistics.median(each) * 1e3 for name, each in times.items()}
    return {"milliseconds": found, "ratio": statistics.median(ratios)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--json", default="embedding_sharing.json")
    options = parser.parse_args()
    results = {}
    for name, optimizer in OPTIMIZERS.items():
        results[name] = found = measure(optimizer, options.rounds, options.steps)
        times = ", ".join(f"{key} {ms:.1f} ms" for key, ms in found["milliseconds"].items())
        print(f"{name}: {times}, ratio {found['ratio']:.2f}", flush=True)
    write(options.json, results)


if __name__ == "__main__":
    main()
