"""Every architecture of `keras.applications` and of a few of keras-hub, through tfcomp.

    python benchmarks/zoo.py methods [--json FILE] [--only NAME ...] [--quick] [--checks CHECK ...]
    python benchmarks/zoo.py files ...

Each network has random weights and perturbed statistics of batch normalization, and goes through
every check in a process of its own, one after the other. The methods, at the smallest size that a
network takes:

    identity    `swap_layers` with a rule that keeps everything: outputs differ by exactly 0
    quantized   all kernels to `Quantized*` layers without a quantizer: by 0, too
    binary      to `Binary*` layers: each of them is one, and has the weights of the one before
    pruned      `fit` with `GradualPruning`: each kernel has exactly the share of zeros asked for
    ternary     `fit` with `QuantizedTraining`: each kernel has one magnitude beside zero
    quantize    `tfcomp.quantize` on data: the same, and none is left out
    prune_obs   exactly the zeros asked for; in deep networks in some kernels that are not wide

Deep networks train eagerly.

The files, of networks at the size they were published with, 80 % of each kernel zero and the
others of 14 values; only those of `keras.applications`:

    macs        `tfcomp.summary`: those counted by hand from the shapes, and those published to 5 %
    export      predicts what the model does, beside Keras's own export
    archive     every weight comes back bit for bit

A cell is `ok`, `refused` where an error names the layer that stands in the way, or what is wrong.
A call that writes and takes more than 60 seconds, a summary that takes more than 5, or 4 GB beyond
what the process held before, is wrong, too. Seconds are those of the processor, threads together,
but of a summary those of the clock. The exit status is 1 if something is wrong. The file keeps rows
as they come, and what it holds already is not done again unless it is wrong, or `--again`. `--only`
takes parts of names; `--quick` five networks that differ most.
"""

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys

from record import write

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

QUICK = ("ConvNeXtTiny", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121", "NASNetMobile")
FINE = ("ok", "refused", "nothing to do")
# What a process has found begins with this, among all that is printed.
MARK = "zoo: "


def is_fine(cell):
    return cell is not None and cell["result"].startswith(FINE)


def run(half, name, chosen):
    """Prints a line of JSON for each check of one network; in a process of its own."""
    import zoo_networks

    module = importlib.import_module(f"zoo_{half}")
    model, batch = module.make(name)
    say(parameters=model.count_params())
    for check in chosen:
        function = module.CHECKS[check]
        cell, seconds, peak = zoo_networks.measured(tried, function, model, batch, name)
        say(**{check: {"check_seconds": seconds, "check_gb": peak, **cell}})


def say(**found):
    print(MARK + json.dumps(found), flush=True)


def tried(function, model, batch, name):
    """The cell of a check, of whatever it raises, too."""
    import tfcomp

    layers = {site.layer.name for site in tfcomp.targets.layer_sites(model)}
    try:
        return function(model, batch, name)
    except ValueError as error:
        named = any(repr(layer) in str(error) for layer in layers)
        return {"result": f"refused: {error}" if named else f"ValueError: {error}"}
    except Exception as error:
        return {"result": f"{type(error).__name__}: {error}"}


def fill(row, half, name, chosen, keep):
    """Runs checks of a network in another process, and puts what it finds into a row."""
    command = [sys.executable, __file__, half, "--run", name, "--checks", *chosen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith(MARK):
                row.update(json.loads(line.removeprefix(MARK)))
                keep()
    for check in chosen:
        row.setdefault(check, {"result": f"the process ended with {process.returncode}"})
    keep()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("half", choices=["methods", "files"])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--checks", nargs="+", metavar="CHECK")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(options.half, options.run, options.checks)
    import zoo_networks

    checks = options.checks or list(importlib.import_module(f"zoo_{options.half}").CHECKS)
    names = zoo_networks.NETWORKS if options.half == "methods" else zoo_networks.PUBLISHED
    names = [name for name in names if not options.quick or name in QUICK]
    names = [n for n in names if not options.only or any(part in n for part in options.only)]
    found = {}
    if options.json and os.path.exists(options.json):
        found = json.loads(pathlib.Path(options.json).read_text())["results"]
    print(f"{'network':20} {'parameters':>11}", *(f"{check:>18}" for check in checks))
    wrong = 0
    for name in names:
        row = found.setdefault(name, {})
        chosen = [check for check in checks if options.again or not is_fine(row.get(check))]
        if chosen:
            for check in chosen:
                row.pop(check, None)
            fill(row, options.half, name, chosen, lambda: write(options.json, found))
        wrong += show(name, row, checks)
    print(f"{len(names)} networks, {wrong} wrong")
    return wrong > 0


def show(name, row, checks):
    """Prints a row, and returns how many of its cells are wrong."""
    cells = [row[check] for check in checks]
    shown = [
        f"{cell['result'].split(':')[0][:11]:>11} {cell.get('check_seconds', 0):4.0f} s"
        for cell in cells
    ]
    print(f"{name:20} {row.get('parameters', 0):11,}", *shown, flush=True)
    for check, cell in zip(checks, cells):
        if not cell["result"].startswith("ok"):
            print(f"    {check}: {cell['result'][:300]}", flush=True)
    return sum(not is_fine(cell) for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
