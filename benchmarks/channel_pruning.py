"""Channels of a small MNIST network, pruned to a half and a quarter without fine-tuning.

    python benchmarks/channel_pruning.py --data mnist.npz [--json FILE] [--seeds 3] [--samplings 3]

A network of four convolutions (32, 64, 96, 96 channels) is trained once for each seed. The channels
that convolutions 2 to 4 read are pruned to a part, by each score, with and without refitting by
least squares on 500 images of the training set, drawn anew for each sampling. The test set is
looked at for the table alone. Seeds whose rows are all in the JSON file are not run again.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from record import write

import tfcomp

IMAGES, POSITIONS = 500, 10
# Score, and whether the layers that read are refitted.
WAYS = [
    ("least_squares", True),
    ("lasso", True),
    ("magnitude", True),
    ("random", True),
    ("magnitude", False),
    ("lasso", False),
]
NAMES = ("conv1", "conv2", "conv3")


def load(path):
    if path:
        with np.load(path) as file:
            arrays = [file[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    else:
        train, test = keras.datasets.mnist.load_data()
        arrays = [*train, *test]
    x, y, xt, yt = arrays
    return x[..., None] / np.float32(255), y, xt[..., None] / np.float32(255), yt


def make(seed):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((28, 28, 1))
    for number, (filters, strides) in enumerate(((32, 1), (64, 2), (96, 2), (96, 1)), 1):
        x = layers.Conv2D(
            filters, 3, strides, padding="same", activation="relu", name=f"conv{number}"
        )(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, layers.Dense(10, name="out")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    return model


def accuracy(model, x, y):
    return float(model.evaluate(x, y, batch_size=500, verbose=0, return_dict=True)["accuracy"])


def prune(model, part, score, reconstruct, images, seed):
    if score == "random":
        rng = np.random.default_rng(seed)
        score = lambda group: rng.uniform(size=group.channels)  # noqa: E731
    targets = {...: None, **{name: {"ratio": 1 - part} for name in NAMES}}
    begin = time.process_time()
    done = tfcomp.prune_channels(
        model,
        1 - part,
        images if reconstruct or score == "lasso" else None,
        targets,
        score=score,
        reconstruct=reconstruct,
        positions=POSITIONS,
        seed=seed,
        verbose=0,
    )
    return done, time.process_time() - begin


def known(path):
    """The rows of a JSON file, if there is one."""
    if path is None or not path.exists():
        return []
    return json.loads(path.read_text())["results"]["rows"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--samplings", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    x, y, xt, yt = load(arguments.data)
    rows = known(arguments.json)
    for seed in range(arguments.seeds):
        refitted = [reconstruct for _, reconstruct in WAYS]
        wanted = 2 * sum(arguments.samplings if each else 1 for each in refitted)
        if sum(row["seed"] == seed for row in rows) == wanted:
            continue
        rows = [row for row in rows if row["seed"] != seed]
        model = make(seed)
        model.fit(x, y, batch_size=128, epochs=arguments.epochs, verbose=0)
        whole = accuracy(model, xt, yt)
        print(f"seed {seed}: {whole:.4f}, {model.count_params():,} weights", flush=True)
        for part in (0.5, 0.25):
            for score, reconstruct in WAYS:
                for sampling in range(arguments.samplings if reconstruct else 1):
                    rng = np.random.default_rng((seed, sampling))
                    images = x[rng.permutation(len(x))[:IMAGES]]
                    done, seconds = prune(model, part, score, reconstruct, images, sampling)
                    rows.append(
                        {
                            "seed": seed,
                            "part": part,
                            "score": score,
                            "refitted": reconstruct,
                            "sampling": sampling,
                            "whole": whole,
                            "accuracy": accuracy(done.model, xt, yt),
                            "weights": done.model.count_params(),
                            "seconds": seconds,
                        }
                    )
                    last = rows[-1]
                    print(
                        f"  {part} {score:14} {'refitted' if reconstruct else 'as it was':10}"
                        f" {last['accuracy']:.4f}  {seconds:.1f} s",
                        flush=True,
                    )
                    write(arguments.json, {"rows": rows})
    print("\npart  score           refitted  mean accuracy  mean loss in points")
    for part in (0.5, 0.25):
        for score, reconstruct in WAYS:
            own = [
                r
                for r in rows
                if (r["part"], r["score"], r["refitted"]) == (part, score, reconstruct)
            ]
            mean = np.mean([r["accuracy"] for r in own])
            lost = 100 * np.mean([r["whole"] - r["accuracy"] for r in own])
            print(f"{part:4}  {score:14}  {reconstruct!s:8}  {mean:13.4f}  {lost:19.2f}")


if __name__ == "__main__":
    main()
