"""Every pruning method on LeNet-300-100 and Caffe's LeNet-5, beside the papers' figures.

    python benchmarks/lenet_pruning.py --data mnist.npz [--seed 1] [--nets lenet300 lenet5]

Settings were chosen on the last 5,000 images of the training set, whose error is printed, too. The
test set is looked at once, for the table.
"""

import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from lenets import NETS, Bench, adam, arguments, load, scheduled, surgery
from record import write

import tfcomp
from tfcomp.callbacks import GradualPruning, MagnitudePruning, SensitivityPruning

GRID = (0.5, 0.7, 0.8, 0.9)


def report(bench, model, method, paper, begin):
    seconds = time.perf_counter() - begin
    kept = sum(int(np.count_nonzero(weight)) for weight in model.get_weights())
    row = {
        "method": method,
        "validation error": bench.error(model, bench.validation),
        "test error": bench.error(model, bench.test),
        "weights": kept,
        "ratio": bench.size / kept,
        "kept": {
            target.path: float(np.mean(keras.ops.convert_to_numpy(target.variable.value) != 0))
            for target in tfcomp.targets.find(model)
        },
        "paper": paper,
        "seconds": seconds,
    }
    print(
        f"  {method:34} validation {row['validation error']:5.2f} %  test "
        f"{row['test error']:5.2f} %  weights {kept:>7,}  {row['ratio']:6.1f}x  "
        f"{seconds:4.0f} s  {paper}",
        flush=True,
    )
    return row


def without_retraining(bench):
    """Magnitude and optimal brain surgeon, each weight to the same sparsity."""
    rows = []
    for sparsity in GRID:
        model, begin = bench.start(), time.perf_counter()
        # The one update is due before the first step, of a learning rate of zero.
        schedule = tfcomp.schedules.ConstantSparsity(sparsity, begin_step=0)
        pruning = GradualPruning(schedule)
        model.fit(*(part[:1] for part in bench.train), verbose=0, callbacks=[pruning])
        rows.append(report(bench, model, f"magnitude, {sparsity:.0%}, not retrained", "", begin))
        model, begin = bench.start(), time.perf_counter()
        tfcomp.prune_obs(model, sparsity, bench.train[0][:2000], verbose=0)
        rows.append(report(bench, model, f"prune_obs, {sparsity:.0%}, not retrained", "", begin))
    return rows


def magnitude(bench, own, dropout):
    model = bench.compiled(bench.start(own["l2"], dropout), adam, 1e-3, own["epochs"])
    targets = {layer: {"quality": quality} for layer, quality in own["quality"].items()}
    bench.fit(model, own["epochs"], MagnitudePruning(rounds=4, targets=targets))
    return model


def timed(bench, method, paper, prune, *arguments):
    begin = time.perf_counter()
    return report(bench, prune(bench, *arguments), method, paper, begin)


METHODS = ("none", "magnitude", "gradual", "sensitivity", "surgery")


def main():
    given = arguments(__file__, __doc__, METHODS)
    data = load(given.data)
    results = {"seed": given.seed}
    for name in given.nets:
        settings, begin = NETS[name], time.perf_counter()
        bench = Bench(settings, data, given.seed)
        print(f"{name}, {bench.size:,} parameters, seed {given.seed}")
        rows = [report(bench, bench.start(), "float", "", begin)]
        if "none" in given.methods:
            rows += without_retraining(bench)
        if "magnitude" in given.methods:
            own = settings["magnitude"]
            rest = (magnitude, own, settings["dropout"])
            rows.append(timed(bench, "MagnitudePruning", own["paper"], *rest))
        own = settings["scheduled"]
        if "gradual" in given.methods:
            rows.append(timed(bench, "GradualPruning", "", scheduled, own, GradualPruning))
        if "sensitivity" in given.methods:
            rows.append(timed(bench, "SensitivityPruning", "", scheduled, own, SensitivityPruning))
        if "surgery" in given.methods:
            own = settings["surgery"]
            rows.append(timed(bench, "DynamicNetworkSurgery", own["paper"], surgery, own))
        results[name] = rows
    write(given.json, results)


if __name__ == "__main__":
    main()
