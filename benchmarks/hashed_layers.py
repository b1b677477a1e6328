"""Step and inference times of hashed and product-quantized layers beside Keras's own.

    python benchmarks/hashed_layers.py [--rounds 7] [--jit]

A dense layer of 1024 by 1024 and a convolution of 3x3x128x128 on 16x16 images, each plain, hashed
to an eighth, and (the dense one) product-quantized, with and without look-up tables, train on
batches of 128 (the convolution: 32) by plain SGD, and predict. All are timed in turn, round after
round, and the median over the rounds is printed. With TensorFlow, inference is also timed in the
exported SavedModel, for a batch and for one sample.
"""

import argparse
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from record import write

import tfcomp

STEPS = 20


def models(jit):
    """Dict from name to model, number of inputs in a batch."""
    layers, ours = keras.layers, tfcomp.layers
    made = {
        "Dense": (layers.Dense(1024), (1024,), 128),
        "HashedDense": (ours.HashedDense(1024), (1024,), 128),
        "PQ Dense": (ours.ProductQuantizedDense(1024), (1024,), 128),
        "PQ look-up": (ours.ProductQuantizedDense(1024, lookup=True), (1024,), 128),
        "Conv2D": (layers.Conv2D(128, 3), (16, 16, 128), 32),
        "HashedConv2D": (ours.HashedConv2D(128, 3), (16, 16, 128), 32),
    }
    found = {}
    for name, (layer, shape, batch) in made.items():
        model = keras.Sequential([keras.Input(shape), layer])
        model.compile(keras.optimizers.SGD(1e-3), "mse", jit_compile=jit)
        found[name] = model, batch
    return found


def served(model):
    """The model as an exported SavedModel, or `None` on other backends."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tfcomp.export(model, folder, verbose=False)
        return tf.saved_model.load(folder)


def timed(work):
    """Milliseconds for one of the `STEPS` that `work` does."""
    begin = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begin) / STEPS


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument("--json", default="hashed_layers.json")
    options = parser.parse_args()
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    work = {}
    for name, (model, batch) in models(options.jit).items():
        x = rng.normal(size=(batch * STEPS, *model.input_shape[1:])).astype("float32")
        y = np.zeros((batch * STEPS, *model.output_shape[1:]), "float32")
        arguments = {"batch_size": batch, "verbose": 0}
        work[name, "training step"] = lambda m=model, x=x, y=y, a=arguments: m.fit(x, y, **a)
        work[name, "predict"] = lambda m=model, x=x, a=arguments: m.predict(x, **a)
        loaded, one = served(model), keras.ops.convert_to_tensor(x[:batch])
        if loaded is not None:
            work[name, "exported"] = lambda m=loaded, x=one: [m.serve(x) for _ in range(STEPS)]
            single = lambda m=loaded, x=one[:1]: [m.serve(x) for _ in range(STEPS)]  # noqa: E731
            work[name, "one sample"] = single
    for call in work.values():
        call()
    times = {key: [] for key in work}
    for _ in range(options.rounds):
        for key, call in work.items():
            times[key].append(timed(call))
    medians = {}
    for (name, what), found in times.items():
        medians.setdefault(name, {})[what] = statistics.median(found)
        print(f"{name:14} {what:14} {medians[name][what]:8.2f} ms")
    write(options.json, medians)


if __name__ == "__main__":
    main()
