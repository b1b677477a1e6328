"""A recurrent language model pruned gate by gate: perplexity before, after, and after retraining.

    python benchmarks/lstm_pruning.py [--seed 1] [--epochs 6]

The text is the source code of the standard library of the Python that runs this, by characters.
Its files are dealt out by name: one in ten for validation, one in ten for the test. Embedding,
LSTM of 192 units, softmax. "cut" is what pruning does by itself; the learning rate is zero then.
"""

import argparse
import os
import pathlib
import zlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from record import write

import tfcomp

LENGTH = 64
BATCH = 128
CHARACTERS = 98  # printable ASCII, newline, and one for all others
SPARSITIES = (0.5, 0.8, 0.9)


def corpus(limit):
    """Dict of part -> integer array `(sequences, LENGTH + 1)`."""
    folder = pathlib.Path(os.__file__).parent
    parts = {"train": [], "validation": [], "test": []}
    for path in sorted(folder.glob("*.py")):
        ticket = zlib.crc32(path.name.encode()) % 10
        name = {0: "validation", 1: "test"}.get(ticket, "train")
        raw = np.frombuffer(path.read_bytes(), np.uint8).astype(np.int32)
        codes = np.where((raw >= 32) & (raw < 127), raw - 31, np.where(raw == 10, 96, 97))
        parts[name].append(codes)
    result = {}
    for name, files in parts.items():
        text = np.concatenate(files)[: limit if name == "train" else limit // 8]
        count = (len(text) - 1) // LENGTH
        rows = np.arange(count)[:, None] * LENGTH + np.arange(LENGTH + 1)
        result[name] = text[rows]
    return result


def network():
    return keras.Sequential(
        [
            keras.Input((LENGTH,), dtype="int32"),
            keras.layers.Embedding(CHARACTERS, 64),
            keras.layers.LSTM(192, return_sequences=True),
            keras.layers.Dense(CHARACTERS),
        ]
    )


def compiled(model, rate):
    model.compile(
        keras.optimizers.Adam(rate, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


def fit(model, rows, epochs, *callbacks):
    model.fit(
        rows[:, :-1],
        rows[:, 1:],
        batch_size=BATCH,
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )


def perplexity(model, rows):
    return float(np.exp(model.evaluate(rows[:, :-1], rows[:, 1:], batch_size=256, verbose=0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--characters", type=int, default=2_000_000)
    parser.add_argument("--json", default="lstm_pruning.json")
    arguments = parser.parse_args()
    data = corpus(arguments.characters)
    keras.utils.set_random_seed(arguments.seed)
    model = network()
    steps = arguments.epochs * -(-len(data["train"]) // BATCH)
    decay = keras.optimizers.schedules.CosineDecay(4e-3, steps, alpha=0.05)
    fit(compiled(model, decay), data["train"], arguments.epochs)
    dense = model.get_weights()
    rows = []

    def report(name):
        row = {"name": name} | {
            part: perplexity(model, data[part]) for part in ("validation", "test")
        }
        gates = np.split(keras.ops.convert_to_numpy(model.layers[1].cell.recurrent_kernel), 4, -1)
        row["gates"] = [float(np.mean(gate == 0)) for gate in gates]
        rows.append(row)
        print(
            f"{name:34} validation {row['validation']:.3f}  test {row['test']:.3f}  zeros in "
            "recurrent i, f, c, o: " + ", ".join(f"{zeros:.0%}" for zeros in row["gates"]),
            flush=True,
        )

    report(f"dense, {model.count_params():,} parameters")
    # As many more epochs without pruning: what retraining alone gives.
    fit(compiled(model, decay), data["train"], arguments.epochs)
    report("dense, trained on")
    for sparsity in SPARSITIES:
        for per_gate in (False, True):
            name = f"{sparsity:.0%}, " + ("per gate" if per_gate else "whole matrices")
            model = network()
            model.set_weights(dense)
            at_once = tfcomp.schedules.ConstantSparsity(sparsity, begin_step=0)
            pruning = tfcomp.callbacks.GradualPruning(at_once, per_gate=per_gate)
            fit(compiled(model, 0.0), data["train"][:BATCH], 1, pruning)
            report(f"{name}, cut")
            model = compiled(network(), decay)
            model.set_weights(dense)
            slowly = tfcomp.schedules.PolynomialDecay(0.0, sparsity, 0, steps // 2, frequency=20)
            pruning = tfcomp.callbacks.GradualPruning(slowly, per_gate=per_gate)
            fit(model, data["train"], arguments.epochs, pruning)
            report(f"{name}, retrained")
    results = {"seed": arguments.seed, "parameters": model.count_params(), "rows": rows}
    write(arguments.json, results)


if __name__ == "__main__":
    main()
