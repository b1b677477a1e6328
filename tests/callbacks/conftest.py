"""Small models and data that callbacks are tried on."""

import keras
import numpy as np
import pytest

import tfcomp


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6, 6, 2)).astype("float32")
    return x, rng.normal(size=(32, 3)).astype("float32")


@pytest.fixture
def make_model():
    """A function that makes the same convolutional network every time it is called."""

    def make(optimizer=None, **compile_arguments):
        keras.utils.set_random_seed(7)
        model = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                keras.layers.Conv2D(5, 3, activation="relu", name="conv"),
                keras.layers.BatchNormalization(name="norm"),
                keras.layers.Flatten(),
                keras.layers.Dense(7, activation="relu", name="hidden"),
                keras.layers.Dense(3, name="out"),
            ]
        )
        model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **compile_arguments)
        return model

    return make


def pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.GradualPruning(schedule)


def global_pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.GradualPruning(schedule, scope="global")


def quantization():
    return tfcomp.callbacks.IncrementalQuantization(bits=4)


def random_quantization():
    return tfcomp.callbacks.IncrementalQuantization(bits=3, partition="random", seed=3)


def network_surgery():
    return tfcomp.callbacks.DynamicNetworkSurgery(c=0.5, gamma=0.2)


def sensitivity_pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.SensitivityPruning(schedule)


def magnitude_pruning():
    return tfcomp.callbacks.MagnitudePruning(quality=0.8, rounds=3)


CALLBACKS = [
    pruning,
    global_pruning,
    quantization,
    random_quantization,
    network_surgery,
    magnitude_pruning,
    sensitivity_pruning,
    tfcomp.callbacks.PreserveSparsity,
]


@pytest.fixture(params=CALLBACKS, ids=lambda make: make.__name__)
def make_callback(request):
    """A function that makes one of every kind of callback."""
    return request.param


@pytest.fixture
def fit(data):
    """Fits four batches an epoch, in the same order every time."""

    def run(model, callbacks=(), epochs=4, **arguments):
        return model.fit(
            *data,
            batch_size=8,
            epochs=epochs,
            shuffle=False,
            verbose=0,
            callbacks=list(callbacks),
            **arguments,
        )

    return run


@pytest.fixture
def kernels():
    """The kernels of a model as numpy arrays, by path."""

    def read(model):
        return {
            target.path: keras.ops.convert_to_numpy(target.variable.value)
            for target in tfcomp.targets.find(model, [lambda layer, variable: True])
        }

    return read
