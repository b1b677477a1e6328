"""Files with engines' own kernels beside the fastest engine for the same network in floats.

    python benchmarks/file_kernels.py [--only NAME ...] [--folder KEPT] [--json FILE]

Every network is exported by `tfcomp.export(optimize="latency")` to the formats whose engines have
kernels for it, and, in floats, to a SavedModel, LiteRT, ONNX and OpenVINO, to that also for a fixed
batch size, as our file of it is. Files that a folder has already are not written again. All sides
take turns in one run of `tfcomp.benchmark`; the ratio is the time of the fastest side in floats by
ours. `--json` adds to what the file has of other networks.
"""

import argparse
import json
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from inference import NETWORKS, on_cores
from record import write

import tfcomp

ENDINGS = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}


def low_bit_signs():
    """4096 x 4096 with weights of four bits and inputs of signs."""
    layer = tfcomp.layers.QuantizedDense(4096, input_quantizer="binary")
    model = keras.Sequential([keras.Input((4096,)), layer])
    codes = np.random.default_rng(0).integers(-7, 8, (4096, 4096))
    layer.kernel.assign(codes.astype("float32") * np.float32(0.01))
    return model


# Of each network: how it is made, formats with kernels for it, batch sizes.
CASES = {
    "binary VGG": (NETWORKS["binary VGG"], ["openvino"], [1, 32]),
    "two binary convolutions": (NETWORKS["two binary convolutions"], ["openvino"], [1]),
    "binary dense": (NETWORKS["binary dense"], ["openvino", "onnx"], [1, 8]),
    "4-bit dense": (NETWORKS["4-bit dense"], ["litert", "onnx"], [1, 8]),
    "4-bit dense, signs": (low_bit_signs, ["onnx"], [1, 8]),
}


def fixed(model, batch):
    return [keras.InputSpec(shape=(batch, *model.input_shape[1:]), dtype="float32", name="x")]


def sides(model, formats, batch, folder):
    """Dict from names to paths; ours begin with "tfcomp"."""
    found = {}

    def side(name, ending, **arguments):
        found[name] = os.path.join(folder, name.replace(" ", "_") + ending)
        if not os.path.exists(found[name]):
            tfcomp.export(model, found[name], verbose=0, **arguments)

    # The first is what differences are from.
    side("TensorFlow", "")
    for format in formats:
        arguments = {"format": format, "optimize": "latency", "batch_sizes": batch}
        side(f"tfcomp {format} {batch}", ENDINGS[format], **arguments)
        if format == "openvino":
            signature = fixed(model, batch)
            side(f"tfcomp openvino fixed {batch}", ".xml", input_signature=signature, **arguments)
    for format, ending in ENDINGS.items():
        side(format, ending, format=format)
    signature = fixed(model, batch)
    side(f"openvino fixed {batch}", ".xml", format="openvino", input_signature=signature)
    return found


def measured(name, folder, rounds, write_only):
    """Yields what was measured, batch size by batch size."""
    make, formats, batches = CASES[name]
    keras.utils.set_random_seed(0)
    model = make()
    for batch in batches:
        paths = sides(model, formats, batch, folder)
        if write_only:
            continue
        x = np.random.default_rng(batch).standard_normal((batch, *model.input_shape[1:]))
        result = tfcomp.benchmark(paths, x.astype("float32"), rounds=rounds, threads=1, verbose=0)
        print(f"{name}, batch {batch}\n{result}", flush=True)
        floats = [row for row in result if not row.path.startswith("tfcomp")]
        fastest = min(floats, key=lambda row: row.milliseconds)
        ratios = {
            row.path.removeprefix("tfcomp ").removesuffix(f" {batch}"): {
                "times": fastest.milliseconds / row.milliseconds,
                "milliseconds": row.milliseconds,
                "bytes": row.bytes,
                "difference": row.difference,
            }
            for row in result
            if row.path.startswith("tfcomp")
        }
        one = {"network": name, "batch": batch, "fastest": fastest.path.removesuffix(f" {batch}")}
        yield {**one, "milliseconds": fastest.milliseconds, "bytes": fastest.bytes, "ours": ratios}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--folder", help="where files are kept; by default they are not")
    parser.add_argument("--write-only", action="store_true", help="times nothing")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    on_cores(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    results = []
    if arguments.json and os.path.exists(arguments.json):
        with open(arguments.json, encoding="utf-8") as file:
            results = json.load(file)["results"]
        results = [row for row in results if row["network"] not in arguments.only]
    with tempfile.TemporaryDirectory() as passing:
        for name in arguments.only:
            folder = os.path.join(arguments.folder or passing, name.replace(" ", "_"))
            os.makedirs(folder, exist_ok=True)
            for row in measured(name, folder, arguments.rounds, arguments.write_only):
                results.append(row)
                results.sort(key=lambda row: (list(CASES).index(row["network"]), row["batch"]))
                write(arguments.json, results)


if __name__ == "__main__":
    main()
