"""Exports for latency beside the fastest engine there is for the same network in floats.

    python benchmarks/inference.py [--only NAME ...] [--batch 1 8] [--threads 1] [--json FILE]

Every network is exported by `tfcomp.export(optimize="latency")`, and its float weights to a
SavedModel, LiteRT, ONNX and OpenVINO where their runtimes are installed; Keras's own export stands
beside them. All sides take turns in one run of `tfcomp.benchmark`; the ratio is the time of the
fastest side but ours by our time.
"""

import argparse
import os
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from record import write

import tfcomp

K, T = keras.layers, tfcomp.layers


def settled(model):
    """Statistics at which signs of both kinds appear."""
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, K.BatchNormalization):
            size = layer.gamma.shape
            deviation = rng.uniform(100, 400, size)
            layer.set_weights(
                [rng.normal(size=size), rng.normal(size=size), rng.normal(size=size), deviation]
            )
    return model


def binary_vgg():
    """BinaryNet's network for images of 32 x 32, with 128 to 512 channels."""
    layers = [keras.Input((32, 32, 3)), K.Conv2D(128, 3, padding="same"), K.BatchNormalization()]
    for channels, pooled in ((128, 1), (256, 0), (256, 1), (512, 0), (512, 1)):
        layers.append(T.BinaryConv2D(channels, 3, padding="same"))
        layers += [K.MaxPooling2D()] * pooled + [K.BatchNormalization()]
    layers += [K.Flatten(), T.BinaryDense(1024), K.BatchNormalization(), T.BinaryDense(10)]
    return settled(keras.Sequential(layers))


def two_binary_convolutions():
    """Two layers of 64 filters of 3 x 3 on 56 x 56."""
    layers = [T.BinaryConv2D(64, 3, padding="same"), K.BatchNormalization()]
    layers.append(T.BinaryConv2D(64, 3, padding="same"))
    return settled(keras.Sequential([keras.Input((56, 56, 64)), *layers]))


def binary_dense():
    """4096 x 4096."""
    return keras.Sequential([keras.Input((4096,)), T.BinaryDense(4096)])


def pruned_dense(size, share):
    """4096 x 4096 of which `size` neighbouring outputs keep the same inputs."""
    model = keras.Sequential([keras.Input((4096,)), K.Dense(4096)])
    rng = np.random.default_rng(0)
    value = rng.standard_normal((4096, 4096)).astype("float32") / 64
    for begin in range(0, 4096, size):
        value[rng.permutation(4096)[int(4096 * share) :], begin : begin + size] = 0
    model.layers[0].kernel.assign(value)
    return model


def low_bit_dense(levels):
    """4096 x 4096 with values on a grid."""
    model = keras.Sequential([keras.Input((4096,)), K.Dense(4096)])
    codes = np.random.default_rng(0).integers(0, levels, (4096, 4096)) - levels // 2
    model.layers[0].kernel.assign(codes.astype("float32") * np.float32(0.01))
    return model


NETWORKS = {
    "binary VGG": binary_vgg,
    "two binary convolutions": two_binary_convolutions,
    "binary dense": binary_dense,
    "groups of 64 at 90 %": lambda: pruned_dense(64, 0.1),
    "groups of 16 at 90 %": lambda: pruned_dense(16, 0.1),
    "single weights at 90 %": lambda: pruned_dense(1, 0.1),
    "single weights at 95 %": lambda: pruned_dense(1, 0.05),
    "single weights at 99 %": lambda: pruned_dense(1, 0.01),
    "ternary dense": lambda: low_bit_dense(3),
    "4-bit dense": lambda: low_bit_dense(15),
}
OTHERS = {"litert": "model.tflite", "onnx": "model.onnx", "openvino": "model.xml"}


def sides(model, batches, folder):
    """Dict from names to what is timed, ours first, and the rows of what was chosen."""
    ours = os.path.join(folder, "tfcomp")
    result = tfcomp.export(model, ours, optimize="latency", batch_sizes=batches, verbose=0)
    found = {"tfcomp": ours, "Keras": os.path.join(folder, "keras")}
    model.export(found["Keras"], verbose=0)
    # Floats in all engines: Keras's export computes signs of weights at every call.
    found["TensorFlow"] = os.path.join(folder, "tensorflow")
    tfcomp.export(model, found["TensorFlow"], verbose=0)
    for format, name in OTHERS.items():
        path = os.path.join(folder, name)
        try:
            tfcomp.export(model, path, format=format, verbose=0)
        except (ImportError, ValueError) as error:
            # Whatever a converter or a runtime cannot do is said, and left out.
            print(f"  {format}: {type(error).__name__}: {str(error)[:200]}")
            continue
        found[format] = path
    return found, result.kernels["serve"]


def on_cores(count):
    """Starts anew on as many cores as threads: threads that are there already stay where they are.

    What one thread hands to one on another core would show in every call otherwise.
    """
    cores = sorted(os.sched_getaffinity(0))
    if count < len(cores):
        os.sched_setaffinity(0, cores[-count:])
        os.execv(sys.executable, [sys.executable, *sys.argv])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    on_cores(arguments.threads)
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    results = []
    for name in arguments.only:
        keras.utils.set_random_seed(0)
        model = NETWORKS[name]()
        with tempfile.TemporaryDirectory() as folder:
            timed, kernels = sides(model, tuple(arguments.batch), folder)
            for batch in arguments.batch:
                shape = (batch, *model.input_shape[1:])
                x = np.random.default_rng(batch).standard_normal(shape).astype("float32")
                found = tfcomp.benchmark(
                    timed, x, rounds=arguments.rounds, threads=arguments.threads, verbose=0
                )
                fastest = min(found.rows[1:], key=lambda row: row.milliseconds)
                ratio = fastest.milliseconds / found["tfcomp"].milliseconds
                used = [row.kernel for row in kernels if row.batch == batch][:-1]
                print(f"{name}, batch {batch}: {ratio:.2f} times {fastest.path}; {used}")
                print(found, flush=True)
                results.append(
                    {
                        "network": name,
                        "batch": batch,
                        "kernels": used,
                        "fastest other": fastest.path,
                        "ratio": ratio,
                        "to Keras": found["Keras"].milliseconds / found["tfcomp"].milliseconds,
                        **found.to_dict(),
                    }
                )
    write(arguments.json, results)


if __name__ == "__main__":
    main()
