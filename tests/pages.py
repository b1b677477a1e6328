"""What the examples of each page read and do not make: small models and data."""

import functools

import keras
import numpy as np

import tfcomp

layers = keras.layers
RNG = np.random.default_rng(0)


def arrays(*shape, samples=16, classes=3):
    """Inputs and labels."""
    x = RNG.normal(size=(samples, *shape)).astype("float32")
    return x, RNG.integers(0, classes, samples)


def classifier(*shape):
    """A small convolutional network with the names that the pages speak of."""
    convolutions = [
        layers.Conv2D(4, 3, activation="relu", name="conv1"),
        layers.Conv2D(8, 3, activation="relu", name="conv2"),
    ]
    return _classifier(shape, convolutions)


def _classifier(shape, convolutions):
    dense = layers.Dense(8, activation="relu", name="dense")
    head = [layers.Flatten(), dense, layers.Dense(3, name="logits")]
    model = keras.Sequential([keras.Input(shape), *convolutions, *head])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
    return model


class GAN(keras.Model):
    """A generator trained by an optimizer of its own, against a fixed critic."""

    def __init__(self):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((4,)), layers.Dense(9)])
        self.critic = keras.Sequential([keras.Input((9,)), layers.Dense(1)])
        self.generator_optimizer = keras.optimizers.Adam(1e-3)
        self.generator_optimizer.build(self.generator.trainable_variables)

    def call(self, noise):
        return self.critic(self.generator(noise))

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = -keras.ops.mean(self(keras.random.normal((4, 4)), training=True))
        weights = self.generator.trainable_variables
        self.generator_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        return {"loss": loss}


def readme():
    x, y = arrays(32, 32, 3, samples=2, classes=10)
    return {"x": x, "y": y, "images": x}


def archive():
    return {"tfcomp": tfcomp, "model": classifier(6, 6, 2)}


def callbacks():
    x, y = arrays(6, 6, 2)
    schedule = tfcomp.schedules.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=10, frequency=1)
    gan = GAN()
    gan.compile("adam")
    return {
        "tfcomp": tfcomp,
        "keras": keras,
        "schedule": schedule,
        "gan": gan,
        "images": RNG.normal(size=(8, 9)).astype("float32"),
        "pruning": tfcomp.callbacks.GradualPruning(schedule),
        "model": classifier(6, 6, 2),
        "x": x,
        "y": y,
        "data": (x, y),
        "batches": [(x[:8], y[:8]), (x[8:], y[8:])],
    }


def export():
    x, _ = arrays(6, 6, 2)
    return {"tfcomp": tfcomp, "keras": keras, "model": classifier(6, 6, 2), "images": x, "x": x}


def hardware():
    x, _ = arrays(10, 10, 4)
    model = keras.Sequential(
        [
            keras.Input((10, 10, 4)),
            tfcomp.layers.YodaConv2D(8, 3, activation="relu"),
            tfcomp.layers.YodaConv2D(8, 3),
        ]
    )
    return {"tfcomp": tfcomp, "images": x, "model": model}


def layer_page():
    x, y = arrays(6, 6, 4)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 4)),
            layers.Conv2D(8, 3, activation="relu", name="conv1"),
            layers.Conv2D(32, 3, activation="relu", name="conv2"),
            layers.Reshape((4, 32)),
            layers.EinsumDense("abc,cd->abd", output_shape=(4, 16)),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="dense"),
            layers.Dense(3, name="logits"),
        ]
    )
    names = {"model": model, "x_train": x, "y_train": y, "images": x}
    return {"keras": keras, "tfcomp": tfcomp, "functools": functools, **names}


def own_method():
    return {}


def trained_page():
    """A model, and the parts of its data."""
    x, y = arrays(6, 6, 4, samples=64)
    parts = {"x_train": x[:48], "y_train": y[:48], "x_validation": x[48:], "y_validation": y[48:]}
    return {"keras": keras, "tfcomp": tfcomp, "model": classifier(6, 6, 4), **parts}


def structured():
    x, y = arrays(10, 10, 1)
    model = classifier(10, 10, 1)
    return {"tfcomp": tfcomp, "model": model, "x_train": x, "x": x, "y": y}


def normalized(*shape):
    """The same with batch normalization, and no ReLU, before a layer that may take signs."""
    convolutions = [
        layers.Conv2D(4, 3, name="conv1"),
        layers.BatchNormalization(),
        layers.Conv2D(8, 3, name="conv2"),
        layers.BatchNormalization(),
    ]
    return _classifier(shape, convolutions)


def distillation():
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    x, y = arrays(8, 8, 1)
    rows, labels = arrays(5, samples=32)
    network = keras.Sequential([keras.Input((5,)), layers.Dense(3)])
    network.compile("adam", "mse")
    names = {"keras": keras, "tfcomp": tfcomp, "DecisionTreeClassifier": DecisionTreeClassifier}
    return {
        **names,
        "teacher": normalized(8, 8, 1),
        "student": classifier(8, 8, 1),
        "x": x,
        "y": y,
        "schedule": tfcomp.schedules.ConstantSparsity(0.5, begin_step=0),
        "forest": RandomForestClassifier(5, random_state=0).fit(rows, labels),
        "network": network,
        "rows": rows,
        "labels": labels,
    }


PAGES = {
    "README.md": readme,
    "docs/archive.md": archive,
    "docs/callbacks.md": callbacks,
    "docs/distillation.md": distillation,
    "docs/export.md": export,
    "docs/hardware.md": hardware,
    "docs/layers.md": layer_page,
    "docs/own_method.md": own_method,
    "docs/pruning.md": trained_page,
    "docs/quantization.md": trained_page,
    "docs/structured.md": structured,
}
