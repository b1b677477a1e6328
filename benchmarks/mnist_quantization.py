"""Every quantization method on MNIST, beside float and the papers' figures.

    python benchmarks/mnist_quantization.py --data mnist.npz [--seeds 1 2] [--nets lenet300 lenet5]

Methods for weights alone begin at a trained LeNet-300-100 or Caffe's LeNet-5, and quantize all its
kernels. Methods for activations, too, need batch normalization: they train that LeNet-5 with it
from scratch (`lenet5_bn`), its first convolution and its last layer in float. Settings
were chosen on the last 5,000 images of the training set, whose error is printed, too. The test set
is looked at once, for the table.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from lenets import NETS, Bench, adam, load, write

import tfcomp
from tfcomp import layers as tf_layers
from tfcomp.callbacks import BinaryRelax, IncrementalQuantization, QuantizedTraining
from tfcomp.quantizers import Binary, DoReFa, FineGrainedTernary, Ternary, TrainedTernary


def tuned(bench, model, *callbacks, rate=5e-4, epochs=None):
    """Trains a model that begins at the float network."""
    epochs = epochs or bench.epochs
    bench.compiled(model, adam, rate, epochs)
    bench.fit(model, epochs, *callbacks)
    return model


def weights(callback, **arguments):
    """A method that is a callback on the float network."""
    return lambda bench: tuned(bench, bench.start(1e-5, bench.dropout), callback(), **arguments)


def trained_ternary(bench):
    def rule(kind):
        return lambda layer: kind(kernel_quantizer=TrainedTernary(0.15), **layer.get_config())

    rules = {
        keras.layers.Dense: rule(tf_layers.TrainedTernaryDense),
        keras.layers.Conv2D: rule(tf_layers.TrainedTernaryConv2D),
    }
    rules = {kind: to for kind, to in rules.items() if any(type(x) is kind for x in bench.kinds())}
    return tuned(bench, tfcomp.swap_layers(bench.start(1e-5, bench.dropout), rules))


def fine_grained(bench):
    """Converted without training: ternary weights in groups of four, 8-bit inputs."""
    model, data = bench.start(), bench.train[0][:2000]
    tfcomp.quantize(model, FineGrainedTernary(4), data=data, verbose=0)
    small = tfcomp.quantize_activations(model, data, bits=8, verbose=0)
    return bench.compiled(small, adam, 0.0, 1)


def factorized(bench):
    return tuned(bench, tfcomp.factorize(bench.start(1e-5, bench.dropout), rank=1.0, verbose=0))


def normalized(conv, dense):
    """LeNet-5 with batch normalization; its middle layers are made by `conv` and `dense`."""

    def train(bench):
        keras.utils.set_random_seed(bench.seed)
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
        return tuned(bench, model, rate=2e-3, epochs=bench.scratch)

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


XNOR = Binary(clip_value=None, scale=True)
WEIGHTS = {
    "INQ, 5 bits": (weights(lambda: IncrementalQuantization(bits=5)), ""),
    "INQ, 4 bits": (weights(lambda: IncrementalQuantization(bits=4)), ""),
    "INQ, 3 bits": (weights(lambda: IncrementalQuantization(bits=3)), ""),
    "INQ, 2 bits": (weights(lambda: IncrementalQuantization(bits=2)), ""),
    "INQ, 3 bits, clip=2": (weights(lambda: IncrementalQuantization(bits=3, clip=2)), ""),
    "INQ, 2 bits, clip=1.5": (weights(lambda: IncrementalQuantization(bits=2, clip=1.5)), ""),
    "TWN": (weights(lambda: QuantizedTraining(Ternary())), "(paper, LeNet-5: 0.65)"),
    "TTQ": (trained_ternary, ""),
    "FGQ, N=4, 8-bit inputs, not trained": (fine_grained, ""),
    "BinaryRelax, ternary": (weights(lambda: BinaryRelax(Ternary(), growth=1.2)), ""),
    "BinaryRelax, binary": (weights(lambda: BinaryRelax(XNOR, growth=1.2)), ""),
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
METHODS = {"lenet300": WEIGHTS, "lenet5": WEIGHTS, "lenet5_bn": ACTIVATIONS}
EPOCHS = {"lenet300": 30, "lenet5": 5}
DROPOUT = {"lenet300": 0.1, "lenet5": 0.3}


class Start(Bench):
    """The float network, and how long methods may train."""

    def __init__(self, name, data, seed):
        settings = NETS[name]
        super().__init__(settings, data, seed)
        self.dropout, self.epochs, self.scratch = DROPOUT[name], EPOCHS[name], 6

    def kinds(self):
        return self.make().layers


def measured(bench, model, begin):
    return {
        "seed": bench.seed,
        "validation error": bench.error(model, bench.validation),
        "test error": bench.error(model, bench.test),
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
    parser.add_argument("--json", default="mnist_quantization.json")
    given = parser.parse_args()
    data = load(given.data)
    results, starts = {"seeds": given.seeds, "keras": keras.__version__}, {}
    for net in given.nets:
        base = net.removesuffix("_bn")
        for seed in given.seeds:
            if (base, seed) not in starts:
                begin = time.perf_counter()
                bench = starts[base, seed] = Start(base, data, seed)
                bench.float = measured(bench, bench.start(), begin)
        benches = [starts[base, seed] for seed in given.seeds]
        print(f"{net}, seeds {given.seeds}")
        rows = results[net] = {}
        if net == base:
            rows["float"] = [bench.float for bench in benches]
            line("float", rows["float"], "")
        for method, (train, paper) in METHODS[net].items():
            if given.methods and not method.startswith(tuple(given.methods)):
                continue
            rows[method] = []
            for bench in benches:
                begin = time.perf_counter()
                rows[method].append(measured(bench, train(bench), begin))
                keras.backend.clear_session()
            line(method, rows[method], paper)
            write(given.json, results)


if __name__ == "__main__":
    main()
