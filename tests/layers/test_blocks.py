"""Blocks of small networks: computed by hand from their parts, counted as the papers count."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from tfcomp.layers import (
    ChannelShuffle,
    DepthwiseSeparableBlock,
    FireModule,
    InceptionModule,
    LocalResponseNormalization,
    ShuffleUnit,
    XNORBlock,
)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def batch(shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


CASES = [
    (ChannelShuffle, {"groups": 3}, (2, 4, 4, 6), (2, 4, 4, 6), 0, 0),
    (FireModule, {"squeeze": 2, "expand": 3}, (2, 4, 4, 5), (2, 4, 4, 6), 6, 0),
    (
        FireModule,
        {"squeeze": 2, "expand": (1, 4), "bypass": True},
        (2, 4, 4, 5),
        (2, 4, 4, 5),
        6,
        0,
    ),
    (
        FireModule,
        {"squeeze": 2, "expand": 3, "bypass": "convolution"},
        (2, 4, 4, 5),
        (2, 4, 4, 6),
        8,
        0,
    ),
    (
        InceptionModule,
        {"conv1x1": 2, "conv3x3": (1, 3), "conv5x5": (2, 1), "pool": 4},
        (2, 5, 4, 3),
        (2, 5, 4, 10),
        12,
        0,
    ),
    (DepthwiseSeparableBlock, {"filters": 6}, (2, 4, 4, 3), (2, 4, 4, 6), 6, 4),
    (
        DepthwiseSeparableBlock,
        {"filters": 6, "strides": 2, "depth_multiplier": 2, "activation": "relu6"},
        (2, 5, 4, 3),
        (2, 3, 2, 6),
        6,
        4,
    ),
    (LocalResponseNormalization, {"size": 3, "alpha": 0.5}, (2, 4, 4, 5), (2, 4, 4, 5), 0, 0),
    (ShuffleUnit, {"filters": 12, "groups": 3}, (2, 4, 4, 12), (2, 4, 4, 12), 9, 6),
    (ShuffleUnit, {"filters": 24, "strides": 2}, (2, 5, 4, 12), (2, 3, 2, 24), 9, 6),
    (
        XNORBlock,
        {"filters": 4, "kernel_size": 3, "pool_size": 2},
        (2, 4, 4, 5),
        (2, 2, 2, 4),
        4,
        2,
    ),
]


@pytest.mark.parametrize(("cls", "arguments", "shape", "out", "trained", "fixed"), CASES)
def test_keras_layer_exam(cls, arguments, shape, out, trained, fixed):
    TestCase().run_layer_test(
        cls,
        init_kwargs=arguments,
        input_shape=shape,
        expected_output_shape=out,
        expected_num_trainable_weights=trained,
        expected_num_non_trainable_weights=fixed,
        supports_masking=False,
        run_mixed_precision_check=True,
    )


@pytest.mark.parametrize("format", ["m.keras", "m.weights.h5"])
@pytest.mark.parametrize(("cls", "arguments", "shape", "out", "trained", "fixed"), CASES)
def test_every_inner_weight_is_saved(cls, arguments, shape, out, trained, fixed, format, tmp_path):
    def make():
        return keras.Sequential([keras.Input(shape[1:]), cls(**arguments)])

    model = make()
    model.set_weights([batch(w.shape) ** 2 for w in model.get_weights()])
    if format == "m.keras":
        model.save(tmp_path / format)
        loaded = keras.models.load_model(tmp_path / format)
    else:
        model.save_weights(tmp_path / format)
        loaded = make()
        loaded.load_weights(tmp_path / format)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_channel_shuffle():
    x = batch((2, 3, 4, 12))
    expected = x.reshape(2, 3, 4, 3, 4).transpose(0, 1, 2, 4, 3).reshape(x.shape)
    np.testing.assert_array_equal(numpy(ChannelShuffle(3)(x)), expected)
    first = ChannelShuffle(3, data_format="channels_first")
    np.testing.assert_array_equal(numpy(first(np.moveaxis(x, -1, 1))), np.moveaxis(expected, -1, 1))
    # Shuffling by g and then by n / g gives back the input.
    np.testing.assert_array_equal(numpy(ChannelShuffle(4)(expected)), x)


def conv(x, kernel, bias=0):
    """A same-padded convolution, patch by patch."""
    size = kernel.shape[0]
    x = np.pad(x, [(0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)])
    out = np.zeros((*(x.shape[0], x.shape[1] - size + 1, x.shape[2] - size + 1), kernel.shape[3]))
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            out[:, i, j] = np.tensordot(x[:, i : i + size, j : j + size], kernel, 3)
    return out + bias


def test_fire_module():
    fire = FireModule(2, (3, 4))
    x = batch((2, 5, 5, 6))
    outputs = numpy(fire(x))
    weights = [numpy(v) for v in fire.weights]
    assert [v.shape for v in weights] == [
        (1, 1, 6, 2),
        (2,),
        (1, 1, 2, 3),
        (3,),
        (3, 3, 2, 4),
        (4,),
    ]
    squeezed = np.maximum(conv(x, weights[0], weights[1]), 0)
    expected = np.concatenate(
        [conv(squeezed, weights[2], weights[3]), conv(squeezed, weights[4], weights[5])], axis=-1
    )
    np.testing.assert_allclose(outputs, np.maximum(expected, 0), atol=1e-5)
    bypass = FireModule(2, 3, bypass=True)
    plain = FireModule(2, 3)
    bypass.build(x.shape), plain.build(x.shape)
    bypass.set_weights(plain.get_weights())
    np.testing.assert_allclose(numpy(bypass(x)), numpy(plain(x)) + x, atol=1e-6)


def test_fire_module_counts_as_squeezenet_does():
    fire2 = FireModule(16, 64)
    fire2.build((None, 55, 55, 96))
    assert fire2.count_params() == 96 * 16 + 16 + 16 * 64 + 64 + 9 * 16 * 64 + 64


def test_fire_module_with_a_convolution_as_bypass():
    x, weights = batch((2, 5, 5, 6)), {}
    fire, plain = FireModule(2, 3, bypass="convolution"), FireModule(2, 3)
    fire.build(x.shape), plain.build(x.shape)
    for weight in fire.weights:
        weights[tuple(weight.path.split("/")[-2:])] = weight
    for weight in plain.weights:
        weight.assign(weights[tuple(weight.path.split("/")[-2:])])
    bypass = conv(x, numpy(weights["bypass1x1", "kernel"]), numpy(weights["bypass1x1", "bias"]))
    np.testing.assert_allclose(numpy(fire(x)), numpy(plain(x)) + bypass, atol=1e-5)


def test_inception_module():
    module = InceptionModule(2, (3, 4), (1, 2), 3)
    x = batch((2, 5, 5, 6))
    module.build(x.shape)
    parts = {}
    for weight in module.weights:
        weight.assign(batch(weight.shape))
        layer, name = weight.path.split("/")[-2:]
        parts.setdefault(layer, {})[name] = numpy(weight).astype("float64")

    def layer(x, name):
        return np.maximum(conv(x, parts[name]["kernel"], parts[name]["bias"]), 0)

    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    shifted = [padded[:, i : i + 5, j : j + 5] for i in range(3) for j in range(3)]
    expected = [
        layer(x, "conv1x1"),
        layer(layer(x, "reduce3x3"), "conv3x3"),
        layer(layer(x, "reduce5x5"), "conv5x5"),
        layer(np.max(shifted, axis=0), "pool1x1"),
    ]
    np.testing.assert_allclose(
        numpy(module(x)), np.concatenate(expected, axis=-1), rtol=1e-4, atol=1e-4
    )


def test_depthwise_separable_block():
    block = DepthwiseSeparableBlock(4, activation="relu6")
    x = 5 * batch((2, 4, 4, 3))
    block.build(x.shape)
    parts = {}
    for weight in block.weights:
        weight.assign(np.abs(batch(weight.shape)) + 0.5)
        layer, name = weight.path.split("/")[-2:]
        parts.setdefault(layer, {})[name] = numpy(weight).astype("float64")

    def norm(y, name):
        p = parts[f"{name}_norm"]
        scaled = (y - p["moving_mean"]) / np.sqrt(p["moving_variance"] + 1e-3)
        return np.clip(scaled * p["gamma"] + p["beta"], 0, 6)

    kernel = parts["depthwise"]["kernel"]
    y = [conv(x[..., c : c + 1], kernel[:, :, c : c + 1]) for c in range(3)]
    y = norm(np.concatenate(y, axis=-1), "depthwise")
    y = norm(conv(y, parts["pointwise"]["kernel"]), "pointwise")
    assert 0 < np.mean(y == 6) < 1
    np.testing.assert_allclose(numpy(block(x)), y, rtol=1e-4, atol=1e-4)


def test_local_response_normalization():
    x = batch((2, 3, 4, 6))
    squares = np.pad(x, [(0, 0), (0, 0), (0, 0), (2, 2)]).astype("float64") ** 2
    mean = sum(squares[..., i : i + 6] for i in range(5)) / 5
    expected = x / (2 + 0.3 * mean) ** 0.75
    layer = LocalResponseNormalization(alpha=0.3, k=2.0)
    np.testing.assert_allclose(numpy(layer(x)), expected, rtol=1e-5)
    first = LocalResponseNormalization(alpha=0.3, k=2.0, data_format="channels_first")
    found = numpy(first(np.moveaxis(x, -1, 1)))
    np.testing.assert_allclose(np.moveaxis(found, 1, -1), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: FireModule(2, 3, bypass="convolution", data_format=f),
        lambda f: InceptionModule(2, (3, 4), (1, 2), 3, data_format=f),
        lambda f: DepthwiseSeparableBlock(6, strides=2, data_format=f),
        lambda f: ShuffleUnit(24, strides=2, data_format=f),
    ],
)
def test_channels_first(make):
    """Shapes alone: TensorFlow convolves no such images on a CPU."""
    shapes = [
        make(name).compute_output_shape(shape)
        for name, shape in (("channels_last", (2, 8, 4, 12)), ("channels_first", (2, 12, 8, 4)))
    ]
    assert shapes[0] == tuple(shapes[1][i] for i in (0, 2, 3, 1))


def test_channels_inside_a_shuffle_unit_are_a_multiple_of_its_groups():
    """A quarter of 68 channels are 17, and so 16 for four groups; 25 of 100 are 26 for two."""
    for filters, groups, expected in ((68, 4, 16), (100, 2, 26), (12, 3, 3), (8, 8, 8), (10, 1, 2)):
        unit = ShuffleUnit(filters, groups=groups)
        unit.build((None, 4, 4, filters))
        assert unit.weights[0].shape[-1] == expected


def grouped(x, kernel, groups):
    parts = zip(np.split(x, groups, axis=-1), np.split(kernel, groups, axis=-1))
    return np.concatenate([conv(part, k) for part, k in parts], axis=-1)


def test_shuffle_unit():
    unit = ShuffleUnit(12, groups=3)
    x = batch((2, 4, 4, 12))
    unit.build(x.shape)
    for weight in unit.weights:
        weight.assign(np.abs(batch(weight.shape)) + 0.5)
    norms = {}
    for weight in unit.weights:
        layer, name = weight.path.split("/")[-2:]
        norms.setdefault(layer, {})[name] = numpy(weight).astype("float64")
    compress = norms["compress"]["kernel"]
    depthwise = norms["depthwise"]["kernel"]
    expand = norms["expand"]["kernel"]

    def norm(y, name):
        p = norms[f"{name}_norm"]
        scaled = (y - p["moving_mean"]) / np.sqrt(p["moving_variance"] + 1e-3)
        return scaled * p["gamma"] + p["beta"]

    y = np.maximum(norm(grouped(x, compress, 3), "compress"), 0)
    y = y.reshape(2, 4, 4, 3, 1).transpose(0, 1, 2, 4, 3).reshape(2, 4, 4, 3)
    y = np.concatenate(
        [conv(y[..., c : c + 1], depthwise[:, :, c : c + 1]) for c in range(3)], axis=-1
    )
    y = norm(grouped(norm(y, "depthwise"), expand, 3), "expand")
    np.testing.assert_allclose(numpy(unit(x)), np.maximum(x + y, 0), rtol=1e-4, atol=1e-4)


def test_shuffle_unit_with_strides_keeps_the_pooled_input():
    unit = ShuffleUnit(24, groups=3, strides=2)
    x = np.abs(batch((1, 5, 5, 12)))
    outputs = numpy(unit(x))
    window = x[0, 1:4, 1:4].mean((0, 1))
    np.testing.assert_allclose(outputs[0, 1, 1, :12], window, rtol=1e-5)
    assert outputs.shape == (1, 3, 3, 24)


def test_shuffle_unit_trains():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 12)),
            ShuffleUnit(24, strides=2),
            ShuffleUnit(24),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2),
        ]
    )
    model.compile("adam", "mse")
    before = model.get_weights()
    model.fit(batch((8, 8, 8, 12)), np.ones((8, 2)), epochs=1, verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights()))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ChannelShuffle(0), "groups"),
        (lambda: ChannelShuffle(5).build((None, 4, 4, 12)), "groups"),
        (lambda: ChannelShuffle(5)(keras.Input((4, 4, 12))), "groups"),
        (lambda: ChannelShuffle(2, data_format="last"), "data_format"),
        (lambda: FireModule(0, 3), "squeeze"),
        (lambda: FireModule(2, (3, 0)), "expand"),
        (lambda: FireModule(2, (3, 4, 5)), "expand"),
        (lambda: FireModule(2, 3, bypass="complex"), "bypass"),
        (lambda: InceptionModule(2, 3, (1, 2), 3), "conv3x3"),
        (lambda: InceptionModule(2, (3, 3), (1, 0), 3), "conv5x5"),
        (lambda: LocalResponseNormalization(4), "size"),
        (lambda: LocalResponseNormalization(k=0), "k"),
        (lambda: LocalResponseNormalization(data_format="last"), "data_format"),
        (lambda: FireModule(2, 3, bypass=True)(keras.Input((4, 4, 5))), "bypass"),
        (lambda: ShuffleUnit(24, groups=5), "groups"),
        (lambda: ShuffleUnit(24, groups=3)(keras.Input((4, 4, 12))), "filters"),
        (lambda: ShuffleUnit(24, groups=3, strides=2)(keras.Input((4, 4, 24))), "filters"),
        (lambda: ShuffleUnit(24, groups=3, strides=2)(keras.Input((4, 4, 10))), "groups"),
        (lambda: ShuffleUnit(24, strides=3), "strides"),
        (lambda: ShuffleUnit(24, bottleneck_ratio=0), "bottleneck_ratio"),
    ],
)
def test_bad_arguments(make, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        make()
