"""Archives that leave the latent weights of quantized layers out."""

import os

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import layers
from tfcomp.storage import encode


@keras.saving.register_keras_serializable("tfcomp_tests")
class Own(keras.Model):
    """Makes its layers by its own code: its config does not hold them."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first = layers.TernaryDense(64)
        self.second = layers.BinaryDense(8, scale=True, input_quantizer=None)

    def call(self, x):
        return self.second(keras.ops.relu(self.first(x)))


def subclassed():
    model = Own()
    model(np.zeros((1, 48), "float32"))
    return model


def functional():
    x = keras.Input((12, 12, 4))
    y = layers.BinaryConv2D(32, 3, scale=True, input_quantizer=None)(x)
    y = keras.layers.BatchNormalization()(y)
    y = layers.QuantizedSeparableConv2D(
        32, 3, depthwise_quantizer="ternary", pointwise_quantizer="binary"
    )(y)
    y = keras.layers.GlobalAveragePooling2D()(y)
    y = keras.Sequential([layers.TernaryDense(16), keras.layers.Dense(3)])(y)
    return keras.Model(x, y)


def dorefa():
    """A quantizer that does not give its own levels back."""
    dense = layers.DoReFaDense(16, weight_bits=3)
    return keras.Sequential([keras.Input((32,)), dense])


def trained_ternary():
    quantizer = tfcomp.quantizers.TrainedTernary()
    dense = layers.QuantizedDense(16, kernel_quantizer=quantizer)
    return keras.Sequential([keras.Input((32,)), dense])


def yodann():
    return keras.Sequential([keras.Input((8, 8, 4)), layers.YodaConv2D(8, 3)])


MAKERS = [subclassed, functional, dorefa, trained_ternary, yodann]


def trained(make):
    keras.utils.set_random_seed(0)
    model = make()
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1 * rng.standard_normal(variable.shape).astype("float32"))
    shape = (4, *model.inputs[0].shape[1:]) if getattr(model, "inputs", None) else (4, 48)
    return model, rng.standard_normal(shape).astype("float32")


def outputs(model, x):
    return keras.ops.convert_to_numpy(model(x, training=False))


@pytest.mark.parametrize("make", MAKERS)
def test_predicts_the_same_bit_for_bit_however_often_it_is_saved(tmp_path, make):
    model, x = trained(make)
    before, wanted = model.get_weights(), outputs(model, x)
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    assert all(map(np.array_equal, before, model.get_weights()))
    loaded = tfcomp.load(tmp_path / "model.tfc")
    np.testing.assert_array_equal(outputs(loaded, x), wanted)

    tfcomp.save(loaded, tmp_path / "again.tfc")
    np.testing.assert_array_equal(outputs(tfcomp.load(tmp_path / "again.tfc"), x), wanted)
    loaded.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(outputs(again, x), wanted)


def test_is_as_small_as_the_quantized_weights(tmp_path):
    model, _ = trained(subclassed)
    tfcomp.save(model, tmp_path / "latent.tfc")
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    # 48 x 64 weights of three values, 64 x 8 of two, for each of which there is an independent
    # coding of the same; 72 biases and the scales are float32.
    size, header = os.path.getsize(tmp_path / "model.tfc"), 1200
    kernel = np.random.default_rng(0).integers(-1, 2, (48, 64)).astype("float32")
    assert size < len(encode(kernel, "ans")) + 512 / 8 + 4 * (72 + 64 + 8) + header
    assert os.path.getsize(tmp_path / "latent.tfc") > 4 * size


@pytest.mark.parametrize("make", [subclassed, functional])
def test_the_rest_can_be_trained_and_the_quantized_weights_stay(tmp_path, make):
    model, x = trained(make)
    model.compile("sgd", "mse")
    y = np.ones_like(outputs(model, x))
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    loaded = tfcomp.load(tmp_path / "model.tfc")
    kernels = [v for v in loaded.variables if "kernel" in v.name and not v.trainable]
    before = [keras.ops.convert_to_numpy(v).copy() for v in kernels]
    biases = [keras.ops.convert_to_numpy(v).copy() for v in loaded.trainable_variables]
    loaded.fit(x, y, verbose=0)
    assert len(kernels) == {subclassed: 2, functional: 4}[make]
    for value, variable in zip(before, kernels):
        np.testing.assert_array_equal(value, keras.ops.convert_to_numpy(variable))
    after = map(keras.ops.convert_to_numpy, loaded.trainable_variables)
    assert not all(map(np.array_equal, biases, after))


def test_quantized_weights_that_are_made_trainable_are_refused(tmp_path):
    model, x = trained(subclassed)
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    loaded = tfcomp.load(tmp_path / "model.tfc")
    loaded.first.kernel.trainable = True
    with pytest.raises(ValueError, match=r"no latent weights.*train_on=True"):
        loaded(x)


def test_trains_on_from_the_quantized_values(tmp_path):
    model, x = trained(subclassed)
    model.compile("sgd", "mse")
    wanted = outputs(model, x)
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    loaded = tfcomp.load(tmp_path / "model.tfc", train_on=True)
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    np.testing.assert_allclose(outputs(loaded, x), wanted, rtol=1e-4, atol=1e-4)
    kernel = keras.ops.convert_to_numpy(loaded.first.kernel).copy()
    assert len(np.unique(np.abs(kernel))) == 2
    loaded.fit(x, wanted + 1, verbose=0)
    assert not np.array_equal(kernel, keras.ops.convert_to_numpy(loaded.first.kernel))


def test_the_optimizer_of_latent_weights_is_refused(tmp_path):
    model, _ = trained(subclassed)
    with pytest.raises(ValueError, match="`latent`"):
        tfcomp.save(model, tmp_path / "model.tfc", latent=False, include_optimizer=True)
    assert not os.listdir(tmp_path)


def test_is_summed_up_and_exported_as_before(tmp_path):
    model, _ = trained(functional)
    tfcomp.save(model, tmp_path / "model.tfc", latent=False)
    loaded = tfcomp.load(tmp_path / "model.tfc")
    ours, theirs = (tfcomp.summary(v, print_table=False) for v in (model, loaded))
    assert ours.macs == theirs.macs and ours.bytes_coded == theirs.bytes_coded
