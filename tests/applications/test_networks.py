"""The networks as `keras.applications` would have them, whatever the size of images."""

import functools
import inspect
import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.applications import GoogLeNet, MobileNet, ShuffleNet, SqueezeNet
from tfcomp.layers import BinaryConv2D, BinaryDepthwiseConv2D, QuantizedConv2D

NETWORKS = [
    functools.partial(GoogLeNet, use_lrn=True),
    functools.partial(SqueezeNet, version="1.0", bypass="complex"),
    functools.partial(SqueezeNet, version="1.1", bypass="simple"),
    functools.partial(MobileNet, alpha=0.25),
    functools.partial(ShuffleNet, groups=2, scale=0.25),
]
# Channels of the last feature maps.
FEATURES = [1024, 512, 512, 256, 200]


def identity(value):
    return value.func.__name__ if isinstance(value, functools.partial) else None


every_network = pytest.mark.parametrize("network", NETWORKS, ids=identity)


def small(network, **arguments):
    return network(**{"input_shape": (32, 32, 3), "classes": 10, **arguments})


def images(count=2):
    return np.random.default_rng(0).normal(size=(count, 32, 32, 3)).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@every_network
def test_arguments_are_those_of_keras(network):
    found = list(inspect.signature(network.func).parameters.values())
    theirs = list(inspect.signature(keras.applications.ResNet50).parameters.values())
    assert [p.name for p in found[: len(theirs)]] == [p.name for p in theirs]
    other = ("weights", "name")
    assert [p.default for p in found[:8] if p.name not in other] == [
        p.default for p in theirs if p.name not in other
    ]
    assert {p.kind for p in found[len(theirs) :]} == {inspect.Parameter.KEYWORD_ONLY}
    assert found[1].default is None
    documented = re.findall(r"`?(\w+)`?[,:]", inspect.getdoc(network.func))
    assert {p.name for p in found} <= set(documented)


@every_network
def test_small_images_few_classes(network, tmp_path):
    model = small(network, name="net")
    assert model.name == "net" and type(model).__module__.startswith("keras.")
    y = outputs(model, images())
    assert y.shape == (2, 10)
    np.testing.assert_allclose(np.sum(y, axis=-1), 1, rtol=1e-5)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(loaded, images()), y)
    model.save_weights(tmp_path / "m.weights.h5")
    logits = small(network, weights=tmp_path / "m.weights.h5", classifier_activation=None)
    z = np.exp(outputs(logits, images()).astype("float64"))
    np.testing.assert_allclose(z / np.sum(z, axis=-1, keepdims=True), y, rtol=1e-4)


@pytest.mark.parametrize(("network", "channels"), [*zip(NETWORKS, FEATURES)], ids=identity)
def test_features_of_images_of_any_size(network, channels):
    maps = network(include_top=False, input_shape=(None, None, 3))
    assert maps.output_shape == (None, None, None, channels)
    assert outputs(maps, images()).shape[1:] == (1, 1, channels)
    pooled = network(
        include_top=False, input_tensor=keras.Input((40, 48, 3), name="x"), pooling="max"
    )
    assert pooled.inputs[0].name == "x" and pooled.output_shape == (None, channels)
    mean = network(include_top=False, input_shape=(32, 32, 1), pooling="avg")
    assert mean.output_shape == (None, channels)


@every_network
def test_images_that_something_else_makes(network):
    x = keras.Input((32, 32, 3))
    model = small(network, input_shape=None, input_tensor=keras.layers.Rescaling(0.5)(x))
    plain = small(network)
    plain.set_weights(model.get_weights())
    np.testing.assert_allclose(
        outputs(model, images()), outputs(plain, images() / 2), rtol=1e-4, atol=1e-6
    )


@every_network
def test_channels_first(network):
    last = small(network)
    keras.config.set_image_data_format("channels_first")
    try:
        first = small(network, input_shape=(3, 32, 32))
        maps = network(include_top=False, input_shape=(3, 64, 32))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert [w.shape for w in first.weights] == [w.shape for w in last.weights]
    assert maps.output_shape[2] >= maps.output_shape[3]


@pytest.mark.slow
@every_network
def test_trains(network):
    model = small(network, classifier_activation=None)
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    before = model.get_weights()
    model.fit(images(4), np.arange(4), verbose=0)
    changed = [np.any(a != b) for a, b in zip(before, model.get_weights())]
    assert np.mean(changed) > 0.8


def test_auxiliary_classifiers_take_part_in_training_alone():
    model = small(GoogLeNet, auxiliary=True)
    names = ["predictions", "auxiliary1_predictions", "auxiliary2_predictions"]
    assert model.output_names == names
    assert [y.shape for y in model(images())] == [(2, 10)] * 3
    model.compile("sgd", "sparse_categorical_crossentropy", loss_weights=[1.0, 0.3, 0.3])
    served = keras.Model(model.inputs, model.outputs[0])
    assert served.count_params() == small(GoogLeNet).count_params() < model.count_params()
    for arguments in ({"include_top": False}, {"input_shape": (None, None, 3)}):
        with pytest.raises(ValueError, match="argument `auxiliary`"):
            small(GoogLeNet, auxiliary=True, **arguments)


def test_mobilenet_is_keras_mobilenet():
    theirs = keras.applications.MobileNet(
        input_shape=(64, 32, 3), alpha=0.25, weights=None, classes=7, depth_multiplier=2
    )
    rng = np.random.default_rng(0)
    values = [
        rng.uniform(0.5, 1.5, w.shape) / max(1, np.prod(w.shape[:-1]) / 8)
        for w in theirs.get_weights()
    ]
    theirs.set_weights(values)
    ours = MobileNet(input_shape=(64, 32, 3), alpha=0.25, classes=7, depth_multiplier=2)
    ours.set_weights([v.reshape(w.shape) for v, w in zip(values, ours.weights, strict=True)])
    x = rng.normal(size=(3, 64, 32, 3)).astype("float32")
    y = outputs(ours, x)
    assert np.ptp(y) > 1e-3
    np.testing.assert_allclose(y, outputs(theirs, x), rtol=1e-3, atol=1e-6)


BINARY = {
    keras.layers.Conv2D: functools.partial(BinaryConv2D, scale=True),
    keras.layers.DepthwiseConv2D: BinaryDepthwiseConv2D,
    "conv1": None,
}
FEW_BITS = {
    keras.layers.Conv2D: functools.partial(
        QuantizedConv2D, kernel_quantizer="int8", input_quantizer="int8"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("rules", [BINARY, FEW_BITS], ids=["binary", "int8"])
@every_network
def test_binary_and_quantized_variants(network, rules, tmp_path):
    # Features: the classifier of a network that was not trained may be silent.
    model = small(network, include_top=False)
    there = {layer.name for layer in model.layers}
    there |= {type(site.layer) for site in tfcomp.targets.layer_sites(model)}
    rules = {rule: new for rule, new in rules.items() if rule in there}
    swapped = tfcomp.swap_layers(model, rules)
    kinds = {type(site.layer) for site in tfcomp.targets.layer_sites(swapped)}
    assert (BinaryConv2D if rules.get("conv1", 0) is None else QuantizedConv2D) in kinds
    blocks = [type(layer) for layer in swapped.layers if hasattr(layer, "block")]
    assert len(blocks) >= 8
    plain = [
        site.path
        for site in tfcomp.targets.layer_sites(swapped)
        if type(site.layer) is keras.layers.Conv2D
    ]
    assert set(plain) <= {"conv1"}
    y = outputs(swapped, images())
    assert np.all(np.isfinite(y)) and np.any(y != outputs(model, images()))
    swapped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(loaded, images()), y)


@every_network
def test_bad_arguments(network):
    for name, value in [
        ("classes", 0),
        ("pooling", "mean"),
        ("weights", "imagenet"),
        ("input_shape", (32, 32)),
        ("input_shape", (32, 32, None)),
        ("input_shape", (0, 32, 3)),
        ("input_tensor", images()),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            small(network, **{name: value})
    with pytest.raises(ValueError, match="argument `input_shape`"):
        small(network, input_tensor=keras.Input((64, 32, 3)))
    with pytest.raises(ValueError, match="foo"):
        small(network, classifier_activation="foo")


@pytest.mark.parametrize(
    ("network", "name", "value"),
    [
        (SqueezeNet, "version", "1.2"),
        (SqueezeNet, "bypass", True),
        (SqueezeNet, "input_shape", (16, 16, 3)),
        (MobileNet, "alpha", 0),
        (MobileNet, "depth_multiplier", 1.5),
        (MobileNet, "dropout", 1.0),
        (ShuffleNet, "groups", 5),
        (ShuffleNet, "scale", 0),
        (ShuffleNet, "scale", 0.01),
    ],
)
def test_bad_arguments_of_one(network, name, value):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        small(network, **{name: value})


@pytest.mark.parametrize(("version", "least"), [("1.0", 21), ("1.1", 17)])
def test_the_smallest_squeezenet(version, least):
    model = SqueezeNet(input_shape=(least, least, 3), classes=10, version=version)
    assert model.output_shape == (None, 10)
    with pytest.raises(ValueError, match=f"at least {least}"):
        SqueezeNet(input_shape=(least, least - 1, 3), version=version)
