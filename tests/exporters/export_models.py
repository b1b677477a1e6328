"""Small models of every kind, each with inputs to try it on."""

import keras
import numpy as np
from keras import layers

import tfcomp


def _images(rng, n=3):
    return rng.standard_normal((n, 12, 12, 3)).astype("float32")


def sequential(rng):
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            layers.Conv2D(64, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3),
            layers.Conv2DTranspose(8, 3),
            layers.Dropout(0.5),
            layers.SeparableConv2D(64, 3),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return model, [_images(rng)]


def without_input_layer(rng):
    model = keras.Sequential([layers.Dense(40, activation="relu"), layers.Dense(3)])
    x = rng.standard_normal((4, 30)).astype("float32")
    model(x)
    return model, [x]


def nested_multi_io(rng):
    image = keras.Input((12, 12, 3), name="image")
    extra = keras.Input((5,), name="extra")
    inner = keras.Sequential([layers.Conv2D(16, 3), layers.Flatten(), layers.Dense(32)])
    joined = layers.concatenate([inner(image), layers.Dense(8)(extra)])
    outputs = {"label": layers.Dense(4)(joined), "score": layers.Dense(1)(joined)}
    return keras.Model([image, extra], outputs), [
        _images(rng),
        rng.standard_normal((3, 5)).astype("float32"),
    ]


def dict_inputs_shared_layer(rng):
    inputs = {name: keras.Input((6,), name=name) for name in ("left", "right")}
    shared = layers.Dense(64, activation="tanh")
    outputs = [shared(inputs["left"]), layers.Dense(64)(shared(inputs["right"]))]
    model = keras.Model(inputs, outputs)
    return model, [{k: rng.standard_normal((2, 6)).astype("float32") for k in inputs}]


def recurrent(rng):
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32"),
            layers.Embedding(50, 24, mask_zero=True),
            layers.Bidirectional(layers.LSTM(20, return_sequences=True)),
            layers.GRU(16),
            layers.Dense(2),
        ]
    )
    return model, [rng.integers(0, 50, (3, 7)).astype("int32")]


def attention(rng):
    x = keras.Input((6, 16))
    y = layers.MultiHeadAttention(4, 8)(x, x)
    y = layers.LayerNormalization()(layers.Add()([x, y]))
    return keras.Model(x, layers.Dense(5)(y)), [rng.standard_normal((2, 6, 16)).astype("float32")]


@keras.saving.register_keras_serializable("tfcomp_tests")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(48), layers.Dense(6)
        self.unused = layers.Dense(1000)
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def build(self, shape):
        self.first.build(shape)
        self.second.build((*shape[:-1], 48))
        self.unused.build((*shape[:-1], 1000))
        self.built = True

    def call(self, x, training=False):
        return self.second(keras.ops.relu(self.first(x))) * self.scale


def subclassed(rng):
    model = Subclassed()
    x = rng.standard_normal((4, 30)).astype("float32")
    model(x)
    return model, [x]


def mixed_precision(rng):
    model = keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(64, activation="relu", dtype="mixed_float16"),
            layers.Dense(64, dtype="mixed_bfloat16"),
            layers.Dense(4, dtype="bfloat16"),
            layers.Dense(3, dtype="float32"),
        ]
    )
    return model, [rng.standard_normal((3, 32)).astype("float32")]


def int8(rng):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(96), layers.Dense(4)])
    model.quantize("int8")
    return model, [rng.standard_normal((3, 64)).astype("float32")]


def text(rng):
    lines = keras.Input((), dtype="string")
    vectorize = layers.TextVectorization(output_sequence_length=4, vocabulary=["a", "b", "c"])
    tokens = layers.Embedding(6, 8)(vectorize(lines))
    model = keras.Model(lines, layers.Dense(2)(layers.Flatten()(tokens)))
    return model, [np.array(["a b", "c c x a", ""])]


def preprocessing(rng):
    number = keras.Input((3,))
    word = keras.Input((1,), dtype="string")
    normalize = layers.Normalization()
    normalize.adapt(rng.standard_normal((50, 3)).astype("float32") * 3 + 1)
    lookup = layers.StringLookup(vocabulary=["cat", "dog"], output_mode="one_hot")
    model = keras.Model(
        [number, word], layers.Dense(4)(layers.concatenate([normalize(number), lookup(word)]))
    )
    return model, [
        rng.standard_normal((3, 3)).astype("float32"),
        np.array([["dog"], ["cow"], ["cat"]]),
    ]


class Count(layers.Layer):
    """Adds how often it was called; keeps the sum in a weight."""

    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False, name="count")

    def call(self, x):
        self.count.assign_add(1.0)
        return x + self.count


def stateful(rng):
    model = keras.Sequential([keras.Input((30,)), layers.Dense(40), Count()])
    return model, [rng.standard_normal((2, 30)).astype("float32")]


def quantized(rng):
    clip = tfcomp.layers.WeightClip(1.0)
    model = keras.Sequential(
        [
            keras.Input((12, 12, 3)),
            tfcomp.layers.QuantizedConv2D(32, 3, kernel_quantizer="ternary"),
            layers.BatchNormalization(),
            tfcomp.layers.QuantizedSeparableConv2D(
                64, 3, depthwise_quantizer="ternary", pointwise_quantizer="ternary"
            ),
            layers.GlobalAveragePooling2D(),
            tfcomp.layers.HashedDense(40),
            tfcomp.layers.QuantizedDense(
                8, kernel_quantizer="binary", input_quantizer="binary", kernel_constraint=clip
            ),
        ]
    )
    return model, [_images(rng)]


ALL = [
    quantized,
    sequential,
    without_input_layer,
    nested_multi_io,
    dict_inputs_shared_layer,
    recurrent,
    attention,
    subclassed,
    mixed_precision,
    int8,
    text,
    preprocessing,
    stateful,
]


class CentredBatch(layers.Layer):
    """What a sample becomes depends on the others."""

    def call(self, inputs):
        return inputs - keras.ops.max(inputs, axis=0, keepdims=True)


class Shares(layers.Layer):
    """Samples are apart, but their number counts."""

    def call(self, inputs):
        return inputs / keras.ops.cast(keras.ops.shape(inputs)[0], "float32")
