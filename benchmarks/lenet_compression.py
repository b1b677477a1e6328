"""What is shipped of LeNet-300-100 and Caffe's LeNet-5: bytes against float32 weights.

    python benchmarks/lenet_compression.py --data mnist.npz [--seed 1] [--nets lenet300 lenet5]

Settings were chosen on the last 5,000 images of the training set, whose error is printed, too. The
test set is looked at once, for the table. `file` is the whole model in the file of `tfcomp.save`,
config, biases and all; `folder` is the SavedModel of `tfcomp.export` (on the TensorFlow backend).
"""

import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from lenets import NETS, Bench, adam, arguments, dense, load, scheduled
from record import write

import tfcomp
from tfcomp.callbacks import GradualPruning, SoftWeightSharing, WeightSharing

SHARING = {
    "lenet300": {"bits": dense(4, 4, 4), "rate": 5e-4, "epochs": 10},
    "lenet5": {"bits": {"conv1": 5, "conv2": 5, **dense(4, 4)}, "rate": 5e-4, "epochs": 6},
}
# The first mixture spreads to the zeros, the second draws the others closely to their means.
FIRST = {"zero_precision_prior": (3e5, 2.0), "precision_prior": (250.0, 0.01)}
SECOND = {"zero_precision_prior": (3e5, 2.0), "precision_prior": (5000.0, 0.1)}
SOFT = {
    "lenet300": {
        "mixtures": [
            (20, {"tau": 0.02, "variance_rate": 2.5e-3, **FIRST}),
            (8, {"tau": 0.01, "variance_rate": 1e-2, **SECOND}),
        ],
        "tuned": 15,
    },
    "lenet5": {
        "mixtures": [
            (16, {"tau": 0.03, "variance_rate": 2.5e-3, **FIRST}),
            (6, {"tau": 0.01, "variance_rate": 1e-2, **SECOND}),
        ],
        "tuned": 6,
    },
}
SOFT_BATCH, SOFT_RATE = 256, 5e-4
PAPERS = {
    "lenet300": {"careful": "(paper: 1.58 %, 40x)", "soft": "(paper: 1.94 %, 64x)"},
    "lenet5": {"careful": "(paper: 0.74 %, 39x)", "soft": "(paper: 0.97 %, 162x)"},
}


def shared(bench, net, pruning="scheduled"):
    """Deep compression: pruned by magnitude on a schedule, then shared."""
    own = SHARING[net]
    model = scheduled(bench, NETS[net][pruning], GradualPruning)
    bench.compiled(model, adam, own["rate"], own["epochs"])
    targets = {layer: {"bits": bits} for layer, bits in own["bits"].items()}
    bench.fit(model, own["epochs"], WeightSharing(bits=5, targets=targets))
    return model


class Before(keras.callbacks.Callback):
    """The weights as they are before they take the values of a mixture."""

    def on_epoch_end(self, epoch, logs=None):
        self.weights = self.model.get_weights()


def soft(bench, net):
    """One mixture after the other trained along with the weights; then the shared values."""
    own, before, model = SOFT[net], Before(), bench.start()
    for number, (epochs, given) in enumerate(own["mixtures"]):
        if number:
            model = bench.start()
            model.set_weights(before.weights)
        bench.compiled(model, adam, SOFT_RATE, epochs, SOFT_BATCH)
        samples = len(bench.train[0])
        sharing = SoftWeightSharing(samples=samples, zero_proportion=0.999, **given)
        bench.fit(model, epochs, sharing, before, batch=SOFT_BATCH)
    bench.compiled(model, adam, SOFT_RATE, own["tuned"], SOFT_BATCH)
    bench.fit(model, own["tuned"], batch=SOFT_BATCH)
    return model


def careful(bench, net):
    """The same with more weights: as small as can be had without loss."""
    return shared(bench, net, "careful")


METHODS = {"careful": careful, "shared": shared, "soft": soft}


def shipped_bytes(model):
    """Sizes of the file and of the folder."""
    with tempfile.TemporaryDirectory() as work:
        file, folder = pathlib.Path(work) / "model.tfc", pathlib.Path(work) / "folder"
        tfcomp.save(model, file)
        sizes = {"file bytes": file.stat().st_size}
        if keras.backend.backend() == "tensorflow":
            tfcomp.export(model, folder, verbose=False)
            files = [path for path in folder.rglob("*") if path.is_file()]
            sizes["folder bytes"] = sum(path.stat().st_size for path in files)
    return sizes


def row(bench, model, method, paper, begin):
    plain = 4 * bench.size
    found = {
        "method": method,
        "validation error": bench.error(model, bench.validation),
        "test error": bench.error(model, bench.test),
        "weights": sum(int(np.count_nonzero(weight)) for weight in model.get_weights()),
        "float bytes": plain,
        **shipped_bytes(model),
        "paper": paper,
        "seconds": time.perf_counter() - begin,
    }
    sizes = "  ".join(
        f"{name.split()[0]} {found[name]:>9,} {plain / found[name]:6.1f}x"
        for name in ("file bytes", "folder bytes")
        if name in found
    )
    print(
        f"  {method:8} validation {found['validation error']:5.2f} %  test "
        f"{found['test error']:5.2f} %  weights {found['weights']:>7,}  {sizes}  {paper}",
        flush=True,
    )
    return found


def main():
    given = arguments(__file__, __doc__, METHODS)
    data = load(given.data)
    results = {"seed": given.seed}
    for name in given.nets:
        begin = time.perf_counter()
        bench = Bench(NETS[name], data, given.seed)
        print(f"{name}, {bench.size:,} parameters, seed {given.seed}")
        results[name] = [row(bench, bench.start(), "float", "", begin)]
        for method in given.methods:
            begin = time.perf_counter()
            model = METHODS[method](bench, name)
            results[name].append(row(bench, model, method, PAPERS[name].get(method, ""), begin))
    write(given.json, results)


if __name__ == "__main__":
    main()
