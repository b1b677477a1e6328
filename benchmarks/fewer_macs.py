"""A VGG-like network on MNIST with a quarter of its multiplications, in several ways.

    python benchmarks/fewer_macs.py --data mnist.npz [--json FILE] [--part 0.25] [--epochs 4]
        [--tuning 6] [--images 12000] [--seeds 3]

Six convolutions of 3 x 3 (16, 16, 32, 32, 64, 64 channels), pooled after each two, are trained
once for each seed, on a part of the training set. The copy that each way makes has at most a part
of the multiplications. It is tested as it is, made with 500 of these images and no labels, and
again when it was trained for a few epochs more, as is the whole network. `3C` is He et al.'s
combination: the spatial and the channel factorization and the pruning save the same share each. The
test set is looked at for the table alone. Rows that are in the JSON file are not made again.
"""

import argparse
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from channel_pruning import accuracy, known, load
from keras import layers
from record import write

import tfcomp

IMAGES, BATCH = 500, 128


def make(seed):
    keras.utils.set_random_seed(seed)
    x = inputs = keras.Input((28, 28, 1))
    for block, filters in enumerate((16, 32, 64), 1):
        for number in (1, 2):
            name = f"conv{block}_{number}"
            x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(x)
    x = layers.Dense(128, activation="relu", name="dense")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, name="out")(x))


def train(model, x, y, epochs, rate):
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * (len(x) // BATCH))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)


def macs(model):
    return sum(tfcomp.summary(model, print_table=False).macs.values())


def three(model, part, images):
    """Spatial factorization, then that of channels, then pruning, each of which takes its third."""
    each = part ** (1 / 3)
    model = tfcomp.decompose(model, macs=each, method="spatial", data=images, verbose=0).model
    model = tfcomp.decompose(model, macs=each, data=images, verbose=0).model
    return tfcomp.prune_channels(model, data=images, macs=each, verbose=0).model


def pruned(score, reconstruct):
    def make_smaller(model, part, images):
        data = images if reconstruct else None
        done = tfcomp.prune_channels(model, data=data, macs=part, score=score, verbose=0)
        return done.model

    return make_smaller


def decomposed(method):
    return lambda model, part, images: (
        tfcomp.decompose(model, macs=part, method=method, data=images, verbose=0).model
    )


def copied(model, part, images):
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


WAYS = {
    "whole": copied,
    "channels, least squares": pruned("least_squares", True),
    "channels, lasso": pruned("lasso", True),
    "channels, magnitude, not refitted": pruned("magnitude", False),
    "spatial": decomposed("spatial"),
    "tucker": decomposed("tucker"),
    "3C": three,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--part", type=float, default=0.25)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--tuning", type=int, default=6)
    parser.add_argument("--images", type=int, default=12000)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    x, y, xt, yt = load(arguments.data)
    x, y = x[: arguments.images], y[: arguments.images]
    rows = known(arguments.json)
    for seed in range(arguments.seeds):
        done = {row["way"] for row in rows if row["seed"] == seed}
        if done == set(WAYS):
            continue
        model = make(seed)
        train(model, x, y, arguments.epochs, 2e-3)
        images = x[np.random.default_rng(seed).permutation(len(x))[:IMAGES]]
        for name in [way for way in WAYS if way not in done]:
            begin = time.process_time()
            small = WAYS[name](model, arguments.part, images)
            seconds = time.process_time() - begin
            row = {"seed": seed, "way": name, "macs": macs(small)}
            row |= {"weights": small.count_params(), "seconds": seconds}
            small.compile(metrics=["accuracy"])
            row["accuracy"] = accuracy(small, xt, yt)
            if arguments.tuning:
                train(small, x, y, arguments.tuning, 1e-3)
                row["tuned"] = accuracy(small, xt, yt)
            print(row, flush=True)
            rows.append(row)
            write(arguments.json, {"part": arguments.part, "images": len(x), "rows": rows})


if __name__ == "__main__":
    main()
