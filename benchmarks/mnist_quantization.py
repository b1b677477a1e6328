"""Every quantization method on MNIST, beside float and the papers' figures.

    python benchmarks/mnist_quantization.py --data mnist.npz [--seeds 1 2] [--nets lenet300 lenet5]

Methods for weights alone begin at a trained LeNet-300-100 or Caffe's LeNet-5, and quantize all its
kernels. Methods for activations, too, need batch normalization: they train that LeNet-5 with it
from scratch (`lenet5_bn`), its first convolution and its last layer in float. `mlp` is the network
of BNN's paper, three layers of 4,096: all its weights are binary, and all inputs but the image.
Settings were chosen on the last 5,000 images of the training set, whose error is printed, too. The
test set is looked at once, for the table.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from lenets import NETS, Bench, Task, adam, load
from record import write

import tfcomp
from tfcomp import layers as tf_layers
from tfcomp.callbacks import BinaryRelax, IncrementalQuantization, QuantizedTraining
from tfcomp.quantizers import Binary, DoReFa, FineGrainedTernary, Ternary, TrainedTernary


def trained(task, model, *callbacks, rate=5e-4):
    task.compiled(model, adam, rate, task.epochs)
    task.fit(model, task.epochs, *callbacks)
    return model


def weights(callback):
    """A method that is a callback on the float network."""
    return lambda bench: trained(bench, bench.start(1e-5, bench.dropout), callback())


def trained_ternary(bench):
    def rule(kind):
        return lambda layer: kind(kernel_quantizer=TrainedTernary(0.15), **layer.get_config())

    rules = {
        keras.layers.Dense: rule(tf_layers.TrainedTernaryDense),
        keras.layers.Conv2D: rule(tf_layers.TrainedTernaryConv2D),
    }
    kinds = {type(layer) for layer in bench.make().layers}
    rules = {kind: to for kind, to in rules.items() if kind in kinds}
    return trained(bench, tfcomp.swap_layers(bench.start(1e-5, bench.dropout), rules))


def fine_grained(bench):
    """Converted without training: ternary weights in groups of four, 8-bit inputs."""
    model, data = bench.start(), bench.train[0][:2000]
    tfcomp.quantize(model, FineGrainedTernary(4), data=data, verbose=0)
    small = tfcomp.quantize_activations(model, bits=8, data=data, verbose=0)
    return bench.compiled(small.model, adam, 0.0, 1)


def factorized(bench):
    small = tfcomp.factorize(bench.start(1e-5, bench.dropout), rank=1.0, verbose=0)
    return trained(bench, small.model)


def normalized(conv, dense):
    """LeNet-5 with batch normalization; its middle layers are made by `conv` and `dense`."""

    def train(task):
        keras.utils.set_random_seed(task.seed)
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((28, 28, 1)),
                layers.Conv2D(20, 5),
                layers.MaxPooling2D(),
                layers.BatchNormalization(),
                conv(50, 5),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.BatchNormalization(),
                dense(500),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.Dense(10),
            ]
        )
        return trained(task, model, rate=2e-3)

    return train


def dorefa(w, a, g):
    bits = {"weight_bits": w, "activation_bits": a, "gradient_bits": g, "seed": 1}
    return normalized(
        lambda *args: tf_layers.DoReFaConv2D(*args, **bits),
        lambda *args: tf_layers.DoReFaDense(*args, **bits),
    )


def binary(**arguments):
    return normalized(
        lambda *args: tf_layers.BinaryConv2D(*args, **arguments),
        lambda *args: tf_layers.BinaryDense(*args, **arguments),
    )


def perceptron(first, others, activation=None):
    """The network of BNN's paper; a binary layer makes its inputs binary by itself."""

    def train(task):
        keras.utils.set_random_seed(task.seed)
        model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
        for i in range(3):
            model.add((others if i else first)(4096, use_bias=False))
            model.add(keras.layers.BatchNormalization(momentum=0.9))
            if activation:
                model.add(keras.layers.Activation(activation))
        model.add(others(10, use_bias=False))
        model.add(keras.layers.BatchNormalization(momentum=0.9))
        return trained(task, model, rate=2e-3)

    return train


def unsigned(*args, **arguments):
    return tf_layers.BinaryDense(*args, input_quantizer=None, **arguments)


XNOR = Binary(clip_value=None, scale=True)
WEIGHTS = {
    "float": (lambda bench: bench.start(), ""),
    "INQ, 5 bits": (weights(lambda: IncrementalQuantization(bits=5)), ""),
    "INQ, 4 bits": (weights(lambda: IncrementalQuantization(bits=4)), ""),
    "INQ, 3 bits": (weights(lambda: IncrementalQuantization(bits=3)), ""),
    "INQ, 2 bits": (weights(lambda: IncrementalQuantization(bits=2)), ""),
    "INQ, 3 bits, clip=2": (weights(lambda: IncrementalQuantization(bits=3, clip=2)), ""),
    "INQ, 2 bits, clip=1.5": (weights(lambda: IncrementalQuantization(bits=2, clip=1.5)), ""),
    "TWN": (weights(lambda: QuantizedTraining(Ternary())), "(paper, LeNet-5: 0.65)"),
    "TTQ": (trained_ternary, ""),
    "FGQ, N=4, 8-bit inputs, not trained": (fine_grained, ""),
    "BinaryRelax, ternary": (weights(lambda: BinaryRelax(Ternary())), ""),
    "BinaryRelax, binary": (weights(lambda: BinaryRelax(XNOR)), ""),
    "BWN (binary weights, scaled)": (weights(lambda: QuantizedTraining(XNOR)), ""),
    "DoReFa weights, 3 bits": (weights(lambda: QuantizedTraining(DoReFa(3))), ""),
    "FFN, rank 1.0": (factorized, ""),
}
ACTIVATIONS = {
    "float, normalized": (normalized(keras.layers.Conv2D, keras.layers.Dense), ""),
    "BNN": (binary(), "(paper, MLP of 3 x 4096: 0.96)"),
    "XNOR-Net": (binary(scale=True, input_scale=True), "(in HORQ's paper: 1.20)"),
    "HORQ, order 2": (normalized(tf_layers.HORQConv2D, tf_layers.HORQDense), "(paper: 0.99)"),
    "DoReFa 1-2-32": (dorefa(1, 2, 32), ""),
    "DoReFa 1-4-6": (dorefa(1, 4, 6), ""),
    "DoReFa 8-8-8": (dorefa(8, 8, 8), ""),
}
PERCEPTRON = {
    "float": (perceptron(keras.layers.Dense, keras.layers.Dense, "relu"), ""),
    "BNN": (perceptron(unsigned, tf_layers.BinaryDense), "(paper: 0.96)"),
}
METHODS = {
    "lenet300": WEIGHTS,
    "lenet5": WEIGHTS,
    "lenet5_bn": ACTIVATIONS,
    "mlp": PERCEPTRON,
}
EPOCHS = {"lenet300": 30, "lenet5": 5, "lenet5_bn": 6, "mlp": 12}
DROPOUT = {"lenet300": 0.1, "lenet5": 0.3}


def begun(net, data, seed, epochs):
    """What methods begin with, and how long they may train."""
    if net in NETS:
        task = Bench(NETS[net], data, seed)
        task.dropout = DROPOUT[net]
    else:
        task = Task(data, seed)
    task.epochs = epochs or EPOCHS[net]
    return task


def measured(task, train):
    begin = time.perf_counter()
    model = train(task)
    return {
        "seed": task.seed,
        "validation error": task.error(model, task.validation),
        "test error": task.error(model, task.test),
        "seconds": time.perf_counter() - begin,
    }


def line(method, runs, paper):
    tests = [run["test error"] for run in runs]
    each = " ".join(f"{error:.2f}" for error in tests)
    validation = statistics.mean(run["validation error"] for run in runs)
    print(
        f"  {method:38} validation {validation:5.2f} %  test {statistics.mean(tests):5.2f} %  "
        f"({each})  {sum(run['seconds'] for run in runs):4.0f} s  {paper}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="MNIST, as keras.datasets has it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--nets", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--methods", nargs="+", help="beginnings of the names of methods")
    parser.add_argument("--epochs", type=int, help=f"of every method; else {EPOCHS}")
    parser.add_argument("--json", default="mnist_quantization.json")
    given = parser.parse_args()
    data = load(given.data)
    results = {"seeds": given.seeds, "epochs": given.epochs}
    for net in given.nets:
        print(f"{net}, seeds {given.seeds}", flush=True)
        tasks = [begun(net, data, seed, given.epochs) for seed in given.seeds]
        rows = results[net] = {}
        for method, (train, paper) in METHODS[net].items():
            if given.methods and not method.startswith(tuple(given.methods)):
                continue
            rows[method] = []
            for task in tasks:
                rows[method].append(measured(task, train))
                keras.backend.clear_session()
            line(method, rows[method], paper)
            write(given.json, results)


if __name__ == "__main__":
    main()
