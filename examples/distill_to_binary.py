"""A binary network learns from its own float teacher: scikit-learn's digits.

    python examples/distill_to_binary.py [--steps 1000] [--seed 1]

A convolutional network is trained on 1,000 digits. Then the same network with two binary
convolutions, in weights and inputs, is trained twice, with no more than 100 of these at hand: on
labels alone, and by `tfcomp.distill` on what the float one says. (With all 1,000 labels both would
be about as good.) The taught one is saved by itself, in one file. Printed are accuracies on the
other 797 digits. It takes less than a minute.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tfcomp

layers = keras.layers


def network(steps, name):
    """The float network, compiled: normalization, and no ReLU, before layers that take signs."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(32, 3, padding="same", name="first"),
            layers.BatchNormalization(momentum=0.9),
            layers.Conv2D(32, 3, padding="same", name="second"),
            layers.MaxPooling2D(2),
            layers.BatchNormalization(momentum=0.9),
            layers.Conv2D(64, 3, padding="same", name="third"),
            layers.BatchNormalization(momentum=0.9),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, name="logits"),
        ],
        name=name,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # With signs that flip until the end, statistics of batch normalization fit no network.
    rate = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1000, help="of each network")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--file", default="binary.tfc")
    options = parser.parse_args()

    images, classes = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    x, others, y, wanted = train_test_split(
        images, classes, train_size=1000, random_state=0, stratify=classes
    )

    few, labels = x[:100], y[:100]
    # Batches of 32 in an epoch.
    long, short = -(-options.steps // 32), -(-options.steps // 4)

    def report(name, model):
        accuracy = model.evaluate(others, wanted, verbose=0)[1]
        print(f"{name:24} {100 * accuracy:6.2f} %")

    keras.utils.set_random_seed(options.seed)
    teacher = network(options.steps, "teacher")
    teacher.fit(x, y, batch_size=32, epochs=long, verbose=0)
    report("float, 1,000 labels", teacher)

    rules = dict.fromkeys(("second", "third"), tfcomp.layers.BinaryConv2D)
    keras.utils.set_random_seed(options.seed)
    alone = tfcomp.swap_layers(network(options.steps, "alone"), rules)
    alone.fit(few, labels, batch_size=32, epochs=short, verbose=0)
    report("binary, 100 labels", alone)

    keras.utils.set_random_seed(options.seed)
    done = tfcomp.distill(
        teacher,
        tfcomp.swap_layers(network(options.steps, "binary"), rules),
        (few, labels),
        short,
        temperature=tfcomp.schedules.PiecewiseLinear([0, options.steps], [6, 2]),
        student_loss_weight=0.1,
        verbose=1,
    )
    report("binary, taught on 100", done.model)
    print(done)

    tfcomp.save(done.model, options.file, latent=False)
    report("the same from its file", tfcomp.load(options.file))
    print(f"{options.file}: {os.path.getsize(options.file):,} bytes")


if __name__ == "__main__":
    main()
