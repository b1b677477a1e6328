"""Step time of quantized layers over float ones: tfcomp beside Larq, in one run.

    python3.11 -m venv larq && larq/bin/pip install "tensorflow==2.15.*" larq "numpy<2"
    python benchmarks/layer_step_time.py --larq-python larq/bin/python [--rounds 9] [--steps 20]

Larq needs Keras 2 and numpy below 2, so its part runs in an interpreter of its own. Networks of two
hidden layers are trained by `fit`, quantized and float ones of both libraries in turn, round after
round, one at a time; each library compiles as it does by default. A round is timed from its first
batch to its last, by the clock and by the processor time of its process, which other work on the
machine disturbs less. Printed is the median over the rounds of each round's ratio of quantized to
float, so that noise falls on both.

Binary convolutions have binary inputs and clipped weights in both. Ternary dense layers have the
threshold of ternary weight networks in both, and with tfcomp its scale, too.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

from record import write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

# Input shape, batch.
SETUPS = {"binary convolution": ((16, 16, 64), 32), "ternary dense": ((1024,), 128)}


def tfcomp_layers(keras):
    import tfcomp

    return {
        "binary convolution": lambda: tfcomp.layers.BinaryConv2D(64, 3, padding="same"),
        "ternary dense": lambda: tfcomp.layers.TernaryDense(1024),
    }


def larq_layers(keras):
    import larq

    return {
        "binary convolution": lambda: larq.layers.QuantConv2D(
            64,
            3,
            padding="same",
            pad_values=1.0,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign",
            kernel_constraint="weight_clip",
        ),
        "ternary dense": lambda: larq.layers.QuantDense(
            1024, kernel_quantizer=larq.quantizers.SteTern(ternary_weight_networks=True)
        ),
    }


def float_layers(keras):
    return {
        "binary convolution": lambda: keras.layers.Conv2D(64, 3, padding="same"),
        "ternary dense": lambda: keras.layers.Dense(1024),
    }


def network(keras, layer, shape):
    model = keras.Sequential([keras.Input(shape), layer(), layer(), keras.layers.Flatten()])
    model.add(keras.layers.Dense(10))
    model.compile(
        keras.optimizers.Adam(1e-4), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    return model


def now():
    return time.perf_counter(), time.process_time()


class Timed:
    """The networks of one library, each trained for a round at a time."""

    def __init__(self, layers, steps):
        import keras
        import numpy as np
        import tensorflow as tf

        self.keras, self.steps = keras, steps
        self.versions = {"keras": keras.__version__, "tensorflow": tf.__version__}
        quantized, plain = layers(keras), float_layers(keras)
        rng = np.random.default_rng(0)
        self.models, self.data = {}, {}
        for setup, (shape, batch) in SETUPS.items():
            x = rng.normal(size=(steps * batch, *shape)).astype("float32")
            y = rng.integers(0, 10, size=steps * batch)
            data = tf.data.Dataset.from_tensor_slices((x, y)).batch(batch).cache().prefetch(2)
            self.data[setup] = data
            for kind, made in (("quantized", quantized), ("float", plain)):
                self.models[setup, kind] = network(keras, made[setup], shape)

    def round(self, setup, kind):
        """Seconds a step, by the clock and of the processors."""
        watch = self.keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda *_, **__: times.append(now()),
            on_train_batch_end=lambda *_, **__: times.append(now()),
        )
        times = []
        self.models[setup, kind].fit(self.data[setup], verbose=0, shuffle=False, callbacks=[watch])
        return [(last - first) / self.steps for first, last in zip(times[0], times[-1])]


class Elsewhere:
    """The same in another interpreter, which waits while it is not asked."""

    def __init__(self, python, steps):
        command = [python, __file__, "--serve", "--steps", str(steps)]
        # Not this interpreter's packages.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.versions = self._answer()

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("The interpreter of --larq-python gave up; see its message above.")
        return json.loads(line)

    def round(self, setup, kind):
        print(json.dumps([setup, kind]), file=self.process.stdin, flush=True)
        return self._answer()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def serve(steps):
    """Answers the rounds asked for on standard input, each by a line of JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr
    timed = Timed(larq_layers, steps)
    import larq

    print(json.dumps({**timed.versions, "larq": larq.__version__}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed.round(*json.loads(line))), file=answers, flush=True)


def measure(sides, rounds):
    """Seconds a step by setup, library and kind, a list over the rounds."""
    found = {}
    for turn in range(rounds + 1):
        for setup in SETUPS:
            for library, side in sides.items():
                for kind in ("quantized", "float"):
                    seconds = side.round(setup, kind)
                    if turn:  # the first round compiles
                        found.setdefault((setup, library, kind), []).append(seconds)
    return found


def summed(found, sides):
    """Median milliseconds and ratios, by clock and of the processors."""
    report = {}
    for setup in SETUPS:
        for library in sides:
            rounds = list(zip(found[setup, library, "quantized"], found[setup, library, "float"]))
            row = report.setdefault(setup, {})[library] = {}
            for i, clock in enumerate(("wall", "cpu")):
                ratios = [quantized[i] / plain[i] for quantized, plain in rounds]
                row[clock] = {
                    "quantized_ms": 1e3 * statistics.median(q[i] for q, _ in rounds),
                    "float_ms": 1e3 * statistics.median(p[i] for _, p in rounds),
                    "ratio": statistics.median(ratios),
                    "ratios": ratios,
                }
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--larq-python", help="interpreter of an environment with Larq")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", default="layer_step_time.json")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.steps)

    sides = {"tfcomp": Timed(tfcomp_layers, arguments.steps)}
    if arguments.larq_python:
        sides["larq"] = Elsewhere(arguments.larq_python, arguments.steps)
    report = summed(measure(sides, arguments.rounds), sides)
    for setup, libraries in report.items():
        for library, row in libraries.items():
            for clock, found in row.items():
                print(
                    f"{setup}, {library}, {clock}: {found['quantized_ms']:.2f} ms, "
                    f"float {found['float_ms']:.2f} ms, ratio {found['ratio']:.3f} "
                    f"({min(found['ratios']):.3f} to {max(found['ratios']):.3f})"
                )
    write(arguments.json, report, **{name: side.versions for name, side in sides.items()})
    if "larq" in sides:
        sides["larq"].close()


if __name__ == "__main__":
    main()
