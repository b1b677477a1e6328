"""Writes the figures of README and docs from what benchmarks measured.

    python benchmarks/tables.py [--check]

A page has its figures between two comments, each on a line of its own:

    <!-- figures: NAME -->
    <!-- end of figures -->

What stands between is made here, by the function of that NAME, from files in `benchmarks/results/`
and from nothing else. `--check` writes nothing and fails if a page is not as it would be written.
"""

# ruff: noqa: RUF001

import argparse
import json
import pathlib
import re
import statistics
import sys

ROOT = pathlib.Path(__file__).parent.parent
RESULTS = pathlib.Path(__file__).parent / "results"
BLOCK = re.compile(
    r"^(<!-- figures: ([\w-]+) -->\n)(.*?)^(<!-- end of figures -->)$", re.DOTALL | re.MULTILINE
)
FIGURES = {}


def figures(function):
    """Registers a function that makes the text of a block, under its name with dashes."""
    FIGURES[function.__name__.replace("_", "-")] = function
    return function


def results(name):
    """What a benchmark measured, by the name of its file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["results"]


def table(headings, rows, right=True):
    """A table in Markdown; all columns but the first are numbers, or the `left` ones of a string.

    Args:
        headings: List of strings.
        rows: List of lists of strings.
        right: Whether numbers stand at the right, or a string of `l` and `r` for the columns.
    """
    kinds = right if isinstance(right, str) else "l" + "r" * (len(headings) - 1)
    rule = "|".join({"l": "---", "r": "---:"}[kind] for kind in kinds)
    lines = ["| " + " | ".join(row) + " |" for row in [headings, *rows]]
    lines = [re.sub(r"  +\|", " |", line.replace("|  |", "| |")) for line in lines]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]]) + "\n"


@figures
def quickstart():
    found = results("quickstart")
    floats, plain, compact = 4 * found["weights"], *found["bytes"]
    trained, pruned, final = (f"{100 * accuracy:.2f} %" for accuracy in found["accuracy"])
    zeros = f"{100 * found['sparsity']:.0f} %"
    shown = table(
        ["", "test accuracy", "sparsity", "bytes on disk"],
        [
            ["trained, Keras's `model.export`", trained, "0 %", f"{plain:,}"],
            ["pruned", pruned, zeros, ""],
            ["pruned and 5-bit, `tfcomp.export`", final, zeros, f"{compact:,}"],
        ],
    )
    same = "predicts what the Keras model predicts" if found["agree"] else "DOES NOT AGREE"
    return (
        f"{shown}\nThe folder is {floats / compact:.1f} times smaller than the float32 weights "
        f"({floats:,} bytes) and {plain / compact:.1f} times smaller\nthan Keras's, which holds "
        f"each weight twice. The loaded model {same}.\n"
    )


@figures
def overhead():
    found = results("training_overhead")
    rows = []
    for title, name in (
        ("mlp, batch 128", "MLP"),
        ("mlp, batch 512", "MLP"),
        ("convnet, batch 128", "convolutional network"),
    ):
        size, ratios = found[title]["parameters"] / 1e6, found[title]["ratios"]
        ours, theirs = ratios["tfcomp / keras"], ratios["tfmot / tf_keras"]
        batch = title.split()[-1]
        rows.append([f"{name}, {size:.1f} M parameters", batch, f"{ours:.3f}", f"{theirs:.3f}"])
    return table(["model", "batch", "tfcomp over Keras", "tfmot over tf_keras"], rows)


@figures
def overhead_of_others():
    found = results("training_overhead")
    titles = [f"{title}, other callbacks" for title in ("mlp, batch 512", "convnet, batch 128")]
    ratios = [found[title]["ratios"] for title in titles]
    rows = [
        [f"`{name.split()[0]}`", *(f"{each[name]:.3f}" for each in ratios)]
        for name in sorted(ratios[0], key=lambda name: max(each[name] for each in ratios))
    ]
    heads = ["callback", "MLP, batch 512", "convolutional network, batch 128"]
    return table(heads, rows)


@figures
def embedding_sharing():
    rows = [
        [name, f"{row['milliseconds']['plain']:.1f}", f"{row['milliseconds']['shared']:.1f}"]
        + [f"{row['ratio']:.2f}"]
        for name, row in results("embedding_sharing").items()
    ]
    return table(["optimizer", "plain, ms", "shared, ms", "ratio"], rows)


@figures
def kill_resume():
    found = results("kill_resume")["callbacks"]
    kills, resumed, same = (
        sum(row[key] for row in found.values()) for key in ("kills", "resumed", "identical")
    )
    return (
        f"`python benchmarks/kill_resume.py` kills runs of {len(found)} callbacks with `kill -9` "
        f"at random steps: {kills} kills,\n{same} of {resumed} resumed runs bit-identical to the "
        "unbroken ones.\n"
    )


@figures
def zoo_methods():
    found = results("zoo_methods")
    checks = [check for check in next(iter(found.values())) if check != "parameters"]
    rows = []
    for check in checks:
        cells = [row[check]["result"] for row in found.values() if check in row]
        fine = sum(cell.startswith("ok") for cell in cells)
        refused = sum(cell.startswith("refused") for cell in cells)
        rows.append([f"`{check}`", *map(str, (fine, refused, len(cells) - fine - refused))])
    return table([f"{len(found)} networks", "as they should", "refused by name", "wrong"], rows)


@figures
def zoo_pruning():
    found = results("zoo_pruning")
    rows = []
    for name, row in found.items():
        ratios, stay = row["ratios"], dict(row["stay"])
        stay.pop("it leaves the model", None)
        left = [f"{100 * each['weights'] / row['weights']:.0f}" for each in ratios.values()]
        rows.append(
            [
                name,
                f"{row['channels']:,}",
                "; ".join(f"{number}: {reason}" for reason, number in stay.items()),
                " / ".join(left),
                f"{max(max(each['readers'], each['all']) for each in ratios.values()):.0e}",
                f"{max(each['rounding'] for each in ratios.values()):.0e}",
                f"{row['export']:.0e}",
                str(row["seen"]),
                f"{row['trace_s']:.1f}",
                f"{max(each['cut_s'] for each in ratios.values()):.1f}",
            ]
        )
    heads = ["network", "channels", "stay, and why", "weights left, %", "error", "rounding"]
    shown = table([*heads, "export", "seen", "trace, s", "cut, s"], rows, "lrlrrrrrrr")
    bad = [name for name, row in found.items() if any("fails" in r for r in row["ratios"].values())]
    same = f"All but {', '.join(bad)}" if bad else "All"
    return f"{shown}\n{same} come back from a file to the last bit, and train.\n"


@figures
def zoo_files():
    rows = []
    for name, row in results("zoo_files").items():
        macs, export, archive = row["macs"], row["export"], row["archive"]
        keys = ("seconds", "load_seconds", "first_seconds", "further_seconds")
        pairs = [(export[key], export[f"keras_{key}"]) for key in keys]
        sizes = [each["bytes"] / 1e6 for each in (archive, export)]
        rows.append(
            [
                name,
                f"{macs['macs'] / 1e6:,.0f}",
                f"{macs['published']:,}" if macs["published"] else "",
                f"{macs['seconds']:.1f}",
                *(f"{ours:.1f} / {theirs:.1f}" for ours, theirs in pairs[:-1]),
                "{:.2f} / {:.2f}".format(*pairs[-1]),
                f"{sizes[1]:,.2f} / {export['keras_bytes'] / 1e6:,.2f}",
                f"{sizes[0]:,.2f}",
                f"{archive['seconds']:.1f}",
            ]
        )
    heads = ["network", "M MACs", "published", "`summary`, s", "export, s", "load, s"]
    heads += ["first call, s", "further calls, s"]
    return table([*heads, "export, MB", "archive, MB", "archive, s"], rows)


@figures
def mask_update():
    found = results("mask_update")
    times = found["update"]
    return (
        "An update of the mask takes about as long as one `numpy.partition` of the weights: "
        "`python benchmarks/mask_update.py`, a\n"
        f"kernel of {found['weights'] / 1e6:.0f} million weights, prunes it further in updates of "
        f"{min(times):.1f} to {max(times):.1f} s,\n{found['ratio']:.2f} times the partition beside "
        "each in the median.\n"
    )


@figures
def export_time():
    sides = {
        "keras": "`model.export`",
        "tfcomp": "`tfcomp.export`",
        "without comparison": "`tfcomp.export`, `verify=False`",
    }
    rows = [
        [net, sides[side], f"{row['seconds']:.1f}", f"{row['bytes'] / 1e6:.1f}"]
        for net, measured in results("export_time").items()
        for side, row in measured.items()
    ]
    return table(["", "", "processor seconds", "folder, MB"], rows, "llrr")


@figures
def bnn_formats():
    found = results("bnn_formats")
    rows = [
        [
            name,
            f"{one['bytes'] / 1000:,.0f}",
            "; ".join(one["kernels"]) or "-",
            f"{one['other classes']:,}",
            f"{one['error']:.2%}",
            f"{one['moved']:,}",
            f"{one['difference']:.1e} of {one['largest']:.1f}",
        ]
        for name, one in found["formats"].items()
    ]
    heads = [
        "format",
        "kB",
        "kernels",
        "other classes",
        "error",
        "logits move",
        "largest difference",
    ]
    exact = [
        one for one in found["formats"].values() if "inputs quantized" not in str(one["kernels"])
    ]
    nearest = max(one["nearest"] for one in exact)
    return table(heads, rows, "lrlrrrr") + (
        f"\nOf {found['images']:,} images. The input of the first binary layer that is nearest to "
        f"zero is {found['nearest']:.1e} in the median image, and\nat most {nearest:.1e} in those "
        "whose logits move, unless inputs are quantized.\n"
    )


@figures
def inference():
    found = results("inference")["rows"]
    measured, rows = [row for row in found if row["threads"] == 1], []
    for row in measured:
        models, name = row["models"], row["fastest"]
        kernels = [f"{k} ({n})" if n > 1 else k for k, n in row["kernels"].items()]
        rows.append(
            [
                row["network"],
                f"{row['batch']}",
                "; ".join(kernels),
                f"{name}, {models[name]['milliseconds']:.3g}",
                f"{models['Keras']['milliseconds']:.3g}",
                f"{models['tfcomp']['milliseconds']:.3g}",
                f"{row['ratio']:.1f}",
                f"{row['fixed ratio']:.1f}",
                f"{row['cold ratio']:.1f}",
                f"{row['wanted']:g}" if row.get("wanted") else "",
            ]
        )
    heads = ["network", "batch", "kernels", "fastest in floats, ms", "Keras, ms", "tfcomp, ms"]
    heads += ["times faster", "for that batch size alone", "with cold caches", "aimed at"]
    missed = [
        f"{row['network']} at batch {row['batch']} "
        f"({row['ratio']:.2f} of {row['wanted']:g}; {row['fixed ratio']:.2f} for that size alone)"
        for row in measured
        if row.get("wanted") and row["ratio"] < row["wanted"]
    ]
    missed += [
        f"{row['network']} at batch {row['batch']} with cold caches "
        f"({row['cold ratio']:.2f} of {row['wanted cold']:g})"
        for row in measured
        if row.get("wanted cold") and row["cold ratio"] < row["wanted cold"]
    ]
    sparse = [
        f"{row['network']} at batch {row['batch']} in "
        f"{row['models']['sparse litert']['milliseconds']:.3g} ms"
        for row in measured
        if "sparse litert" in row["models"]
        and row["models"]["sparse litert"]["milliseconds"] < row["models"]["tfcomp"]["milliseconds"]
    ]
    said = table(heads, rows, "lrllrrrrrr")
    if missed:
        said += f"\nBelow what was aimed at: {'; '.join(missed)}.\n"
    if sparse:
        said += f"\nA LiteRT file that leaves out the zeros computes {'; '.join(sparse)}.\n"
    return said + _two_threads([row for row in found if row["threads"] == 2], measured)


def _two_threads(found, alone):
    if not found:
        return ""
    one = {(row["network"], row["batch"]): row["models"] for row in alone}
    rows = []
    for row in found:
        models, before = row["models"], one[row["network"], row["batch"]]
        sides = [row["fastest"], "TensorFlow", "tfcomp"]
        cells = [f"{before[side]['milliseconds']:.3g}" for side in sides]
        cells += [f"{models[side]['milliseconds']:.3g}" for side in sides]
        names = [row["network"], f"{row['batch']}", row["fastest"]]
        rows.append([*names, *cells, f"{row['ratio']:.1f}"])
    heads = ["network", "batch", "fastest in floats", "it alone, ms", "TensorFlow alone, ms"]
    heads += ["tfcomp alone, ms", "it, ms", "TensorFlow, ms", "tfcomp, ms", "times faster"]
    return "\nWith two threads, beside the same alone:\n\n" + table(heads, rows, "lrlrrrrrrr")


@figures
def growth():
    found = results("growth")["rows"]
    kinds = [row for row in found if row["of"] == "kinds"]
    (pruned,) = [row for row in found if row["of"] == "sparsity"]
    names = list(kinds[0]["milliseconds"])
    rows = [
        [f"{row['width']}", f"{row['batch']}", row["fastest"]]
        + [f"{row['milliseconds'][name]:.3g}" for name in names]
        for row in sorted(kinds, key=lambda row: (row["width"], row["batch"]))
    ]
    heads = ["width", "batch", "fastest in floats", *names]
    first = table(heads, rows, "rrl" + "r" * len(names))
    ms = {name: f"{value:.3g}" for name, value in pruned["milliseconds"].items()}
    shares = list(dict.fromkeys(name.split(", ")[1] for name in ms if ", " in name))
    rows = [
        [size, *(ms[f"{size}, {share}"] for share in shares)]
        for size in dict.fromkeys(name.split(", ")[0] for name in ms if ", " in name)
    ]
    return first + "\n" + table([f"width {pruned['width']}, batch 1", *shares], rows)


@figures
def file_kernels():
    rows = [
        [
            row["network"],
            f"{row['batch']}",
            f"{row['fastest']}, {row['milliseconds']:.3g} ms",
            name,
            f"{ours['milliseconds']:.3g}",
            f"{ours['times']:.1f}",
            f"{ours['times cold']:.1f}",
            f"{ours['difference']:.1e}",
        ]
        for row in results("file_kernels")["rows"]
        for name, ours in row["ours"].items()
    ]
    heads = ["network", "batch", "fastest in floats", "file", "ms", "times faster"]
    heads += ["with cold caches", "difference"]
    return table(heads, rows, "lrllrrrr")


@figures
def obs_scaling():
    rows = [
        [
            f"{row['width']} x {row['width']}",
            row["method"],
            f"{row['seconds']:.1f}",
            f"{row['bytes'] / 2**20:.0f} MiB",
        ]
        for row in results("obs_scaling")
    ]
    return table(["inputs x outputs", "method", "seconds", "memory"], rows, "llrr")


def _pruned(net, papers, *later):
    rows = {row["method"]: row for row in results("lenet_pruning")[net]}
    # Methods measured anew, in runs of their own.
    for name in later:
        rows |= {row["method"]: row for row in results(name)[net] if row["method"] != "float"}
    shown = [["float", f"{rows['float']['test error']:.2f}", "", ""]]
    for method, name in (("magnitude", "magnitude"), ("prune_obs", "`prune_obs`")):
        at_once = [row for key, row in rows.items() if re.match(rf"{method}, \d", key)]
        sparsities = " / ".join(re.findall(r"\d+", row["method"])[0] for row in at_once)
        errors = " / ".join(f"{row['test error']:.2f}" for row in at_once)
        ratios = f"{at_once[0]['ratio']:.1f} to {at_once[-1]['ratio']:.1f}"
        shown.append([f"{name}, {sparsities} %, not retrained", errors, ratios, ""])
    for method in rows:
        if method.isidentifier() and method != "float":
            row = rows[method]
            numbers = [f"{row['test error']:.2f}", f"{row['ratio']:.1f}"]
            shown.append([f"`{method}`", *numbers, papers.get(method, "")])
    return shown


@figures
def pruned_lenet300():
    papers = {"MagnitudePruning": "1.59 at 12", "DynamicNetworkSurgery": "1.99 at 56"}
    heads = ["LeNet-300-100", "error", "ratio", "paper"]
    return table(heads, _pruned("lenet300", papers), "lrrl")


@figures
def pruned_lenet5():
    papers = {"MagnitudePruning": "0.77 at 12", "DynamicNetworkSurgery": "0.91 at 108"}
    heads = ["LeNet-5 (Caffe's)", "error", "ratio", "paper"]
    return table(heads, _pruned("lenet5", papers, "lenet_pruning_surgery"), "lrrl")


@figures
def large_sparse():
    found = results("large_sparse")
    whole, *rows = found["rows"]
    shown = []
    for row in rows:
        sparse, dense = row["large sparse"], row["small dense"]
        sparsity = f"{100 * row['sparsity']:.1f}".removesuffix(".0")
        beside = f"{dense['error']:.2f} ({dense['width']})"
        numbers = [f"{sparse['parameters']:,}", f"{sparse['error']:.2f}", beside]
        shown.append([f"{sparsity} %", *numbers])
    heads = ["sparsity", "parameters left", "large sparse", "small dense (width)"]
    seeds = found["seeds"]
    return (
        f"Test error in per cent, mean of seeds {seeds[0]} to {seeds[-1]}; the whole network, "
        f"{whole['parameters']:,} parameters, has {whole['error']:.2f}.\n\n"
        + table(heads, shown, "rrrr")
    )


@figures
def group_pruning():
    trained = results("group_pruning")["rows"]
    timed = results("group_pruning_speed")["rows"]
    speeds = {
        (r["network"], r["way"], r["batch"]): r["fastest_milliseconds"] / r["milliseconds"]
        for r in timed
    }
    batches, shown = sorted({row["batch"] for row in timed}), []
    for network, way in dict.fromkeys((row["network"], row["way"]) for row in trained + timed):
        errors = [r["error"] for r in trained if (r["network"], r["way"]) == (network, way)]
        cells = [f"{statistics.mean(errors):.2f}", str(len(errors))] if errors else ["", ""]
        found = [speeds.get((network, way, batch)) for batch in batches]
        cells += ["" if speed is None else f"{speed:.2f}" for speed in found]
        shown.append([network, way, *cells])
    heads = ["network", "pruned in", "error", "seeds"]
    heads += [f"speed, batch {batch}" for batch in batches]
    return (
        "Test error in per cent, mean of seeds. Speed: milliseconds of the whole network in the "
        "fastest float engine of the run\n(TensorFlow, LiteRT, ONNX Runtime, OpenVINO) over those "
        "of the export for latency, one thread.\n\n"
        + table(heads, shown, "ll" + "r" * (len(heads) - 2))
    )


@figures
def lstm_pruning():
    found = results("lstm_pruning")
    test = {row["name"].split(" parameters")[0]: row["test"] for row in found["rows"]}
    dense = next(error for name, error in test.items() if name.startswith("dense, "))
    shown = []
    for sparsity in ("50%", "80%", "90%"):
        cells = [
            f"{test[f'{sparsity}, {how}, {when}']:.2f}"
            for how in ("whole matrices", "per gate")
            for when in ("cut", "retrained")
        ]
        shown.append([sparsity.replace("%", " %"), *cells])
    heads = ["sparsity", "whole matrices: cut", "retrained", "per gate: cut", "retrained"]
    return (
        f"Perplexity on the test files of a model of {found['parameters']:,} parameters; before "
        f"pruning it has {dense:.2f},\nand {test['dense, trained on']:.2f} when it is trained on "
        "for as long as the pruned ones are retrained.\n\n" + table(heads, shown, "rrrrr")
    )


def _error(found, net, method):
    return f"{statistics.mean(run['test error'] for run in found[net][method]):.2f}"


@figures
def quantized_weights():
    found = results("mnist_quantization_lenet300") | results("mnist_quantization_lenet5")
    # In a run of its own.
    beside = results("mnist_quantization_lenet300_ttq")
    base = _error(beside, "lenet300", "float")
    names = {
        "float": "float",
        "INQ, 5 bits": "`IncrementalQuantization`, 5 bits",
        "INQ, 4 bits": "4 bits",
        "INQ, 3 bits": "3 bits",
        "INQ, 3 bits, clip=2": "3 bits, `clip=2`",
        "INQ, 2 bits": "2 bits",
        "INQ, 2 bits, clip=1.5": "2 bits, `clip=1.5`",
        "TWN": "`QuantizedTraining(Ternary())` (TWN; its paper's LeNet-5: 0.65)",
        "TTQ": f"`TrainedTernary*`, threshold 0.15 (float of LeNet-300-100 in this run: {base})",
        "FGQ, N=4, 8-bit inputs, not trained": "`FineGrainedTernary(4)`, 8-bit inputs, not trained",
        # Measured before growth was derived from the run.
        "BinaryRelax, ternary": "`BinaryRelax(growth=1.2)`, ternary",
        "BinaryRelax, binary": "`BinaryRelax(growth=1.2)`, binary with scales",
        "BWN (binary weights, scaled)": "`QuantizedTraining`, binary with scales",
        "DoReFa weights, 3 bits": "`QuantizedTraining(DoReFa(3))`",
        "FFN, rank 1.0": "`factorize(rank=1.0)`",
    }
    rows = []
    for method, name in names.items():
        first = beside if method == "TTQ" else found
        errors = [_error(first, "lenet300", method), _error(found, "lenet5", method)]
        rows.append([name, *errors])
    return table(["weights", "LeNet-300-100", "LeNet-5"], rows)


@figures
def quantized_inputs():
    found = results("mnist_quantization_lenet5")
    names = {
        "float, normalized": ("float", ""),
        "BNN": ("BNN", ""),
        "XNOR-Net": ("XNOR-Net", "1.20 (measured by HORQ's authors)"),
        "HORQ, order 2": ("HORQ, order 2", "0.99"),
        "DoReFa 1-2-32": ("DoReFa, weights 1, inputs 2, gradients 32 bits", ""),
        "DoReFa 1-4-6": ("DoReFa, 1, 4, 6", ""),
        "DoReFa 8-8-8": ("DoReFa, 8, 8, 8", ""),
    }
    rows = [
        [name, _error(found, "lenet5_bn", method), paper] for method, (name, paper) in names.items()
    ]
    return table(["", "error", "paper"], rows, "lrl")


@figures
def binary_perceptron():
    found = results("mnist_quantization_mlp")
    binary, plain = _error(found, "mlp", "BNN"), _error(found, "mlp", "float")
    return (
        "BNN's own network, three layers of 4,096 in which all weights and all inputs but the "
        "image are binary, after 12 epochs\nwithout dropout (`KERAS_BACKEND=jax python "
        "benchmarks/mnist_quantization.py --data mnist.npz --nets mlp --seeds 1`): "
        f"{binary} %; the same\nin float: {plain} %. The paper has 0.96 %, with dropout and far "
        "more epochs.\n"
    )


@figures
def hashed_layers():
    found = results("hashed_layers")
    plain, hashed = found["Dense"], found["HashedDense"]
    return (
        "`python benchmarks/hashed_layers.py --rounds 3` times training and inference beside the "
        "plain layers: with 2 cores, TensorFlow,\nand a layer of 1024 x 1024 hashed to an eighth, "
        f"a batch of 128 takes {hashed['predict']:.2f} ms to predict "
        f"(dense: {plain['predict']:.2f}), "
        f"{hashed['exported']:.2f} ms in the exported\nmodel "
        f"({plain['exported']:.2f}), and {hashed['training step']:.0f} ms to train "
        f"({plain['training step']:.0f}): the gradient sums a million numbers into buckets.\n"
    )


@figures
def hashed_mnist():
    rows = {row["name"]: row for row in results("hashed_mnist")["rows"]}
    whole = rows["dense"]
    shown = [["whole", f"{whole['parameters']:,}", "", f"{whole['test error']:.2f}", ""]]
    for share in ("1/8", "1/64"):
        pair = [rows[f"{share} hashed"], rows[f"{share} dense of that size"]]
        errors = [f"{row['test error']:.2f}" for row in pair]
        paper = ", ".join(str(row["paper"]) for row in pair)
        shown.append([share, f"{pair[0]['parameters']:,}", *errors, paper])
    heads = ["kernels", "parameters", "hashed", "dense of that size", "paper: hashed, dense"]
    return table(heads, shown, "lrrrl")


@figures
def layer_step_time():
    found = results("layer_step_time")

    def ratios(setup):
        ours, theirs = (found[setup][name]["cpu"]["ratio"] for name in ("tfcomp", "larq"))
        return f"{ours:.3f} (Larq: {theirs:.3f})"

    return (
        "A training step with quantized layers over one with float layers, processor time, medians "
        "of 11 rounds in turn\n(`python benchmarks/layer_step_time.py --larq-python PATH --rounds "
        "11`; Larq with Keras 2 in an environment of its own):\n"
        f"two binary 3x3 convolutions of 64 channels {ratios('binary convolution')}, two ternary "
        f"dense layers of 1024 units {ratios('ternary dense')}.\n"
    )


@figures
def hash_retrieval():
    rows = [
        [str(row["bits"]), f"{row['MAP of codes']:.4f}", f"{row['MAP of floats']:.4f}"]
        for row in results("hash_retrieval")["rows"]
    ]
    return table(["bits", "MAP of codes", "MAP of float embeddings of this length"], rows, "rrr")


@figures
def archive_fuzz():
    found = results("archive_fuzz")
    lines = [f"    {name:38}{count:>11,}" for name, count in found["outcomes"].items()]
    lines.append(
        f"    {found['cases']:,} cases, slowest {found['slowest']:.2f} s, "
        f"{found['wrong']} not as they should be"
    )
    return "\n".join(lines) + "\n"


@figures
def archive_size():
    rows = []
    for row in results("archive_size"):
        archive = row["archive"]
        rows.append(
            [
                row["network"],
                f"{row['weights']:,}",
                f"{row['sparsity']:.0%}, {row['bits']}",
                f"{row['entropy']:,}",
                f"{archive:,}",
                f"{row['header']:,}",
                f"{archive - 1.02 * row['entropy']:+,.0f}",
                f"{row['gzip -9'] / archive:.2f} ×",
                f"{row['huffman'] / archive:.3f} ×",
                f"{row['nncodec ratio']:.3f} ×" if "nncodec ratio" in row else "",
                f"{row['encode ns']:.1f}, {row['decode ns']:.1f}",
                f"{row['nncodec encode ns']:.0f}, {row['nncodec decode ns']:.0f}"
                if "nncodec ratio" in row
                else "",
                f"{row['memory']:.2f} ×",
            ]
        )
    heads = ["network", "weights", "zeros, bits", "entropy", "archive", "header"]
    heads += ["above 1.02 × entropy", "`gzip -9`", "Huffman", "NNCodec", "encode, decode ns"]
    return table([*heads, "NNCodec's", "memory"], rows, "lrl" + "r" * 10)


@figures
def archive_scaling():
    rows = [
        [
            f"{row['weights']:,}",
            f"{row['archive']:,}",
            f"{row['encode ns']:.1f}",
            f"{row['decode ns']:.1f}",
            f"{row['memory']:.2f} ×",
        ]
        for row in results("archive_size_scaling")
    ]
    return table(["weights", "archive", "encode ns", "decode ns", "memory"], rows, "rrrrr")


@figures
def deep_compression():
    names = {
        "float": "float",
        "careful": "careful",
        "shared": "as small as can be",
        "soft": "`SoftWeightSharing`",
    }
    papers = {
        ("lenet300", "careful"): "Deep Compression: 1.58 %, 40 ×",
        ("lenet300", "soft"): "1.94 %, 64 ×",
        ("lenet5", "careful"): "Deep Compression: 0.74 %, 39 ×",
        ("lenet5", "soft"): "0.97 %, 162 ×",
    }
    rows = []
    for net, title in (("lenet300", "LeNet-300-100"), ("lenet5", "LeNet-5")):
        soft = [
            row for row in results(f"lenet_compression_{net}_soft")[net] if row["method"] == "soft"
        ]
        for row in results(f"lenet_compression_{net}")[net] + soft:
            method, size = row["method"], row["file bytes"]
            if method in names:
                name = f"{title}, float" if method == "float" else names[method]
                numbers = [f"{row['test error']:.2f} %", f"{row['weights']:,}", f"{size:,}"]
                ratio = f"{row['float bytes'] / size:.1f} ×"
                rows.append([name, *numbers, ratio, papers.get((net, method), "")])
    heads = ["", "test error", "weights left", "bytes", "over float32", "paper"]
    return table(heads, rows, "lrrrrl")


# Of Student's t, by degrees of freedom: half of an interval of 95 %, in standard errors.
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def _gain(after, before):
    """Mean gain of the runs of one seed each, and half of its interval."""
    gains = [a - b for a, b in zip(after["runs"], before["runs"], strict=True)]
    error = statistics.stdev(gains) / len(gains) ** 0.5
    return statistics.mean(gains), _STUDENT[len(gains) - 1] * error


def _shown(gain):
    mean, half = gain
    clear = "" if abs(mean) > half else ", not clear of 0"
    return f"{mean:+.2f} ± {half:.2f}{clear}"


def _around(found):
    return f"{found['mean']:.2f} ± {found['half']:.2f}"


def _ways(rows):
    rows = {name: row for name, row in rows.items() if "ways" in row}
    if not rows:
        return
    ways = list(next(iter(rows.values()))["ways"])
    cells = [
        [name, f"{row['teacher']:.2f}", *(_around(row["ways"][way]) for way in ways)]
        for name, row in rows.items()
    ]
    yield table(["training images", "teacher", *ways], cells)
    cells = []
    for name, row in rows.items():
        found = row["ways"]
        gains = _gain(found["taught"], found["labels"]), _gain(found["GAN"], found["taught"])
        holds = "holds" if min(mean for mean, _ in gains) > 0 else "does not hold"
        cells.append([name, *map(_shown, gains), holds])
    heads = ["training images", "taught over labels", "GAN over taught", "the paper's order"]
    yield table(heads, cells, "lrrl")


def _forest(found):
    ways = ["labels", "taught", "MUNGE", "GAN"]
    cells = [
        [kind, *(_around(found[f"{kind}: {way}"]) for way in ways)] for kind in ("network", "tree")
    ]
    yield f"Breast cancer, 200 rows; a forest of 500 trees has {_around(found['forest'])}:\n"
    yield table(["student", *ways], cells)


def _scores(found):
    means = [each["mean"] for each in found]
    rise = "rise with it" if means == sorted(set(means)) else "DO NOT rise with it"
    yield f"Compression scores of one GAN while it trains {rise}:\n"
    heads = ["epochs", *(str(each["epochs"]) for each in found)]
    yield table(heads, [["score", *(f"{each['mean']:.3f} ± {each['half']:.3f}" for each in found)]])


def _students(rows):
    cells = []
    for data, found in rows.items():
        kinds = dict.fromkeys(name.split(":")[0] for name in found if ":" in name)
        for kind in kinds:
            pair = [found[f"{kind}: {way}"] for way in ("labels", "taught")]
            teacher, gain = f"{found['teacher']:.2f}", _shown(_gain(*reversed(pair)))
            name, size = data.split("/")[1:]
            cells.append([kind, name, f"{int(size):,}", teacher, *map(_around, pair), gain])
    yield "Convolutional students on 500 images, of teachers that were trained on these or more:\n"
    heads = ["student", "data", "teacher's images", "teacher", "labels", "taught", "gain"]
    yield table(heads, cells, "llrrrrl")


@figures
def gan_distillation():
    rows = results("gan_distillation")["rows"]
    students = {name: rows[name] for name in sorted(rows) if name.startswith("students/")}
    parts = list(_ways(rows))
    parts += [*_forest(rows["table"]), *_scores(rows["score"]), *_students(students)]
    return "\n".join(parts)


@figures
def channel_pruning():
    """Means over networks and samples, with the loss against the whole networks."""
    rows, found = [], results("channel_pruning")["rows"]
    whole = {row["seed"]: row["whole"] for row in found}
    for score, refitted in dict.fromkeys((row["score"], row["refitted"]) for row in found):
        cells = []
        for part in (0.5, 0.25):
            own = [
                row
                for row in found
                if (row["score"], row["refitted"], row["part"]) == (score, refitted, part)
            ]
            lost = statistics.mean(row["whole"] - row["accuracy"] for row in own)
            mean = statistics.mean(row["accuracy"] for row in own)
            cells += [f"{100 * mean:.2f}", f"{100 * lost:.2f}"]
        rows.append([f"`{score}`", "yes" if refitted else "no", *cells])
    heads = ["`score=`", "refitted", "half: accuracy", "lost", "quarter: accuracy", "lost"]
    samples = len({(row["seed"], row["sampling"]) for row in found if row["refitted"]})
    return table(heads, rows, "llrrrr") + (
        f"\nWhole networks: {100 * statistics.mean(whole.values()):.2f}. "
        f"{len(whole)} networks, {samples} samples in all.\n"
    )


@figures
def fewer_macs():
    ways = {}
    for row in results("fewer_macs")["rows"]:
        ways.setdefault(row["way"], []).append(row)

    def mean(runs, key):
        return sum(run[key] for run in runs) / len(runs)

    rows = [
        [way, f"{mean(runs, 'macs') / 1e6:.2f}", f"{mean(runs, 'weights'):,.0f}"]
        + [f"{100 * mean(runs, key):.2f}" for key in ("accuracy", "tuned")]
        for way, runs in ways.items()
    ]
    seeds = len(next(iter(ways.values())))
    return (
        table(["", "M MACs", "weights", "accuracy", "fine-tuned"], rows)
        + f"\nMeans of {seeds} seeds, {results('fewer_macs')['images']:,} training images.\n"
    )


@figures
def pruned_latency():
    found = results("pruned_latency")
    rows = [
        [
            row["network"],
            f"`{row['optimize']}`",
            f"{row['ratio']:g}",
            f"{1 - row['macs'][1] / row['macs'][0]:.1%}".replace("%", " %"),
            *(f"{ms:.2f}" for ms in row["milliseconds"]),
            f"{row['share']:.0%}".replace("%", " %"),
        ]
        for row in found["rows"]
    ]
    heads = ["network", "`optimize=`", "ratio", "fewer MACs", "whole, ms", "pruned, ms", "share"]
    threads = found["threads"]
    return table(heads, rows, "llrrrrr") + (
        f"\nBatch of {found['batch']}, {threads} thread{'s' if threads > 1 else ''}.\n"
    )


def pages():
    """List of the pages that may have figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def rendered(text):
    """The text of a page with its figures as the results have them."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{FIGURES[block[2]]()}\n{block[4]}", text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    arguments = parser.parse_args()
    stale = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if rendered(text) != text:
            stale.append(page.name)
            if not arguments.check:
                page.write_text(rendered(text), encoding="utf-8")
    print(f"{'Stale' if arguments.check else 'Written'}: {', '.join(stale) or 'nothing'}")
    return int(arguments.check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
