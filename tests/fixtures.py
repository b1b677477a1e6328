"""Small models and data that callbacks are tried on."""

import pathlib
import re

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


@pytest.fixture
def every_layer():
    """A function that makes a functional model with every kind of kernel Keras has."""

    def make():
        keras.utils.set_random_seed(5)
        layers = keras.layers
        image = keras.Input((8, 8, 4))
        x = layers.Conv2D(4, 3, padding="same")(image)
        x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.SeparableConv2D(4, 3, padding="same")(x)
        x = layers.Conv2DTranspose(4, 3, padding="same")(x)
        x = layers.Reshape((8, 32))(x)
        x = layers.Conv1D(6, 3)(x)
        words = keras.Input((6,), dtype="int32")
        y = layers.Embedding(11, 6)(words)
        x = layers.MultiHeadAttention(2, 3)(x, y)
        x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
        x = layers.GRU(4, return_sequences=True)(x)
        x = layers.TimeDistributed(layers.Dense(4))(x)
        x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 4))(x)
        nested = keras.Sequential([keras.Input((24,)), layers.Dense(5)], name="nested")
        return keras.Model([image, words], nested(layers.Flatten()(x)))

    return make


def pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.GradualPruning(schedule)


def global_pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.GradualPruning(schedule, scope="global")


def vector_pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.GradualPruning(
        schedule, vector_size=2, targets={re.compile("depthwise|out/kernel"): {"vector_size": None}}
    )


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


def quantized_training():
    return tfcomp.callbacks.QuantizedTraining("ternary")


def binary_relax():
    binary = tfcomp.quantizers.Binary(clip_value=None, scale=True)
    return tfcomp.callbacks.BinaryRelax(binary, growth=1.5)


def weight_sharing():
    return tfcomp.callbacks.WeightSharing(bits=3)


def soft_weight_sharing():
    return tfcomp.callbacks.SoftWeightSharing(samples=32, components=3)


def own_method():
    """The example of the documentation."""
    page = pathlib.Path(__file__).parent.parent / "docs" / "own_method.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    names = {}
    exec(compile(example, str(page), "exec"), names)
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    return names["IterativeHardThresholding"](schedule)


CALLBACKS = [
    pruning,
    global_pruning,
    vector_pruning,
    quantization,
    random_quantization,
    network_surgery,
    magnitude_pruning,
    sensitivity_pruning,
    quantized_training,
    binary_relax,
    weight_sharing,
    soft_weight_sharing,
    own_method,
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
