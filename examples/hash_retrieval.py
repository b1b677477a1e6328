"""Image search by binary codes: HashNet on handwritten digits, beside a plain float embedding.

    python examples/hash_retrieval.py [--bits 8 16 32 48] [--epochs 40] [--seed 1]

The digits are scikit-learn's, 1,797 images of 8x8. Half of them are learned from and searched, the
other half are queries. A small network learns codes by continuation; the float embedding is the
same network with real outputs of the same length, trained by the same loss. Printed is mean
average precision (MAP), by Hamming distance for codes and by inner product for floats.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import tfcomp
from tfcomp.retrieval import hamming_distances, mean_average_precision, pack_bits


def trained(head, x, y, epochs, callbacks):
    """A small network with `head` on top, after training."""
    model = keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, activation="relu"),
            keras.layers.Dense(128, activation="relu"),
            head,
        ]
    )
    model.compile(keras.optimizers.Adam(2e-3), tfcomp.losses.WeightedPairwise())
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0, callbacks=callbacks)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bits", type=int, nargs="+", default=[8, 16, 32, 48])
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", help="file to write the results to")
    options = parser.parse_args()

    images, classes = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    x, queries, y, wanted = train_test_split(
        images, classes, test_size=0.5, random_state=0, stratify=classes
    )
    relevant = wanted[:, None] == y

    print(f"{'bits':>5} {'MAP of codes':>13} {'MAP of floats':>14} {'bytes':>6} {'of floats':>10}")
    rows = []
    for bits in options.bits:
        keras.utils.set_random_seed(options.seed)
        continuation = tfcomp.callbacks.HashContinuation(gamma=0.1)
        coder = trained(tfcomp.layers.HashCode(bits), x, y, options.epochs, [continuation])
        packed = [pack_bits(coder.predict(part, verbose=0)) for part in (queries, x)]
        by_code = mean_average_precision(hamming_distances(*packed), relevant)

        keras.utils.set_random_seed(options.seed)
        plain = trained(keras.layers.Dense(bits, activation="tanh"), x, y, options.epochs, [])
        floats = [plain.predict(part, verbose=0) for part in (queries, x)]
        by_float = mean_average_precision(-floats[0] @ floats[1].T, relevant)
        sizes = packed[1][0].nbytes, floats[1][0].nbytes
        print(f"{bits:5} {by_code:13.4f} {by_float:14.4f} {sizes[0]:6} {sizes[1]:10}")
        maps = {"MAP of codes": float(by_code), "MAP of floats": float(by_float)}
        rows.append({"bits": bits, **maps, "bytes": sizes[0], "bytes of floats": sizes[1]})
    if options.json:
        sys.path.append(os.path.join(os.path.dirname(__file__), "..", "benchmarks"))
        from record import write

        write(options.json, {"seed": options.seed, "epochs": options.epochs, "rows": rows})


if __name__ == "__main__":
    main()
