"""Files with engines' own kernels beside the fastest engine for the same network in floats.

    python benchmarks/file_kernels.py [--only NAME ...] [--folder KEPT] [--json FILE]

Every network is exported by `tfcomp.export(optimize="latency")` to the formats whose engines have
kernels for it, and, in floats, to a SavedModel, LiteRT, ONNX and OpenVINO, to that also for a fixed
batch size, as our file of it is. Files that a folder has already are not written again, nor are
rows that the JSON has timed again. All sides take turns in one run of `tfcomp.benchmark`; the ratio
is the time of the fastest side in floats by ours.
"""

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from inference import ENDINGS, NETWORKS, Files, low_bit_dense, on_cores, timed
from record import Rows

import tfcomp


def low_bit_signs():
    """4096 x 4096 with weights of four bits and inputs of signs."""
    layer = tfcomp.layers.QuantizedDense(4096, input_quantizer="binary")
    model = keras.Sequential([keras.Input((4096,)), layer])
    codes = np.random.default_rng(0).integers(-7, 8, (4096, 4096))
    layer.kernel.assign(codes.astype("float32") * np.float32(0.01))
    return model


# Of each network: how it is made, formats with kernels for it, batch sizes.
CASES = {
    "binary VGG": (NETWORKS["binary VGG"][0], ["openvino"], [1, 32]),
    "two binary convolutions": (NETWORKS["two binary convolutions"][0], ["openvino"], [1]),
    "binary dense": (NETWORKS["binary dense"][0], ["openvino", "onnx"], [1, 8]),
    "ternary dense": (NETWORKS["ternary dense"][0], ["openvino"], [1]),
    "4-bit dense": (NETWORKS["4-bit dense"][0], ["litert", "onnx", "openvino"], [1, 8]),
    "8-bit dense": (lambda: low_bit_dense(255), ["openvino"], [1]),
    "4-bit dense, signs": (low_bit_signs, ["onnx"], [1, 8]),
}


def ours(files, formats, batch):
    """Dict from names to paths of files with kernels for a batch size."""
    found = {}
    for format in formats:
        arguments = {"format": format, "optimize": "latency", "batch_sizes": batch}
        name = f"tfcomp {format} {batch}"
        found[format] = files.path(name, ENDINGS[format], **arguments)
        if format == "openvino":
            arguments["input_signature"] = files.fixed(batch)
            name = f"tfcomp openvino fixed {batch}"
            found["openvino fixed"] = files.path(name, ".xml", **arguments)
    return {f"tfcomp {name}": path for name, path in found.items() if path}


def row_of(files, formats, batch, arguments):
    """What is measured of one network and batch size."""
    # Differences are from TensorFlow's outputs, which are the first.
    floats = files.floats(batch)
    sides = floats | ours(files, formats, batch)
    if arguments.write_only:
        return None
    models = timed(sides, (batch, *files.model.input_shape[1:]), arguments.rounds, 1)
    name = min(floats, key=lambda name: models[name]["milliseconds"])
    milliseconds = models[name]["milliseconds"]
    cold = min(models[name]["cold"] for name in floats)
    found = {
        side.removeprefix("tfcomp "): {
            "times": milliseconds / model["milliseconds"],
            "times cold": cold / model["cold"],
            **model,
        }
        for side, model in models.items()
        if side not in floats
    }
    fastest = {"fastest": name, "milliseconds": milliseconds, "bytes": models[name]["bytes"]}
    return fastest | {"ours": found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", help="where files are kept; by default they are not")
    parser.add_argument("--write-only", action="store_true", help="times nothing")
    parser.add_argument("--again", action="store_true", help="also what the JSON has")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    on_cores(1)
    order = list(CASES)
    rows = Rows(arguments.json, lambda row: (order.index(row["network"]), row["batch"]))
    with tempfile.TemporaryDirectory() as passing:
        for name in arguments.only:
            make, formats, batches = CASES[name]
            files = Files(make, arguments.folder or passing, name)
            for batch in batches:
                key = {"network": name, "batch": batch}
                if rows.has(**key) and not arguments.again:
                    continue
                row = row_of(files, formats, batch, arguments)
                if row is not None:
                    rows.drop(**key)
                    rows.add(**key, **row)


if __name__ == "__main__":
    main()
