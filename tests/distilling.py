"""Small teachers, students and data for tests of distillation."""

import keras
import numpy as np

import tfcomp

layers = keras.layers


def data(samples=48):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 6)).astype("float32")
    return x, (x[:, 0] > 0).astype("int32") + (x[:, 1] > 0)


def network(units, name=None, outputs=3, activation=None, seed=3, **settings):
    """A network with statistics and random numbers, compiled."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu", name="hidden", **settings),
            layers.BatchNormalization(name="norm"),
            layers.Dropout(0.3, seed=1, name="drop"),
            layers.Dense(outputs, activation=activation, name="out", dtype="float32"),
        ],
        name=name,
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=activation is None)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    return model


def taught(teacher=None, student=None, given=None, epochs=2, **arguments):
    """`tfcomp.distill` of these, silent and with batches of 16."""
    return tfcomp.distill(
        network(12, "teacher") if teacher is None else teacher,
        network(5, "student", seed=4) if student is None else student,
        data() if given is None else given,
        epochs,
        **{"batch_size": 16, "verbose": 0, **arguments},
    )


def values(model):
    """Every value that a model holds, as numpy arrays."""
    return [np.array(keras.ops.convert_to_numpy(v.value)) for v in model.variables]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
