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
SOFT = {
    "lenet300": {"rate": 5e-4, "batch": 256, "epochs": 30, "tuned": (2.5e-4, 3), "prior": {}},
    "lenet5": {"rate": 5e-4, "batch": 256, "epochs": 20, "tuned": (2.5e-4, 3), "prior": {}},
}
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


def soft(bench, net):
    """The mixture trained along with the weights; then the values that are shared."""
    own, model = SOFT[net], bench.start()
    batch = own["batch"]
    sharing = SoftWeightSharing(samples=len(bench.train[0]), **own["prior"])
    for rate, epochs, *callbacks in ((own["rate"], own["epochs"], sharing), own["tuned"]):
        bench.compiled(model, adam, rate, epochs, batch)
        bench.fit(model, epochs, *callbacks, batch=batch)
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
