"""Error over speed of networks pruned in single weights, in groups of outputs, and in channels.

    KERAS_BACKEND=jax python benchmarks/group_pruning.py train --data mnist.npz --models FOLDER \\
        --json benchmarks/results/group_pruning.json
    python benchmarks/group_pruning.py time --models FOLDER \\
        --json benchmarks/results/group_pruning_speed.json

Each part writes its file row by row and leaves out what is there: it may be broken off and run
again. `train` prunes each network gradually to 90 % while it trains on MNIST,
but for layers that read the image in a few weights; the last layer, of ten outputs, is pruned in
single weights always. Groups are of neighbouring outputs (`block_size=(1, n)`) or of outputs that
want the same inputs (`vector_size=n`). Channels are cut (`tfcomp.prune_channels`) to a tenth of the
multiplications after a third of the epochs. `time` exports what seed 1 has left for latency and
times it beside the whole network in every engine that is installed, one thread each; and a layer of
random weights in the same patterns, of the size at which a layer is more than its call.
"""

import argparse
import os
import pathlib
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import lenets
import numpy as np
from record import Rows

import tfcomp

SPARSITY = 0.9
layers = keras.layers


def mlp():
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dense(512, activation="relu"),
            layers.Dense(10, name="out"),
        ]
    )


def resnet():
    """One residual block of 64 channels on 14 x 14, one of 128 on 7 x 7."""

    def convolution(x, filters, size=3, strides=1, name=None):
        settings = {"padding": "same", "use_bias": False, "name": name}
        return layers.BatchNormalization()(layers.Conv2D(filters, size, strides, **settings)(x))

    def block(x, filters, strides):
        y = layers.ReLU()(convolution(x, filters, strides=strides))
        y = convolution(y, filters)
        if x.shape[-1] != filters:
            x = convolution(x, filters, 1, strides)
        return layers.ReLU()(layers.Add()([x, y]))

    inputs = keras.Input((28, 28, 1))
    x = layers.ReLU()(convolution(inputs, 64, strides=2, name="image"))
    x = block(block(x, 64, 1), 128, 2)
    return keras.Model(inputs, layers.Dense(10, name="out")(layers.GlobalAveragePooling2D()(x)))


NETWORKS = {
    "MLP 784-512-512-10": (mlp, 20),
    "LeNet-300-100": (lenets.lenet300, 20),
    "LeNet-5": (lenets.lenet5, 5),
    "ResNet": (resnet, 4),
}
# Timed only.
LAYER = "dense 4096 x 4096"
# Layers that are pruned in single weights, and those that are not pruned.
LAST = ("out", "dense3", "dense2")
FIRST = ("image", "conv1")
SIZES = (8, 16, 32, 64)
WAYS = [
    ("whole", 0),
    ("single weights", 1),
    *(("neighbours", size) for size in SIZES),
    *(("vectors", size) for size in SIZES),
    ("channels", 0),
]


def title(way, size):
    """What a row is called in tables and files."""
    return f"{way} of {size}" if size > 1 else way


def pruning(model, way, size, steps):
    """The callback."""
    schedule = tfcomp.schedules.PolynomialDecay(
        0.0, SPARSITY, steps // 10, steps * 6 // 10, frequency=100
    )
    patterns = {
        "single weights": {},
        "neighbours": {"block_size": (1, size)},
        "vectors": {"vector_size": size},
    }
    names = [layer.name for layer in model.layers]
    targets = {name: None for name in FIRST if name in names}
    targets[model.layers[-1].name] = dict.fromkeys(patterns[way])
    return tfcomp.callbacks.GradualPruning(schedule, targets=targets, **patterns[way])


def trained(make, way, size, seed, epochs, data):
    """A network that was pruned in one way while it was trained."""
    keras.utils.set_random_seed(seed)
    model, steps = make(), lenets.steps(data, epochs)
    lenets.compiled(model, lenets.adam, 1e-3, steps)
    if way == "channels":
        begin = max(1, epochs // 3)
        fit(model, data, begin)
        model = tfcomp.prune_channels(model, macs=1 - SPARSITY, verbose=0).model
        steps, epochs = lenets.steps(data, epochs - begin), epochs - begin
        lenets.compiled(model, lenets.adam, 1e-3, steps)
    callbacks = [] if way in ("whole", "channels") else [pruning(model, way, size, steps)]
    fit(model, data, epochs, *callbacks)
    return model


def fit(model, data, epochs, *callbacks):
    model.fit(*data, batch_size=lenets.BATCH, epochs=epochs, verbose=0, callbacks=list(callbacks))


def train(arguments):
    train_set, validation, test = lenets.load(arguments.data)
    rows, folder = Rows(arguments.json), pathlib.Path(arguments.models)
    folder.mkdir(exist_ok=True, parents=True)
    for network in filter(NETWORKS.get, arguments.networks):
        make, epochs = NETWORKS[network]
        for seed in arguments.seeds:
            for way, size in WAYS:
                key = {"network": network, "way": title(way, size), "seed": seed}
                if title(way, size) not in arguments.ways or rows.has(**key):
                    continue
                begin = time.perf_counter()
                model = trained(make, way, size, seed, epochs, train_set)
                model.save(folder / f"{network} {title(way, size)} {seed}.keras")
                weights = [np.asarray(weight) for weight in model.get_weights()]
                rows.add(
                    **key,
                    epochs=epochs,
                    weights=int(sum(map(np.count_nonzero, weights))),
                    validation_error=round(lenets.error(model, validation), 3),
                    error=round(lenets.error(model, test), 3),
                    seconds=round(time.perf_counter() - begin, 1),
                )


OTHERS = {"litert": "model.tflite", "onnx": "model.onnx", "openvino": "model.xml"}


def engines(model, folder):
    """Dict from names to files of a whole network, of those engines that are installed."""
    found = {"Keras": os.path.join(folder, "keras")}
    model.export(found["Keras"], verbose=0)
    for format, name in OTHERS.items():
        path = os.path.join(folder, name)
        try:
            model.export(path, format=format, verbose=0)
            tfcomp.benchmark(
                [path], np.zeros((1, *model.input_shape[1:]), "float32"), rounds=1, verbose=0
            )
        except Exception as error:
            # Whatever a converter or a runtime cannot do is said, and left out.
            print(f"  {format}: {type(error).__name__}: {str(error)[:120]}")
            continue
        found[format] = path
    return found


def layer(way, size):
    """A dense layer of random weights, 4096 x 4096, pruned in one way; not trained."""
    model = keras.Sequential([keras.Input((4096,)), layers.Dense(4096)])
    rng = np.random.default_rng(0)
    value = rng.standard_normal((4096, 4096)).astype("float32") / 64
    order = rng.permutation(4096) if way == "vectors" else np.arange(4096)
    for begin in range(0, 4096 if size else 0, size or 1):
        gone = rng.permutation(4096)[int(4096 * (1 - SPARSITY)) :]
        value[np.ix_(gone, order[begin : begin + size])] = 0
    model.layers[0].kernel.assign(value)
    return model


def pruned(network, way, size, folder):
    """What `train` has left for seed 1, or `None` if it has not been there."""
    if network == LAYER:
        return None if way in ("channels", "neighbours") else layer(way, size)
    file = folder / f"{network} {title(way, size)} 1.keras"
    return keras.models.load_model(file) if file.exists() else None


def measure(arguments):
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rows, folder = Rows(arguments.json), pathlib.Path(arguments.models)
    for network in arguments.networks:
        for batch in arguments.batch:
            with tempfile.TemporaryDirectory() as temporary:
                sides, kernels = {}, {}
                for way, size in WAYS[1:]:
                    name = title(way, size)
                    done = rows.has(network=network, way=name, batch=batch)
                    if name not in arguments.ways or done:
                        continue
                    model = pruned(network, way, size, folder)
                    if model is None:
                        continue
                    sides[name] = os.path.join(temporary, name.replace(" ", "_"))
                    result = tfcomp.export(
                        model, sides[name], optimize="latency", batch_sizes=(batch,), verbose=0
                    )
                    kernels[name] = [row.kernel for row in result.kernels["serve"]][:-1]
                if sides:
                    whole = pruned(network, "whole", 0, folder)
                    sides = {**engines(whole, temporary), **sides}
                    shape = (batch, *whole.input_shape[1:])
                    compare(rows, network, shape, sides, kernels, arguments.rounds)


def compare(rows, network, shape, sides, kernels, rounds):
    """Times all sides in turns, and writes a row for each that is pruned."""
    x = np.random.default_rng(1).random(shape, "float32")
    found = tfcomp.benchmark(sides, x, rounds=rounds, threads=1, verbose=0)
    fastest = min(
        (row for row in found.rows if row.path not in kernels), key=lambda row: row.milliseconds
    )
    for name, used in kernels.items():
        rows.add(
            network=network,
            way=name,
            batch=shape[0],
            kernels=used,
            milliseconds=found[name].milliseconds,
            fastest=fastest.path,
            fastest_milliseconds=fastest.milliseconds,
            keras_milliseconds=found["Keras"].milliseconds,
        )


def report(path):
    rows = Rows(path).rows
    for network in NETWORKS:
        for way, size in WAYS:
            key = {"network": network, "way": title(way, size)}
            found = [row for row in rows if key.items() <= row.items()]
            if found:
                means = [
                    statistics.mean(row[name] for row in found)
                    for name in ("validation_error", "error")
                ]
                print(
                    f"{network:20} {key['way']:18} {len(found)} seeds: validation "
                    f"{means[0]:.2f} %, test {means[1]:.2f} %"
                )


def main():
    ways = [title(*way) for way in WAYS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("train", "time"))
    parser.add_argument("--data", help="MNIST, as keras.datasets has it")
    parser.add_argument("--models", help="folder of the trained networks")
    parser.add_argument(
        "--networks", nargs="+", default=[*NETWORKS, LAYER], choices=[*NETWORKS, LAYER]
    )
    parser.add_argument("--ways", nargs="+", default=ways, choices=ways)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", required=True, help="of a part of its own")
    arguments = parser.parse_args()
    if arguments.part == "train":
        train(arguments)
        report(arguments.json)
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
