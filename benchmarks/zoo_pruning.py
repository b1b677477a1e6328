"""Every network of `keras.applications` and `tfcomp.applications` with fewer channels.

    python benchmarks/zoo_pruning.py [--only NAME ...] [--ratios 0.5 ...] [--json FILE]

Each network is made with random weights, 96 pixels where it takes them, and with statistics of
batch normalization from noise, since with any others an error in an early layer dies on the way.
For each ratio channels are chosen at random and removed. Where rounding grows in what is left, its
statistics are taken instead. Then

    readers   what the small network computes, against the large one in which all weights that read
              a removed channel are zero; the largest difference relative to the largest output
    all       the same where all that removed channels own is zero
    rounding  how far outputs move where inputs do by a millionth: errors above 1e-5, and of exports
              above 1e-4, have to be less
    seen      at one ratio: of 20 draws, how often two channels that differ, exchanged in one
              variable of the small network, are noticed, by a difference above 1e-5 for six images
    file      whether the outputs are the same to the bit after saving and loading
    step      whether it trains
    export    at one ratio: how far the outputs of the SavedModel are from those of the model

Channels that layer or group normalization takes a mean over are kept for the proof, since there
zeros do not stand for nothing; where there are some, `all groups` prunes them, too, and asks for a
file and a step alone. The networks of `ONCE` are large: they are pruned to one ratio.

Networks run in a process of their own each, and what is in the JSON file already is not run again.
Seconds are those of the processor. The exit status is 1 if a network fails.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from record import write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

TOLERANCE, EXPORT_TOLERANCE = 1e-5, 1e-4
SEEN, TRACE_SECONDS, CUT_SECONDS, STAY = 18, 2, 10, 0.01
SIZES = {"NASNetMobile": 224, "NASNetLarge": 331}
# Pruned to one ratio alone.
ONCE = (
    "NASNetLarge",
    "EfficientNetV2M",
    "EfficientNetV2L",
    "EfficientNetB6",
    "EfficientNetB7",
    "ConvNeXtBase",
    "ConvNeXtLarge",
    "ConvNeXtXLarge",
    "ResNet152",
    "ResNet152V2",
)
FIRST = (
    "ShuffleNet g=4",
    "MobileNet",
    "MobileNetV3Small",
    "SqueezeNet 1.1 complex",
    "GoogLeNet",
    "EfficientNetB0",
    "DenseNet121",
    "ResNet50V2",
    "ConvNeXtTiny",
    "InceptionV3",
    "Xception",
    "NASNetMobile",
    "VGG16",
    "EfficientNetV2B0",
)
OURS = {
    "GoogLeNet": ("GoogLeNet", {}),
    **{
        " ".join(filter(None, ["SqueezeNet", version, bypass])): (
            "SqueezeNet",
            {"version": version, "bypass": bypass},
        )
        for version in ("1.0", "1.1")
        for bypass in (None, "simple", "complex")
    },
    "tfcomp MobileNet": ("MobileNet", {}),
    **{f"ShuffleNet g={groups}": ("ShuffleNet", {"groups": groups}) for groups in (1, 2, 3, 4, 8)},
}


def names():
    """All networks: one of each family, then others, cheap ones first."""
    from zoo_networks import PUBLISHED

    return list(dict.fromkeys([*FIRST, *OURS, *PUBLISHED]))


def make(name):
    import keras

    import tfcomp

    home, arguments = keras.applications, {}
    if name in OURS:
        home, (name, arguments) = tfcomp.applications, OURS[name]
    size = SIZES.get(name, 96)
    return getattr(home, name)(
        weights=None,
        input_shape=(size, size, 3),
        classes=20,
        classifier_activation=None,
        **arguments,
    )


def run(name, ratios):
    """One network; returns a dict."""
    import keras
    import numpy as np

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
    from surgery.channels import proof

    import tfcomp
    from tfcomp.surgery.channels.cut import cut
    from tfcomp.surgery.channels.trace import trace

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    model = make(name)
    proof.randomize(model, rng)
    begin = time.process_time()
    dyes = trace(model)
    row = {"weights": model.count_params(), "trace_s": seconds(begin), "channels": 0}
    row.update(inexact=0, stay={}, ratios={})
    for group in tfcomp.channels(model):
        row["channels"] += group.channels
        row["inexact"] += group.channels * (not group.exact and not group.reason)
        if group.reason:
            row["stay"][group.reason] = row["stay"].get(group.reason, 0) + group.channels
    x = proof.batch(model, rng)
    ratios = [0.5] if name in ONCE else ratios
    for ratio in ratios:
        small, row["ratios"][str(ratio)] = prove(proof, model, dyes, ratio, rng, x)
        if ratio == ratios[len(ratios) // 2]:
            row["export"] = exported(proof, small, x)
            row["seen"] = proof.exchanges_seen(small, proof.batch(model, rng, 6), rng)
        del small
    if row["inexact"]:
        begin = time.process_time()
        removed, _, known = proof.chosen(model, dyes, 0.5, rng, inexact=True)
        small, _ = cut(model, dyes, removed, known)
        row["all groups"] = {"cut_s": seconds(begin), **life(proof, small, x)}
    return row


def seconds(begin):
    return round(time.process_time() - begin, 2)


def rounded(number):
    return float(f"{number:.1e}")


def prove(proof, model, dyes, ratio, rng, x):
    found = proof.proved(model, dyes, ratio, rng, x)
    readers, everything = map(rounded, found.errors)
    row = {"cut_s": round(found.seconds, 2), "weights": found.small.count_params()}
    row |= {"readers": readers, "all": everything, "effect": rounded(found.effect)}
    row["rounding"] = rounded(proof.rounding(found.small, x))
    if found.whole:
        row["whole"] = sorted(set(found.whole))
    return found.small, {**row, **life(proof, found.small, x)}


def life(proof, small, x):
    """What does not work of a file and a training step."""
    import keras
    import numpy as np

    after, fails = proof.outputs(small, x), []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "small.keras"
        small.save(path)
        loaded = keras.models.load_model(path)
    if not np.array_equal(proof.outputs(loaded, x), after):
        fails.append("file")
    weights = small.get_weights()
    small.compile("sgd", "mse", run_eagerly=True)
    if not np.isfinite(small.train_on_batch(x, np.zeros(small(x).shape, "float32"))).all():
        fails.append("step")
    small.set_weights(weights)
    return {"fails": fails} if fails else {}


def exported(proof, small, x):
    """How far the outputs of a SavedModel are from those of the model."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfcomp

    with tempfile.TemporaryDirectory() as folder:
        tfcomp.export(small, f"{folder}/model", verbose=0)
        loaded = tf.saved_model.load(f"{folder}/model")
        made = loaded.serve(x)
    made = np.concatenate([np.ravel(each) for each in keras.tree.flatten(made)])
    return rounded(proof.error(made, proof.outputs(small, x)))


def wrong(row):
    """List of what is not as it should be."""
    if "error" in row:
        return [row["error"]]
    found = ["trace"] * (row["trace_s"] > TRACE_SECONDS)
    stay = sum(row["stay"].values()) - row["stay"].get("it leaves the model", 0)
    found += ["stay"] * (stay > STAY * row["channels"])
    found += ["seen"] * (row["seen"] < SEEN)
    rounding = max(each["rounding"] for each in row["ratios"].values())
    found += ["export"] * (row["export"] > max(EXPORT_TOLERANCE, rounding))
    for ratio, each in row["ratios"].items():
        checks = {
            "proof": max(each["readers"], each["all"]) < max(TOLERANCE, each["rounding"]),
            "effect": each["effect"] > TOLERANCE,
            "cut": each["cut_s"] <= CUT_SECONDS,
            "whole": "whole" not in each,
        }
        bad = [check for check, good in checks.items() if not good] + each.get("fails", [])
        found += [f"{check} at {ratio}" for check in bad]
    return found + row.get("all groups", {}).get("fails", [])


def show(name, row):
    bad = wrong(row)
    if "error" in row:
        return f"{name:20} {row['error']}"
    head = f"{name:20} {row['weights'] / 1e6:6.1f} M, {row['channels']:6} channels, {row['stay']}"
    verdict = "FAIL: " + ", ".join(bad) if bad else "pass"
    lines = [f"{head}, trace {row['trace_s']:.1f} s, seen {row['seen']}, {verdict}"]
    for ratio, r in row["ratios"].items():
        lines.append(
            f"    {ratio}: {r['weights'] / 1e6:6.2f} M, readers {r['readers']:.0e}, all "
            f"{r['all']:.0e}, rounding {r['rounding']:.0e}, cut {r['cut_s']:.1f} s "
            f"{r.get('whole', '')}"
        )
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--ratios", nargs="*", type=float, default=[0.25, 0.5, 0.75])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run(arguments.one, arguments.ratios)))
        return 0
    known = {}
    if arguments.json and arguments.json.exists():
        known = json.loads(arguments.json.read_text())["results"]
    for name in arguments.only or names():
        if name not in known:
            known[name] = apart(name, arguments.ratios)
            write(arguments.json, known)
        print(show(name, known[name]), flush=True)
    return int(any(wrong(known[name]) for name in arguments.only or names()))


def apart(name, ratios):
    """The row of a network, made by a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--ratios", *map(str, ratios)]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": (done.stderr.strip() or f"exit status {done.returncode}")[-300:]}


if __name__ == "__main__":
    sys.exit(main())
