"""Layers that take signs of numbers that are never negative are named, and no others."""

import functools
import warnings

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.layers import BinaryConv2D, BinaryDense, HORQDense
from tfcomp.surgery.blind import blind_layers

layers = keras.layers


def found(model, x=None):
    return {layer.name: source for layer, source in blind_layers(model, x)}


def sequential(*inner, shape=(8, 8, 2)):
    return keras.Sequential([keras.Input(shape), *inner])


@pytest.mark.parametrize(
    "name", ["relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential"]
)
def test_activations_that_make_no_negative_number(name):
    model = sequential(
        layers.Conv2D(3, 2, activation=name, name="first"), BinaryConv2D(3, 2, name="b")
    )
    assert list(found(model)) == ["b"] and found(model)["b"].endswith("in 'first'")


@pytest.mark.parametrize(
    "name", ["linear", "tanh", "elu", "gelu", "silu", "leaky_relu", "softsign"]
)
def test_activations_that_make_some(name):
    assert not found(sequential(layers.Conv2D(3, 2, activation=name), BinaryConv2D(3, 2)))


KEEPING = [
    [layers.MaxPooling2D(2), layers.AveragePooling2D(2), layers.Flatten()],
    [layers.Dropout(0.5), layers.ZeroPadding2D(1), layers.Cropping2D(1), layers.UpSampling2D(2)],
    [layers.Permute((3, 1, 2)), layers.Reshape((-1,)), layers.ActivityRegularization(l1=0.1)],
    [layers.GlobalAveragePooling2D(), layers.RepeatVector(2), layers.Identity()],
]


@pytest.mark.parametrize("between", KEEPING)
def test_what_lies_between_may_keep_the_sign(between):
    model = sequential(layers.ReLU(name="positive"), *between, BinaryDense(3, name="b"))
    assert found(model) == {"b": "relu in 'positive'"}


class Scale(layers.Layer):
    """Of ones and zeros before it is trained."""

    def build(self, shape):
        self.scale = self.add_weight(shape=shape[-1:], initializer="ones")
        self.shift = self.add_weight(shape=shape[-1:], initializer="zeros")

    def call(self, x):
        return x * self.scale + self.shift


@pytest.mark.parametrize(
    "between",
    [
        Scale(),
        layers.BatchNormalization(),
        layers.LayerNormalization(),
        layers.Rescaling(1.0, -0.5),
        layers.Rescaling(-1.0),
        layers.Conv2D(2, 1),
        layers.PReLU(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_no_false_alarm(between):
    assert not found(sequential(layers.ReLU(), between, layers.MaxPooling2D(2), BinaryConv2D(3, 2)))


def test_a_relu_that_leaks_or_begins_below_zero_is_none():
    for relu in (layers.ReLU(negative_slope=0.1), layers.LeakyReLU()):
        assert not found(sequential(relu, BinaryConv2D(3, 2)))
    assert found(sequential(layers.ReLU(max_value=1.0), BinaryConv2D(3, 2)))


def test_nested_shared_and_joined():
    x = keras.Input((6,))
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(6, "softplus", name="soft")])
    relu = layers.ReLU(name="relu")
    a, b = inner(x), relu(x)
    shared = BinaryDense(3, name="shared")
    outputs = [
        shared(x),
        shared(b),
        BinaryDense(3, name="sum")(layers.Add()([a, b])),
        BinaryDense(3, name="concatenated")(layers.Concatenate()([a, b]) * 2),
        BinaryDense(3, name="half")(layers.Concatenate()([a, x])),
        BinaryDense(3, name="greatest")(layers.Maximum()([a, x])),
        BinaryDense(3, name="least")(layers.Minimum()([a, x])),
        BinaryDense(3, name="difference")(layers.Subtract()([a, b])),
        BinaryDense(3, name="negative")(-1 * a),
        BinaryDense(3, name="clipped")(keras.ops.clip(x, 0, 1)),
    ]
    model = keras.Model(x, outputs)
    soft = "softplus in 'soft'"
    assert found(model) == {
        "shared": "relu in 'relu'",
        "sum": soft,
        "concatenated": soft,
        "greatest": soft,
        "clipped": "clip in the model's own code",
    }


def test_steps_of_a_sequence():
    model = sequential(
        layers.TimeDistributed(layers.Dense(4, "relu", name="dense")),
        layers.TimeDistributed(BinaryDense(3, name="b")),
        shape=(5, 6),
    )
    assert found(model) == {"b": "relu in 'dense'"}


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.first = layers.Dense(4)
        self.b, self.c = layers.Dense(3, name="b"), layers.Dense(3, name="c")

    def call(self, x):
        x = keras.ops.relu(self.first(x))
        return self.b(x) + self.c(0.5 - x)


def test_a_model_with_code_of_its_own():
    model = Own()
    model(np.zeros((2, 6), "float32"))
    with pytest.warns(UserWarning, match="'b' takes the signs .* relu in the model's own code"):
        tfcomp.swap_layers(model, {"b": BinaryDense, "c": BinaryDense})


def test_signs_behind_signs():
    """A binary layer's own activation is one as well; real inputs are no signs."""
    model = sequential(
        BinaryDense(4, activation="relu", name="a"), BinaryDense(4, name="b"), shape=(6,)
    )
    assert found(model) == {"b": "relu in 'a'"}
    assert found(model, np.zeros((2, 6))) == {"a": "the model's inputs", "b": "relu in 'a'"}
    assert found(model, np.full((2, 6), -1.0)) == {"b": "relu in 'a'"}
    assert not found(sequential(layers.ReLU(), BinaryDense(4, input_quantizer=None), shape=(6,)))


def test_layers_that_take_more_than_signs():
    for layer in (
        tfcomp.layers.DoReFaDense(4),
        tfcomp.layers.DoReFaDense(4, activation_bits=1),
        tfcomp.layers.TernaryDense(4),
        tfcomp.layers.QuantizedDense(4, input_quantizer="ternary"),
    ):
        assert not found(sequential(layers.ReLU(), layer, shape=(6,)))


def network():
    return sequential(
        layers.Conv2D(3, 3, activation="relu", name="first"),
        layers.Conv2D(3, 3, activation="relu", name="second"),
        layers.Flatten(),
        layers.Dense(3, name="logits"),
    )


def test_a_swap_says_so():
    with pytest.warns(UserWarning, match="'second' takes the signs .* relu in 'first'") as seen:
        swapped = tfcomp.swap_layers(network(), {layers.Conv2D: BinaryConv2D, "first": None})
    assert [w.filename for w in seen if "signs" in str(w.message)] == [__file__]
    with pytest.warns(UserWarning, match="the first of its 2 signs is always"):
        tfcomp.swap_layers(network(), {"logits": HORQDense})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Layer .* signs")
        # What was there before is no news.
        tfcomp.swap_layers(swapped, {"logits": tfcomp.layers.TernaryDense})
        real = functools.partial(BinaryConv2D, input_quantizer=None)
        tfcomp.swap_layers(network(), {layers.Conv2D: real})


def test_a_distillation_says_so():
    model = sequential(layers.Dense(6, name="first"), layers.Dense(3, name="out"), shape=(6,))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = np.ones((8, 6), "float32"), np.arange(8) % 3
    with pytest.warns(UserWarning, match="'first' takes the signs .* the model's inputs") as seen:
        tfcomp.distill(model, data=(x, y), epochs=1, rules={"first": BinaryDense}, verbose=0)
    assert [w.filename for w in seen if "signs" in str(w.message)] == [__file__]
    x[0] = -1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Layer .* signs")
        tfcomp.distill(model, data=(x, y), epochs=1, rules={"first": BinaryDense}, verbose=0)
