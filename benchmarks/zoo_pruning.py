"""Every network of `keras.applications`, and a few more, with fewer channels: proof by zeros.

    python benchmarks/zoo_pruning.py [--only NAME ...] [--ratios 0.5 ...] [--json FILE]

Each network is made with random weights, 96 pixels where it takes them, and with statistics of
batch normalization from a batch of noise, since with any others an error in an early layer dies on
the way. For each ratio channels are chosen at random and removed. Then

    readers   what the small network computes, against the large one in which all weights that read
              a removed channel are zero; the largest difference relative to the largest output
    all       the same where all that removed channels own is zero
    seen      of 20 draws, how often two channels exchanged in one variable of the small network are
              noticed, by a difference above 1e-5
    file      whether the outputs are the same to the bit after saving and loading
    step      whether it trains

Channels that layer or group normalization takes a mean over are kept for the proof, since there
zeros do not stand for nothing; `all groups` prunes them, too, and asks for a file and a step alone.
Networks run in a process of their own each, and what is in the JSON file already is not run again.
The exit status is 1 if a network fails.
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

TOLERANCE = 1e-5
LARGE = {"NASNetMobile": 224, "NASNetLarge": 331}


def names():
    import keras

    # Classes and other functions have no `weights`, or are modules.
    return [
        name
        for name in sorted(vars(keras.applications))
        if name[0].isupper() and callable(getattr(keras.applications, name))
    ]


def make(name):
    import keras

    size = LARGE.get(name, 96)
    build = getattr(keras.applications, name)
    common = {"weights": None, "input_shape": (size, size, 3), "classes": 20}
    return build(**common, classifier_activation=None)


def run(name, ratios):
    """One network; returns a dict."""
    import keras
    import numpy as np

    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests"))
    from surgery.channels import proof

    import tfcomp
    from tfcomp.surgery.channels.trace import trace

    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(0)
    model = make(name)
    proof.randomize(model, rng)
    begin = time.process_time()
    dyes = trace(model)
    row = {"name": name, "trace s": time.process_time() - begin, "ratios": {}}
    found = tfcomp.channels(model)
    made = sum(group.channels for group in found)
    stay = [group for group in found if group.reason]
    row["channels"] = made
    row["stay"] = {group.path: [group.channels, group.reason] for group in stay}
    row["inexact"] = sum(g.channels for g in found if not g.exact and not g.reason)
    row["weights"] = model.count_params()
    x = proof.batch(model, rng)
    before = proof.outputs(model, x)
    for ratio in ratios:
        row["ratios"][str(ratio)] = prove(proof, model, dyes, ratio, rng, x, before)
    begin = time.process_time()
    small, *_ = proof.plan(model, dyes, 0.5, rng, inexact=True)
    row["all groups"] = {"cut s": time.process_time() - begin, **life(proof, small, x)}
    return row


def prove(proof, model, dyes, ratio, rng, x, before):
    begin = time.process_time()
    small, removed, whole, _ = proof.plan(model, dyes, ratio, rng)
    row = {"cut s": time.process_time() - begin, "weights": small.count_params()}
    row["whole"] = sorted(set(whole.values()))
    after, values = proof.outputs(small, x), [proof.numpy(v) for v in dyes.variables]
    for key, readers_alone in (("readers", True), ("all", False)):
        proof.zero(dyes, removed, readers_alone)
        zeroed = proof.outputs(model, x)
        row[key] = proof.error(after, zeroed)
        for variable, value in zip(dyes.variables, values):
            variable.assign(value)
    row["effect"] = proof.error(before, zeroed)
    row["seen"] = seen(proof, small, x, after, rng)
    return {**row, **life(proof, small, x)}


def seen(proof, small, x, right, rng):
    """How many of 20 exchanges of two channels are noticed."""
    variables = [v for v in small.variables if len(v.shape) and v.shape[-1] > 3]
    total = 0
    for index in rng.integers(0, len(variables), 20):
        value = proof.numpy(variables[index])
        one, other = rng.permutation(value.shape[-1])[:2]
        wrong = value.copy()
        wrong[..., [one, other]] = value[..., [other, one]]
        variables[index].assign(wrong)
        total += proof.error(proof.outputs(small, x), right) > TOLERANCE
        variables[index].assign(value)
    return int(total)


def life(proof, small, x):
    """A file and a training step."""
    import keras
    import numpy as np

    after = proof.outputs(small, x)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "small.keras"
        small.save(path)
        loaded = keras.models.load_model(path)
    same = bool(np.array_equal(proof.outputs(loaded, x), after))
    small.compile("sgd", "mse")
    loss = small.train_on_batch(x, np.zeros(small(x).shape, "float32"))
    return {"file": same, "step": bool(np.isfinite(loss).all())}


def passes(row):
    good = row.get("all groups", {}).get("file") and row["all groups"]["step"]
    for each in row.get("ratios", {}).values():
        good = good and max(each["readers"], each["all"]) < TOLERANCE
        good = good and each["file"] and each["step"] and not each["whole"]
    return bool(good)


def show(row):
    if "error" in row:
        return f"{row['name']:20} {row['error']}"
    stay = sum(number for number, _ in row["stay"].values())
    head = (
        f"{row['name']:20} {row['weights'] / 1e6:6.1f} M, {row['channels']:6} channels, {stay} stay"
    )
    lines = [f"{head}, trace {row['trace s']:.1f} s, {'pass' if passes(row) else 'FAIL'}"]
    for ratio, r in row["ratios"].items():
        lines.append(
            f"    {ratio}: {r['weights'] / 1e6:6.2f} M, readers {r['readers']:.0e}, "
            f"all {r['all']:.0e}, seen {r['seen']} of 20, cut {r['cut s']:.1f} s, "
            f"file {r['file']}, step {r['step']}"
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
    known = {"networks": {}}
    if arguments.json and arguments.json.exists():
        known = json.loads(arguments.json.read_text())["results"]
    for name in arguments.only or names():
        if name not in known["networks"]:
            command = [sys.executable, __file__, "--one", name, "--ratios"]
            done = subprocess.run(
                [*command, *map(str, arguments.ratios)], capture_output=True, text=True
            )
            try:
                row = json.loads(done.stdout.strip().splitlines()[-1])
            except (IndexError, ValueError):
                row = {"name": name, "error": done.stderr.strip()[-300:]}
            known["networks"][name] = row
            write(arguments.json, known)
        print(show(known["networks"][name]), flush=True)
    return int(not all(passes(known["networks"][n]) for n in arguments.only or names()))


if __name__ == "__main__":
    sys.exit(main())
