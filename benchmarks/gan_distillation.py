"""What a student gains by a teacher, and by generated data, where data are few.

    python benchmarks/gan_distillation.py [--data mnist.npz] [--only digits/500 table ...]

Rows, each written as soon as it is there, so that a run which was broken off goes on:

* `digits/N`: N training images of scikit-learn's digits, the others for the test; with `--data`,
  `mnist/N`, its images at half their size, and 2,000 of its test set. A convolutional teacher and
  an AC-GAN are trained once on the N images; a small dense student is trained for as many steps on
  labels, on the teacher's answers to the same images, and with 80 % of them fresh: shifted, from
  MUNGE or from the GAN; at last on the GAN's alone.
* `table`: breast cancer, a forest of 500 trees; a dense network, and one tree.
* `score`: the compression score of one GAN after more and more epochs.
* `students/digits/500` and, with `--data`, `students/mnist/500` and `students/mnist/5000`: a binary
  network, a 95 % sparse one and one of a quarter of the channels, on 500 images, on labels and
  taught. Their teacher was trained on as many images as the name says, those 500 among them. The
  sparse and the narrow student start from its weights in both cases.

Every figure is the mean over the seeds of the students, with the half-width of its 95 % interval by
Student's t.

Settings were chosen on training images 10,000 to 14,000 of MNIST, that no row trains or is tested
on, by students of 500 others:

* Learning rates of dense students: of 3e-3 and 1e-2 the better one, for labels and for teachers.
  Being taught is slower: with 3e-3 it is a point behind labels after 400 steps, and level after
  1,000, when fresh images have not told yet.
* Temperature: 4, 8 and 20 are alike; 1 loses more than a point with fresh images.
* The same of a forest, on parts of its own rows: 1. All trees often agree, and a probability of
  zero is no logit that a student could learn.
* Share of fresh images: 0.5 and the paper's 0.8 are alike.
* Steps of the GAN: 1,000 lose a point against 3,000, and 8,000 gain less than half of one.
* A teacher of 5,000 images needs 20 epochs; after seven it says less.
* Of a teacher that has seen no more images than they have, binary, sparse and narrow students learn
  nothing that labels do not say; of one that has seen ten times as many, much. So there is a row of
  each kind.
* The binary student wants a learning rate that falls to zero; without, less than half of these
  images are right.
"""

import argparse
import functools
import json
import math
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Steps of networks this small are done before others have compiled them.
os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
from record import write
from scipy.stats import t as student_t
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

import tfcomp
from tfcomp.distillation import Augmented, Munge, SampleImages, image_gan, mixture, table_gan
from tfcomp.methods.gan_assisted.score import accuracy

layers = keras.layers
BATCH, SHARE, TEMPERATURE = 32, 0.8, 4.0
# Of dense students, on labels and taught.
RATES = 3e-3, 1e-2


def spread(values):
    """Mean and half-width of the 95 % interval."""
    values = np.array(values, "float64")
    half = student_t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return {"mean": float(values.mean()), "half": float(half), "runs": values.tolist()}


def compiled(model, rate):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss)
    return model


def convolutional(shape, width):
    same = {"padding": "same", "activation": "relu"}
    return compiled(
        keras.Sequential(
            [
                keras.Input(shape),
                layers.Conv2D(width, 3, name="first", **same),
                layers.Conv2D(width, 3, name="second", **same),
                layers.MaxPooling2D(2),
                layers.Conv2D(2 * width, 3, name="third", **same),
                layers.Flatten(),
                layers.Dropout(0.4),
                layers.Dense(10, name="logits"),
            ]
        ),
        2e-3,
    )


def dense(shape, units, outputs, rate):
    hidden = [layers.Flatten(), layers.Dense(units, activation="relu"), layers.Dense(outputs)]
    return compiled(keras.Sequential([keras.Input(shape), *hidden]), rate)


def images(name, size, data):
    if name == "digits":
        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
        x, others, y, wanted = train_test_split(x, y, train_size=size, random_state=0, stratify=y)
        return (x, y), (others, wanted)
    with np.load(data) as found:
        return tuple(
            (halved(found[f"x_{part}"][:count]), found[f"y_{part}"][:count].astype("int64"))
            for part, count in (("train", size), ("test", 2000))
        )


def halved(x):
    x = np.pad(x / 255.0, [(0, 0), (2, 2), (2, 2)]).reshape(-1, 16, 2, 16, 2)
    return x.mean((2, 4))[..., None].astype("float32")


def shifted(x, rng):
    return np.stack([np.roll(i, rng.integers(-1, 2, 2), (0, 1)) for i in x])


class Answering:
    """A Keras model as a teacher that is asked once for each input, not in every step."""

    def __init__(self, model):
        self._model = model

    def predict(self, rows):
        x = rows.reshape(-1, *self._model.input_shape[1:])
        return self._model.predict(x, batch_size=256, verbose=0)


@functools.cache
def taught(name, size, data, epochs, pictures):
    """Data, teacher and GAN of a row."""
    train, test = images(name, size, data)
    steps = -(-size // BATCH)
    keras.utils.set_random_seed(0)
    teacher = convolutional(train[0].shape[1:], 16)
    teacher.fit(*train, epochs=max(20, -(-1000 // steps)), batch_size=BATCH, verbose=0)
    keras.utils.set_random_seed(0)
    gan = image_gan(train[0].shape[1:], 10, latent=32, width=16, rate=1e-3)
    callbacks = [] if pictures is None else [SampleImages(pictures, frequency=epochs)]
    gan.fit(*train, epochs=epochs, batch_size=BATCH, verbose=0, callbacks=callbacks)
    return train, test, teacher, gan


def pupil(make, seed, teacher, train, test, epochs, source=None, share=SHARE, **arguments):
    """Accuracy of a student that is taught, or of one that learns from labels alone."""
    keras.utils.set_random_seed(seed)
    student = make()
    if teacher is None:
        student.fit(*train, epochs=epochs, batch_size=BATCH, verbose=0, **arguments)
    else:
        is_model = isinstance(teacher, keras.Model)
        who = Answering(teacher) if is_model else teacher
        settings = {
            "temperature": TEMPERATURE if is_model else 1.0,
            "student_loss_weight": 0.0,
            "seed": seed,
        }
        settings |= {"source": source, "share": share, "batch_size": BATCH, "verbose": 0}
        tfcomp.distill(who, student, train, epochs, **settings, **arguments)
    return 100 * accuracy(student, test)


def image_row(name, size, given):
    pictures = pathlib.Path(given.pictures) / f"{name}_{size}" if given.pictures else None
    epochs = -(-given.gan_steps // -(-size // BATCH))
    train, test, teacher, gan = taught(name, size, given.data, epochs, pictures)
    x = train[0]
    ways = {
        "labels": (None, None, SHARE),
        "taught": (teacher, None, SHARE),
        "shifted": (teacher, Augmented(x, shifted), SHARE),
        "MUNGE": (teacher, Munge(x), SHARE),
        "GAN": (teacher, gan, SHARE),
        "GAN alone": (teacher, gan, 1.0),
    }
    rounds = -(-given.steps // -(-size // BATCH))
    found = {}
    for way, (who, source, share) in ways.items():
        make = functools.partial(dense, x.shape[1:], 32, 10, RATES[who is not None])
        runs = [pupil(make, seed, who, train, test, rounds, source, share) for seed in given.seeds]
        found[way] = spread(runs)
    labels = np.arange(500) % 10
    agree = float(
        np.mean(teacher.predict(gan.sample(500, 1, labels), verbose=0).argmax(-1) == labels)
    )
    return {"teacher": 100 * accuracy(teacher, test), "agreement": agree, "ways": found}


def table_row(given):
    runs = {}
    for seed in given.seeds:
        x, y = load_breast_cancer(return_X_y=True)
        x = x.astype("float32")
        x, others, y, wanted = train_test_split(x, y, train_size=200, random_state=seed, stratify=y)
        train, test = (x, y), (others, wanted)
        forest = RandomForestClassifier(500, random_state=seed).fit(*train)
        keras.utils.set_random_seed(seed)
        gan = table_gan(x, 2, width=64, rate=1e-3)
        gan.fit(*train, epochs=150, batch_size=BATCH, verbose=0)
        sources = {"taught": None, "MUNGE": Munge(x), "GAN": gan}
        normal = layers.Normalization()
        normal.adapt(x)

        def make(rate, normal=normal):
            hidden = [layers.Dense(16, activation="relu"), layers.Dense(2)]
            return compiled(keras.Sequential([keras.Input((30,)), normal, *hidden]), rate)

        tree = DecisionTreeClassifier(max_leaf_nodes=16, random_state=seed)
        rounds = -(-given.steps // -(-len(x) // BATCH))
        row = {
            "forest": 100 * accuracy(forest, test),
            "network: labels": pupil(lambda: make(RATES[0]), seed, None, train, test, rounds),
            "tree: labels": 100 * tree.fit(*train).score(*test),
        }
        for way, source in sources.items():
            row[f"network: {way}"] = pupil(
                lambda: make(RATES[1]), seed, forest, train, test, rounds, source
            )
            fresh, answers = mixture(forest, x, source, samples=None if source is None else 2000)
            row[f"tree: {way}"] = 100 * tree.fit(fresh, answers.argmax(-1)).score(*test)
        for way, value in row.items():
            runs.setdefault(way, []).append(value)
    return {way: spread(values) for way, values in runs.items()}


def score_row(given):
    train, test = images("digits", 500, None)
    keras.utils.set_random_seed(0)
    teacher = convolutional((8, 8, 1), 16)
    teacher.fit(*train, epochs=60, batch_size=BATCH, verbose=0)
    keras.utils.set_random_seed(0)
    gan, trained, found = image_gan((8, 8, 1), 10, latent=32, width=16, rate=1e-3), 0, []
    make = functools.partial(dense, (8, 8, 1), 32, 10, RATES[1])
    for epochs in (2, 10, 60):
        gan.fit(*train, initial_epoch=trained, epochs=epochs, batch_size=BATCH, verbose=0)
        trained = epochs
        scores = [
            tfcomp.distillation.compression_score(
                gan, teacher, make, train, test, epochs=20, temperature=TEMPERATURE, seed=seed
            )
            for seed in given.seeds
        ]
        found.append({"epochs": epochs, **spread([each.score for each in scores])})
    return found


def binarizable(shape, width, rate):
    """Batch normalization, and no ReLU, before each layer that is to take signs."""
    plain = {"padding": "same", "use_bias": False}
    inner = [
        layers.Conv2D(width, 3, name="first", **plain),
        layers.BatchNormalization(momentum=0.9),
        layers.Conv2D(width, 3, name="second", **plain),
        layers.MaxPooling2D(2),
        layers.BatchNormalization(momentum=0.9),
        layers.Conv2D(2 * width, 3, name="third", **plain),
        layers.BatchNormalization(momentum=0.9),
        layers.Flatten(),
        layers.Dense(10, name="logits"),
    ]
    return compiled(keras.Sequential([keras.Input(shape), *inner]), rate)


def students_row(name, size, given):
    (x, y), test = images(name, size, given.data)
    train = x[:500], y[:500]
    shape, rounds = train[0].shape[1:], given.students_epochs
    steps = rounds * -(-len(train[0]) // BATCH)
    # With weights that flip until the end, statistics of batch normalization fit no network.
    falling = keras.optimizers.schedules.CosineDecay(1e-2, steps)
    keras.utils.set_random_seed(0)
    teacher = convolutional(shape, 16)
    teacher.fit(x, y, epochs=max(20, 30000 // size), batch_size=BATCH, verbose=0)
    rules = dict.fromkeys(("second", "third"), tfcomp.layers.BinaryConv2D)

    def sparse():
        schedule = tfcomp.schedules.PolynomialDecay(0.5, 0.95, 0, steps // 2, frequency=16)
        return {"callbacks": [tfcomp.callbacks.GradualPruning(schedule)]}

    def narrow():
        return tfcomp.prune_channels(teacher, 0.75, verbose=0).model

    kinds = {
        "binary": (lambda: tfcomp.swap_layers(binarizable(shape, 16, falling), rules), dict),
        "95 % sparse": (lambda: tfcomp.swap_layers(teacher, {...: None}), sparse),
        "a quarter of the channels": (narrow, dict),
    }
    found = {"teacher": 100 * accuracy(teacher, test)}
    for kind, (make, extra) in kinds.items():
        for way, who in (("labels", None), ("taught", teacher)):
            runs = [pupil(make, s, who, train, test, rounds, **extra()) for s in given.seeds]
            found[f"{kind}: {way}"] = spread(runs)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="MNIST, as keras.datasets has it")
    parser.add_argument("--only", nargs="+", help="names of rows")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=2000, help="of a student")
    parser.add_argument("--gan-steps", type=int, default=3000)
    parser.add_argument("--students-epochs", type=int, default=60, help="of the rows `students`")
    parser.add_argument("--pictures", help="folder for pictures of the generated images")
    parser.add_argument("--json", default="gan_distillation.json")
    given = parser.parse_args()
    rows = {"digits/500": functools.partial(image_row, "digits", 500), "score": score_row}
    rows |= {"students/digits/500": functools.partial(students_row, "digits", 500)}
    rows |= {"table": table_row}
    rows |= {"digits/1000": functools.partial(image_row, "digits", 1000)}
    if given.data:
        sizes = (500, 1000, 5000)
        rows |= {f"mnist/{n}": functools.partial(image_row, "mnist", n) for n in sizes}
        for n in (500, 5000):
            rows[f"students/mnist/{n}"] = functools.partial(students_row, "mnist", n)
    results = {"seeds": given.seeds, "rows": {}}
    if os.path.exists(given.json):
        results["rows"] = json.loads(pathlib.Path(given.json).read_text())["results"]["rows"]
    write(given.json, results)
    for name in given.only or rows:
        if name not in results["rows"]:
            results["rows"][name] = rows[name](given)
            write(given.json, results)
            print(name, json.dumps(results["rows"][name]), flush=True)


if __name__ == "__main__":
    main()
