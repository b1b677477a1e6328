"""Latency of a dense layer over its width, its sparsity, its bits and the size of the batch.

    python benchmarks/growth.py --folder FILES [--write-only] --json benchmarks/results/growth.json
    python benchmarks/growth.py --plot docs/pictures/growth.svg \\
        --json benchmarks/results/growth.json

Each point is one run of `tfcomp.benchmark` in which exports for latency take turns with the layer
in floats in every engine that is installed, one thread each. Files that a folder has already are
not written again, nor are points that the JSON has timed again: it may be broken off and run again.
`--plot` draws what the JSON has.
"""

import argparse
import functools
import hashlib
import json
import tempfile

from record import Rows

WIDTH = 4096
WIDTHS, BATCHES = (512, 1024, 2048, WIDTH), (1, 2, 4, 8, 16, 32, 64)
SPARSITIES = (0.8, 0.85, 0.9, 0.95, 0.98, 0.99)
# One of each kind of kernels for small, middle and large batches.
EXPORTED_FOR = (1, 2, 8, 64)
KINDS = ("1 bit", "2 bits", "4 bits", "groups of 64, 90 %", "single weights, 90 %")
FLOAT = "32 bits"


def pruned_kinds():
    """Dict from names to pairs of the size of groups and the sparsity."""
    titles = {64: "groups of 64", 1: "single weights"}
    return {
        f"{title}, {round(100 * sparsity)} %": (size, sparsity)
        for size, title in titles.items()
        for sparsity in SPARSITIES
    }


def made(kind, width):
    """The layer."""
    import inference

    bits = {"2 bits": 3, "4 bits": 15}
    if kind == FLOAT:
        return inference.dense(width)
    if kind == "1 bit":
        return inference.dense(width, inference.T.BinaryDense)
    if kind in bits:
        return inference.low_bit_dense(bits[kind], width)
    size, sparsity = pruned_kinds()[kind]
    return inference.pruned_dense(size, 1 - sparsity, width)


def points():
    """Keys of rows, each with the kinds that take turns."""
    for width in WIDTHS:
        yield {"of": "kinds", "width": width, "batch": 1}, KINDS
    yield {"of": "sparsity", "width": WIDTH, "batch": 1}, tuple(pruned_kinds())
    for batch in BATCHES[1:]:
        yield {"of": "kinds", "width": WIDTH, "batch": batch}, KINDS


def measure(arguments):
    import inference

    inference.on_cores(1)
    rows = Rows(arguments.json)
    with tempfile.TemporaryDirectory() as passing:
        for key, kinds in points():
            if not rows.has(**key):
                row = row_of(
                    kinds, key["width"], key["batch"], arguments.folder or passing, arguments
                )
                if row is not None:
                    rows.add(**key, **row)


def row_of(kinds, width, batch, folder, arguments):
    """What is measured of one point."""
    import inference

    # The kinds compute other numbers than the floats: differences mean nothing here.
    floats = inference.Files(lambda: made(FLOAT, width), folder, f"growth {width}").floats(batch)
    sides = dict(floats)
    for kind in kinds:
        files = inference.Files(
            functools.partial(made, kind, width), folder, f"growth {width} {kind}"
        )
        sizes = EXPORTED_FOR if width == WIDTH and kind in KINDS else (1,)
        sides[kind] = files.path("tfcomp", optimize="latency", batch_sizes=sizes)
    if arguments.write_only:
        return None
    found = inference.timed(sides, (batch, width), arguments.rounds, 1)
    fastest = min(floats, key=lambda name: found[name]["milliseconds"])
    shown = {FLOAT: found[fastest], **{kind: found[kind] for kind in kinds}}
    return {
        "fastest": fastest,
        "milliseconds": {kind: one["milliseconds"] for kind, one in shown.items()},
        "kernels": {kind: list(inference.kernels_of(sides[kind], batch)) for kind in kinds},
    }


def digest(path):
    """What tells a plot that was drawn of these results from one of others."""
    with open(path, encoding="utf-8") as file:
        results = json.load(file)["results"]
    return hashlib.sha256(json.dumps(results, sort_keys=True).encode()).hexdigest()


def lines(rows):
    """What is drawn: dict from titles to the axis, and dict from labels to pairs of x and ms."""
    kinds = [row for row in rows if row["of"] == "kinds"]
    (pruned,) = [row for row in rows if row["of"] == "sparsity"]
    single = [row for row in kinds if row["batch"] == 1]
    wide = [row for row in kinds if row["width"] == WIDTH]

    def over(found, key):
        found = sorted(found, key=lambda row: row[key])
        x = [row[key] for row in found]
        return {name: (x, [r["milliseconds"][name] for r in found]) for name in (FLOAT, *KINDS)}

    percents = [100 * sparsity for sparsity in SPARSITIES]
    ms = pruned["milliseconds"]
    sparsities = {FLOAT: (percents, [ms[FLOAT]] * len(percents))}
    for size in ("groups of 64", "single weights"):
        sparsities[size] = percents, [ms[f"{size}, {round(percent)} %"] for percent in percents]
    bits = {
        f"batch of {row['batch']}": (
            [1, 2, 4, 32],
            [row["milliseconds"][name] for name in ("1 bit", "2 bits", "4 bits", FLOAT)],
        )
        for row in sorted(wide, key=lambda row: row["batch"])
        if row["batch"] in (1, 8, 64)
    }
    return {
        "batch of 1": ("width", over(single, "width")),
        f"width {WIDTH}": ("batch", over(wide, "batch")),
        f"width {WIDTH}, batch of 1": ("sparsity, %", sparsities),
        f"width {WIDTH} ": ("bits", bits),
    }


def plot(arguments):
    """Draws the results, as a function of nothing else."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "growth", "font.size": 9})
    from matplotlib import pyplot, ticker

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
    for axis, (title, (label, drawn)) in zip(axes.flat, lines(Rows(arguments.json).rows).items()):
        for name, (x, y) in drawn.items():
            axis.plot(x, y, marker="o", markersize=3, label=name)
        axis.set(title=title.strip(), xlabel=label, ylabel="milliseconds", yscale="log")
        if label != "sparsity, %":
            axis.set_xscale("log", base=2)
        ticks = sorted({value for x, _ in drawn.values() for value in x})
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_locator(ticker.NullLocator())
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(arguments.plot, metadata={"Date": None, "Description": digest(arguments.json)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", help="where files are kept; by default they are not")
    parser.add_argument("--write-only", action="store_true", help="times nothing")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--plot", help="the SVG to draw; nothing is timed then")
    parser.add_argument("--json", required=True)
    arguments = parser.parse_args()
    (plot if arguments.plot else measure)(arguments)


if __name__ == "__main__":
    main()
