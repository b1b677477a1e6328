"""What is shipped of LeNet-300-100 and Caffe's LeNet-5: bytes against float32 weights.

    python benchmarks/lenet_compression.py --data mnist.npz [--seed 1] [--nets lenet300 lenet5]

Settings were chosen on the last 5,000 images of the training set, whose error is printed, too. The
test set is looked at once, for the table. `coded` are all variables, biases included, in the
smallest codings of `tfcomp.coding`; `folder` is the SavedModel of `tfcomp.export`, graph and all
(on the TensorFlow backend).
"""

import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from lenets import NETS, Bench, adam, arguments, dense, load, scheduled, write

import tfcomp
from tfcomp.callbacks import GradualPruning, SoftWeightSharing, WeightSharing

SHARING = {
    "lenet300": {"bits": dense(4, 4, 4), "rate": 5e-4, "epochs": 10},
    "lenet5": {"bits": {"conv1": 5, "conv2": 5, **dense(4, 4)}, "rate": 5e-4, "epochs": 6},
}
SOFT = {
    "lenet300": {"rate": 5e-4, "epochs": 40},
    "lenet5": {"rate": 5e-4, "epochs": 30},
}
PAPERS = {
    "lenet300": {"shared": "(paper: 1.58 %, 40x)", "soft": "(paper: 1.94 %, 64x)"},
    "lenet5": {"shared": "(paper: 0.74 %, 39x)", "soft": "(paper: 0.97 %, 162x)"},
}


def shared(bench, net):
    """Deep compression: pruned by magnitude on a schedule, then shared."""
    own = SHARING[net]
    model = scheduled(bench, NETS[net]["scheduled"], GradualPruning)
    bench.compiled(model, adam, own["rate"], own["epochs"])
    targets = {layer: {"bits": bits} for layer, bits in own["bits"].items()}
    bench.fit(model, own["epochs"], WeightSharing(bits=5, targets=targets))
    return model


def soft(bench, net):
    own = SOFT[net]
    model = bench.compiled(bench.start(), adam, own["rate"], own["epochs"])
    bench.fit(model, own["epochs"], SoftWeightSharing(samples=len(bench.train[0])))
    return model


METHODS = {"shared": shared, "soft": soft}


def coded_bytes(model):
    weights = model.get_weights()
    return sum(len(tfcomp.coding.to_bytes(tfcomp.coding.encode(weight))) for weight in weights)


def folder_bytes(model):
    if keras.backend.backend() != "tensorflow":
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "small"
        tfcomp.export(model, path, verbose=False)
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def row(bench, model, method, paper, begin):
    plain = 4 * bench.size
    found = {
        "method": method,
        "validation error": bench.error(model, bench.validation),
        "test error": bench.error(model, bench.test),
        "weights": sum(int(np.count_nonzero(weight)) for weight in model.get_weights()),
        "float bytes": plain,
        "coded bytes": coded_bytes(model),
        "folder bytes": folder_bytes(model),
        "paper": paper,
        "seconds": time.perf_counter() - begin,
    }
    folder = found["folder bytes"]
    shipped = f"folder {folder:>9,}  {plain / folder:6.1f}x" if folder else ""
    print(
        f"  {method:8} validation {found['validation error']:5.2f} %  test "
        f"{found['test error']:5.2f} %  weights {found['weights']:>7,}  coded "
        f"{found['coded bytes']:>9,}  {plain / found['coded bytes']:6.1f}x  {shipped}  {paper}",
        flush=True,
    )
    return found


def main():
    given = arguments(__file__, __doc__, METHODS)
    data = load(given.data)
    results = {"seed": given.seed, "keras": keras.__version__}
    for name in given.nets:
        begin = time.perf_counter()
        bench = Bench(NETS[name], data, given.seed)
        print(f"{name}, {bench.size:,} parameters, seed {given.seed}")
        results[name] = [row(bench, bench.start(), "float", "", begin)]
        for method in given.methods:
            begin = time.perf_counter()
            model = METHODS[method](bench, name)
            results[name].append(row(bench, model, method, PAPERS[name][method], begin))
    write(given.json, results)


if __name__ == "__main__":
    main()
