"""How much of the multiplications that pruning saves shows in the latency of an export.

    python benchmarks/pruned_latency.py [--networks NAME ...] [--ratios 0.25 0.5] [--round-to 1]
        [--batch 1] [--threads 1] [--rounds 31] [--folder FOLDER] [--json FILE]

Networks of `keras.applications` at 224 x 224, with random weights and statistics, are pruned by
`tfcomp.prune_channels` and exported whole and pruned, for size and, where there are batch
normalizations to fold, for latency. All exports of a network take turns in one run of
`tfcomp.benchmark`. The share is the part of the time that is saved over the part of the
multiplications that is saved. `--folder` keeps the exports, and uses those that are there already.
"""

import argparse
import json
import os
import pathlib
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from record import write

import tfcomp

NETWORKS = ("MobileNet", "ResNet50", "VGG16")


def make(name):
    keras.utils.set_random_seed(0)
    model = getattr(keras.applications, name)(weights=None)
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "moving_mean"):
            variable.assign(0.1 * rng.normal(size=variable.shape))
    return model


def macs(model):
    return sum(tfcomp.summary(model, print_table=False).macs.values())


def export_all(name, ratios, round_to, folder):
    """Exports a network whole and pruned; returns paths, and multiplications, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    known = folder / "macs.json"
    counts = json.loads(known.read_text()) if known.exists() else {}
    whole = None
    for ratio in (0, *ratios):
        if str(ratio) in counts:
            continue
        whole = whole or make(name)
        model = whole
        if ratio:
            model = tfcomp.prune_channels(whole, ratio, round_to=round_to, verbose=0).model
        for optimize in ("size", "latency"):
            has_norms = any(isinstance(v, keras.layers.BatchNormalization) for v in model.layers)
            if optimize == "size" or has_norms:
                tfcomp.export(model, folder / f"{optimize} {ratio}", optimize=optimize, verbose=0)
        counts[str(ratio)] = macs(model)
        known.write_text(json.dumps(counts))
        print(f"{name} {ratio}: {counts[str(ratio)] / 1e6:,.0f} M MACs", flush=True)
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir()}, counts


def measure(name, ratios, round_to, folder, batch, threads, rounds):
    paths, counts = export_all(name, ratios, round_to, folder)
    done = tfcomp.benchmark(paths, batch_size=batch, rounds=rounds, threads=threads, verbose=0)
    rows = []
    for optimize in ("size", "latency"):
        if f"{optimize} 0" not in paths:
            continue
        whole = done[f"{optimize} 0"].milliseconds
        for ratio in ratios:
            pruned = done[f"{optimize} {ratio}"].milliseconds
            fewer = 1 - counts[str(ratio)] / counts["0"]
            rows.append(
                {
                    "network": name,
                    "optimize": optimize,
                    "ratio": ratio,
                    "macs": [counts["0"], counts[str(ratio)]],
                    "milliseconds": [whole, pruned],
                    "share": (1 - pruned / whole) / fewer,
                }
            )
            print(
                f"{name:10} {optimize:8} {ratio}: {whole:7.2f} -> {pruned:6.2f} ms, "
                f"{fewer:.1%} fewer MACs, share {rows[-1]['share']:.1%}",
                flush=True,
            )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.25, 0.5])
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    arguments = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        rows = []
        for name in arguments.networks:
            rows += measure(
                name,
                arguments.ratios,
                arguments.round_to,
                folder / name,
                arguments.batch,
                arguments.threads,
                arguments.rounds,
            )
            settings = {key: getattr(arguments, key) for key in ("batch", "threads", "round_to")}
            write(arguments.json, {**settings, "rows": rows})


if __name__ == "__main__":
    main()
