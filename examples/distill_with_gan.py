"""A forest of 500 trees becomes a small network, with and without generated data.

    python examples/distill_with_gan.py [--steps 1500] [--seed 1]

The table is scikit-learn's breast cancer, of which 200 rows are learned from. A dense network
learns on their labels; on what the forest says of them; and with 80 % of fresh rows, those of MUNGE
and those of a conditional GAN. A single tree is grown on the same. Printed are accuracies on the
other rows, and the GAN's compression score. It takes about two minutes.
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

import tfcomp
from tfcomp.distillation import Munge, compression_score, mixture, table_gan

layers = keras.layers


def network(x):
    """A dense network of logits, compiled."""
    normal = layers.Normalization()
    normal.adapt(x)
    hidden = [layers.Dense(16, activation="relu"), layers.Dense(2)]
    model = keras.Sequential([keras.Input(x.shape[1:]), normal, *hidden], name="network")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=1500, help="of each network")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    x, y = load_breast_cancer(return_X_y=True)
    x, others, y, wanted = train_test_split(
        x.astype("float32"), y, train_size=200, random_state=options.seed, stratify=y
    )
    forest = RandomForestClassifier(500, random_state=options.seed).fit(x, y)
    print(f"forest of 500 trees   {100 * forest.score(others, wanted):6.2f} %")
    epochs = -(-options.steps // -(-len(x) // 32))

    keras.utils.set_random_seed(options.seed)
    gan = table_gan(x, classes=2, width=64, rate=1e-3)
    gan.fit(x, y, batch_size=32, epochs=epochs, verbose=0)

    keras.utils.set_random_seed(options.seed)
    alone = network(x)
    alone.fit(x, y, batch_size=32, epochs=epochs, verbose=0)
    tree = DecisionTreeClassifier(max_leaf_nodes=16, random_state=options.seed)
    print(f"{'':20} {'network':>9} {'tree':>9}")

    def report(name, model, tree):
        accuracies = model.evaluate(others, wanted, verbose=0)[1], tree.score(others, wanted)
        print(f"{name:20} " + " ".join(f"{100 * each:7.2f} %" for each in accuracies))

    report("on labels", alone, tree.fit(x, y))
    for name, source in {"taught": None, "with MUNGE": Munge(x), "with the GAN": gan}.items():
        keras.utils.set_random_seed(options.seed)
        done = tfcomp.distill(
            forest,
            network(x),
            (x, y),
            epochs,
            # A forest gives probabilities of zero, of which there are no logits to soften.
            temperature=1.0,
            student_loss_weight=0.0,
            source=source,
            seed=options.seed,
            verbose=0,
        )
        rows, answers = mixture(forest, x, source, samples=2000)
        report(name, done.model, tree.fit(rows, answers.argmax(-1)))

    found = compression_score(
        gan,
        forest,
        lambda: network(x),
        (x, y),
        (others, wanted),
        epochs=epochs // 2,
        temperature=1.0,
    )
    print(f"compression score of the GAN: {found.score:.3f} (1: as good as real rows)")


if __name__ == "__main__":
    main()
