"""Which channels are tied, and why some stay."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from surgery.channels.zoo import NETS, Subclassed

import tfcomp


def by_path(model):
    return {group.path: group for group in tfcomp.channels(model)}


def test_a_residual_and_a_depthwise_convolution():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Conv2D(6, 1, name="point")(y)
    x = layers.Add()([x, y])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(x))
    first, out = tfcomp.channels(model)
    assert first.made_by == ["stem/kernel", "point/kernel"] and first.channels == 6
    assert first.read_by == ["point/kernel", "out/kernel"]
    assert first.tied == [
        "stem/bias",
        "depthwise/kernel",
        "depthwise/bias",
        *(f"norm/{name}" for name in ("gamma", "beta", "moving_mean", "moving_variance")),
        "point/bias",
    ]
    assert first.exact and first.reason is None
    assert out.reason == "it leaves the model" and out.channels == 2


def test_it_prints():
    shown = repr(tfcomp.channels(NETS["transformer"]()))
    assert "embeddings" in shown and "inexact" in shown and "stays: it leaves" in shown


def test_heads_are_tied_over_queries_keys_and_values():
    x = keras.Input((5, 8))
    model = keras.Model(x, layers.Dense(2)(layers.MultiHeadAttention(4, 3, name="mha")(x, x)))
    found = by_path(model)
    heads, sizes = found["mha/query/kernel[1]"], found["mha/query/kernel[2]"]
    assert heads.channels == 4 and len(heads.made_by) == 3
    assert sizes.channels == 3 and sizes.made_by == ["mha/query/kernel", "mha/key/kernel"]
    assert found["mha/value/kernel"].channels == 3


def test_heads_that_share_keys_go_with_them():
    x = keras.Input((5, 8))
    model = keras.Model(x, layers.Dense(2)(layers.GroupQueryAttention(3, 4, 2, name="gqa")(x, x)))
    heads = by_path(model)["gqa/query/kernel[1]"]
    # Two of four queries with each of two keys.
    assert heads.channels == 2


def reasons(make):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="conv")(inputs)
    return by_path(keras.Model(inputs, layers.Dense(2)(make(x))))["conv/kernel"].reason


class Sorts(layers.Layer):
    def call(self, x):
        return ops.sort(x, axis=-1)


class Hidden(layers.Layer):
    def build(self, shape):
        self.w = self.add_weight((shape[-1], 4), name="w")

    def call(self, x):
        return ops.matmul(x, self.w.value)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda x: layers.Softmax(name="soft")(x), "soft mixes it with others"),
        (lambda x: ops.mean(x, axis=-1, keepdims=True), r"mean\w* mixes it with others"),
        (lambda x: x + np.ones(6, "float32"), "it meets what is no channel in "),
        (Sorts(name="sorts"), "it goes into .*[Ss]ort.*, which is not understood"),
        (Hidden(name="hidden"), "Hidden hidden .* which is not understood"),
        (lambda x: layers.Conv2D(6, 1, groups=3, name="g")(x), None),
    ],
)
def test_why_channels_stay(make, reason):
    found = reasons(make)
    if reason is None:
        assert found is None
    else:
        import re

        assert re.search(reason, found), found


def test_what_is_not_understood():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(Hidden(name="hidden")(x)))
    with pytest.warns(UserWarning, match="keeps some channels whole: Hidden hidden"):
        done = tfcomp.prune_channels(model, 0.5, verbose=0)
    assert not done.rows and "Hidden hidden" in dict(done.left_out)["conv/kernel"]
    with pytest.raises(ValueError, match="Hidden hidden"):
        tfcomp.prune_channels(model, 0.5, unknown="error", verbose=0)


def test_layers_with_lora_and_quantized_ones_stay():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="a"), layers.Dense(2)])
    model.layers[0].enable_lora(2)
    found = tfcomp.channels(model)
    assert "a/kernel" not in [group.path for group in found if group.reason is None]


def test_subclasses_with_code_of_their_own():
    """A convolution that is none is not taken for one; what it computes is followed."""

    class Twice(layers.Conv2D):
        def call(self, x):
            return super().call(ops.concatenate([x, x], axis=-1)[..., : x.shape[-1]]) * 2

    inputs = keras.Input((4, 4, 3))
    x = Twice(6, 1, name="twice")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Conv2D(4, 1)(x)))
    group = by_path(model)["twice/kernel"]
    assert group.channels == 6 and group.reason is None and group.tied == ["twice/bias"]
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    small = tfcomp.prune_channels(model, 0.5, verbose=0).model
    assert small.get_layer("twice").filters == 3 and type(small.get_layer("twice")) is Twice
    assert small(x).shape == model(x).shape


def test_unknown_sizes():
    """Axes of unknown size; one that may not be too long, and one that may not be too short."""
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    small = tfcomp.prune_channels(model, 0.5, verbose=0).model
    assert small.inputs[0].shape == (None, None, None, 3)
    assert small.layers[1].filters == 4


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="has no weights yet"):
        tfcomp.channels(Subclassed())
