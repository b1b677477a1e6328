"""What is left of a network computes what it should; and the test of that tests."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from surgery.channels import proof
from surgery.channels.zoo import NETS

import tfcomp

# Networks in which two exchanged channels are looked for.
SEEN = ("unet", "shuffle_3", "shuffle_v2", "resnext", "recurrent")
# With three or four channels in each of so many groups few numbers of them shuffle alike.
TIGHT = ("shuffle_4", "shuffle_8")


def net(name):
    keras.utils.set_random_seed(3)
    if name == "depth_to_space" and not hasattr(keras.ops.nn, "depth_to_space"):
        pytest.skip("this Keras has no depth_to_space")
    return NETS[name]()


def check(name, ratio, tmp_path):
    model, rng = net(name), np.random.default_rng(0)
    small, errors, effect, reasons, _ = proof.prove(model, ratio, rng)
    if name in TIGHT:
        reasons = [reason for reason in reasons if "keeps all its channels" not in reason]
        ratio *= 0.4
    assert max(errors) < 1e-5 and effect > 1e-2 and not reasons, (errors, effect, reasons)
    # Less at both ends: inputs and outputs stay.
    assert small.count_params() < (1 - 0.5 * ratio) * model.count_params()
    assert small.name == model.name
    if name not in ("subclassed", "branches"):
        assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
        assert small.output_names == model.output_names
    x = proof.batch(model, rng)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert np.array_equal(proof.outputs(loaded, x), proof.outputs(small, x))
    return small, x


@pytest.mark.parametrize("name", NETS)
def test_half_of_the_channels(name, tmp_path):
    check(name, 0.5, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [0.25, 0.75])
@pytest.mark.parametrize("name", NETS)
def test_other_parts(name, ratio, tmp_path):
    small, x = check(name, ratio, tmp_path)
    small.compile("adam", "mse")
    y = keras.tree.map_structure(keras.ops.zeros_like, small(x))
    small.fit(x, y, verbose=0)


@pytest.mark.parametrize("name", SEEN)
def test_exchanged_channels_are_seen(name):
    """Two channels of one variable the wrong way round make another function."""
    model, rng = net(name), np.random.default_rng(0)
    small, *_ = proof.prove(model, 0.5, rng)
    assert proof.exchanges_seen(small, proof.batch(model, rng), rng) >= 18


def test_a_variable_that_was_missed_is_an_error():
    model, rng = net("gates"), np.random.default_rng(0)
    dyes = proof.trace(model)
    (missed,) = (k for k in dyes.axes if dyes.variables[k[0]].path == "squeeze/bias")
    del dyes.axes[missed]
    with pytest.raises(ValueError, match="mixes others than it did"):
        proof.proved(model, dyes, 0.5, rng, proof.batch(model, rng))


def sliced(x):
    return ops.concatenate([x[..., :4] * 2, x[..., 4:]], axis=-1)


def test_literal_numbers_in_code_that_cannot_be_adapted():
    """The first four channels are doubled in the small model, too, so all four of them stay."""
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 1, name="conv")(inputs)
    x = layers.Conv2D(6, 3)(layers.Lambda(sliced)(x))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    small, errors, effect, *_ = proof.prove(model, 0.5, np.random.default_rng(0))
    assert max(errors) < 1e-5 and effect > 1e-2
    assert small.get_layer("conv").filters == 6
    first = [proof.numpy(m.get_layer("conv").kernel)[..., :4] for m in (model, small)]
    assert np.array_equal(*first)


def test_a_norm_is_the_same_without_channels_that_are_zero():
    inputs = keras.Input((8, 8, 3))
    x = layers.UnitNormalization()(layers.Conv2D(8, 1, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(layers.Conv2D(6, 3)(x))))
    small, (_, error), effect, reasons, _ = proof.prove(model, 0.5, np.random.default_rng(0))
    assert error < 1e-5 and effect > 1e-2 and not reasons
    assert small.get_layer("conv").filters == 4


class Tied(keras.Model):
    """An embedding that is read out by code."""

    def __init__(self):
        super().__init__(name="tied")
        self.embedding = layers.Embedding(20, 12, name="embedding")
        self.dense = layers.Dense(12)

    def call(self, x):
        x = self.dense(self.embedding(x))
        return ops.matmul(x, ops.transpose(self.embedding.embeddings))


def test_weights_that_code_takes_the_value_of_are_named():
    """In a graph of layers they would be constants, and no longer tied."""
    model = Tied()
    model(np.zeros((1, 6), "int32"))
    found = tfcomp.channels(model)
    (reason,) = (group.reason for group in found if "embeddings" in group.path)
    assert "embedding/embeddings, whose value the code of the model takes" in reason
    with pytest.raises(ValueError, match=r"'tied' .*its code computes with .*embeddings"):
        tfcomp.prune_channels(model, 0.5, verbose=0)


def test_a_structure_that_differs_is_an_error():
    model, rng = net("gates"), np.random.default_rng(0)
    dyes = proof.trace(model)
    dyes.freeze(dyes.axes[dyes.made[1]], "so the test wants it")
    with pytest.raises(ValueError, match="mixes others than it did"):
        proof.proved(model, dyes, 0.5, rng, proof.batch(model, rng))


def test_the_large_model_is_as_it_was():
    model = net("custom")
    weights = [proof.numpy(v) for v in model.variables]
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    config = model.get_config()
    tfcomp.channels(model)
    tfcomp.prune_channels(model, 0.5, verbose=0)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    assert model.get_config() == config
    assert all(np.array_equal(a, proof.numpy(v)) for a, v in zip(weights, model.variables))
    assert model.get_layer("block").output.shape == (None, 10, 10, 12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, ratio, arguments",
    [
        ("GoogLeNet", 0.5, {}),
        ("SqueezeNet", 0.5, {}),
        ("MobileNet", 0.5, {}),
        *(("ShuffleNet", 0.5, {"groups": groups}) for groups in (1, 2, 3, 4, 8)),
        *(("ShuffleNet", 0.25, {"groups": groups}) for groups in (4, 8)),
        *(("ShuffleNet", 0.75, {"groups": groups}) for groups in (4, 8)),
    ],
)
def test_compact_networks(name, ratio, arguments):
    keras.utils.set_random_seed(1)
    made = getattr(tfcomp.applications, name)
    model = made(input_shape=(64, 64, 3), classes=20, classifier_activation=None, **arguments)
    small, errors, effect, reasons, _ = proof.prove(model, ratio, np.random.default_rng(0))
    assert max(errors) < 1e-5 and effect > 1e-2 and not reasons
    assert small.count_params() < 1.5 * (1 - ratio) ** 2 * model.count_params()
    found = tfcomp.channels(model)
    stay = sum(group.channels for group in found if group.reason) - 20
    assert stay <= 0.01 * sum(group.channels for group in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50", "DenseNet121", "MobileNetV3Small"])
def test_networks_of_keras(name):
    keras.utils.set_random_seed(1)
    made = getattr(keras.applications, name)
    model = made(weights=None, input_shape=(96, 96, 3), classes=20, classifier_activation=None)
    _, errors, effect, reasons, _ = proof.prove(model, 0.5, np.random.default_rng(0))
    assert max(errors) < 1e-5 and effect > 1e-2 and not reasons
