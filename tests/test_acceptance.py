"""Every layer through every file format, mixed precision, and a run that is killed and resumed."""

import keras
import numpy as np
import pytest
from killing import Kill, Killed

import tfcomp
from tfcomp import layers
from tfcomp.quantizers import Binary, Ternary

IMAGE, SEQUENCE, VOLUME, ROWS = (6, 6, 3), (7, 3), (5, 5, 5, 3), (4,)
PER_CHANNEL = Ternary(per_channel=True)
RANDOM = Binary(stochastic=True)

LAYERS = {
    "QuantizedDense": (lambda: layers.QuantizedDense(5, kernel_quantizer=PER_CHANNEL), ROWS),
    "QuantizedEinsumDense": (
        lambda: layers.QuantizedEinsumDense("abc,cd->abd", (7, 5), kernel_quantizer=PER_CHANNEL),
        SEQUENCE,
    ),
    "QuantizedConv1D": (lambda: layers.QuantizedConv1D(4, 3, kernel_quantizer="ternary"), SEQUENCE),
    "QuantizedConv2D": (lambda: layers.QuantizedConv2D(4, 3, kernel_quantizer="ternary"), IMAGE),
    "QuantizedConv3D": (lambda: layers.QuantizedConv3D(4, 3, kernel_quantizer="ternary"), VOLUME),
    "QuantizedConv1DTranspose": (
        lambda: layers.QuantizedConv1DTranspose(4, 3, kernel_quantizer=PER_CHANNEL),
        SEQUENCE,
    ),
    "QuantizedConv2DTranspose": (
        lambda: layers.QuantizedConv2DTranspose(4, 3, kernel_quantizer=PER_CHANNEL),
        IMAGE,
    ),
    "QuantizedConv3DTranspose": (
        lambda: layers.QuantizedConv3DTranspose(4, 3, kernel_quantizer=PER_CHANNEL),
        VOLUME,
    ),
    "QuantizedDepthwiseConv1D": (
        lambda: layers.QuantizedDepthwiseConv1D(3, depthwise_quantizer=PER_CHANNEL),
        SEQUENCE,
    ),
    "QuantizedDepthwiseConv2D": (
        lambda: layers.QuantizedDepthwiseConv2D(3, depthwise_quantizer=PER_CHANNEL),
        IMAGE,
    ),
    "QuantizedSeparableConv1D": (
        lambda: layers.QuantizedSeparableConv1D(4, 3, pointwise_quantizer=PER_CHANNEL),
        SEQUENCE,
    ),
    "QuantizedSeparableConv2D": (
        lambda: layers.QuantizedSeparableConv2D(4, 3, depthwise_quantizer=PER_CHANNEL),
        IMAGE,
    ),
    "BinaryDense": (
        lambda: layers.BinaryDense(5, input_quantizer=RANDOM, kernel_quantizer=RANDOM),
        ROWS,
    ),
    "BinaryConv1D": (
        lambda: layers.BinaryConv1D(4, 3, padding="causal", input_quantizer=RANDOM),
        SEQUENCE,
    ),
    "BinaryConv2D": (
        lambda: layers.BinaryConv2D(4, 3, padding="same", scale=True, input_scale=True),
        IMAGE,
    ),
    "BinaryConv3D": (lambda: layers.BinaryConv3D(4, 3, padding="same"), VOLUME),
    "BinaryDepthwiseConv2D": (
        lambda: layers.BinaryDepthwiseConv2D(3, scale=True, input_scale=True),
        IMAGE,
    ),
    "BinarySeparableConv2D": (lambda: layers.BinarySeparableConv2D(4, 3), IMAGE),
    "TernaryDense": (lambda: layers.TernaryDense(5), ROWS),
    "TernaryConv2D": (lambda: layers.TernaryConv2D(4, 3), IMAGE),
    "TrainedTernaryDense": (lambda: layers.TrainedTernaryDense(5), ROWS),
    "TrainedTernaryConv1D": (lambda: layers.TrainedTernaryConv1D(4, 3), SEQUENCE),
    "TrainedTernaryConv2D": (lambda: layers.TrainedTernaryConv2D(4, 3), IMAGE),
    "TrainedTernaryConv3D": (lambda: layers.TrainedTernaryConv3D(4, 3), VOLUME),
    "DoReFaDense": (lambda: layers.DoReFaDense(5, gradient_bits=4), ROWS),
    "DoReFaConv1D": (lambda: layers.DoReFaConv1D(4, 3, weight_bits=2), SEQUENCE),
    "DoReFaConv2D": (
        lambda: layers.DoReFaConv2D(4, 3, gradient_bits=6, activation="relu"),
        IMAGE,
    ),
    "DoReFaConv3D": (lambda: layers.DoReFaConv3D(4, 3, activation_bits=8), VOLUME),
    "HORQDense": (lambda: layers.HORQDense(5), ROWS),
    "HORQConv1D": (lambda: layers.HORQConv1D(4, 3, padding="causal"), SEQUENCE),
    "HORQConv2D": (lambda: layers.HORQConv2D(4, 3, padding="same", weight_order=2), IMAGE),
    "HORQConv3D": (lambda: layers.HORQConv3D(4, 2, strides=2), VOLUME),
    "ShiftBatchNormalization": (lambda: layers.ShiftBatchNormalization(), IMAGE),
    "XNORBlock": (lambda: layers.XNORBlock(4, 3, pool_size=2), IMAGE),
    "GradientQuantization": (lambda: layers.GradientQuantization(4, seed=1), IMAGE),
    "HashCode": (lambda: layers.HashCode(6, initial_beta=0.5), ROWS),
    "HashedDense": (lambda: layers.HashedDense(6, compression=0.5, activation="relu"), ROWS),
    "FactorizedDense": (lambda: layers.FactorizedDense(5, rank=7, activation="relu"), ROWS),
    "FactorizedConv1D": (lambda: layers.FactorizedConv1D(4, 3, rank=5), SEQUENCE),
    "FactorizedConv2D": (lambda: layers.FactorizedConv2D(4, 3, rank=5, padding="same"), IMAGE),
    "FactorizedConv3D": (lambda: layers.FactorizedConv3D(4, 3, rank=5), VOLUME),
    "YodaConv2D": (lambda: layers.YodaConv2D(4, 3, padding="same", activation="relu"), IMAGE),
    "HashedConv1D": (lambda: layers.HashedConv1D(4, 3, padding="causal"), SEQUENCE),
    "HashedConv2D": (lambda: layers.HashedConv2D(4, 3, buckets=9, padding="same"), IMAGE),
    "HashedConv3D": (lambda: layers.HashedConv3D(4, 3, compression=0.2), VOLUME),
    "ProductQuantizedDense": (lambda: layers.ProductQuantizedDense(9, codewords=4), ROWS),
    "ProductQuantizedConv1D": (
        lambda: layers.ProductQuantizedConv1D(4, 3, codewords=4, lookup=True),
        SEQUENCE,
    ),
    "ProductQuantizedConv2D": (
        lambda: layers.ProductQuantizedConv2D(4, 3, subvector_size=2, codewords=4),
        IMAGE,
    ),
    "ProductQuantizedConv3D": (lambda: layers.ProductQuantizedConv3D(4, 3, codewords=4), VOLUME),
    "InceptionModule": (lambda: layers.InceptionModule(2, (2, 3), (2, 3), 2), IMAGE),
    "DepthwiseSeparableBlock": (lambda: layers.DepthwiseSeparableBlock(4), IMAGE),
    "LocalResponseNormalization": (lambda: layers.LocalResponseNormalization(), IMAGE),
    "FireModule": (lambda: layers.FireModule(2, 4), IMAGE),
    "ChannelShuffle": (lambda: layers.ChannelShuffle(3), IMAGE),
    "ShuffleUnit": (lambda: layers.ShuffleUnit(12, groups=3, strides=2), IMAGE),
}


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def make_model(name):
    """The layer with normalization and a pruned dense layer behind it, compiled."""
    keras.utils.set_random_seed(3)
    make, shape = LAYERS[name]
    model = keras.Sequential(
        [
            keras.Input(shape),
            make(),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="head"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def fit(model, epochs, callbacks=(), **arguments):
    x, y = data(model)
    return model.fit(
        x,
        y,
        batch_size=4,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=list(callbacks),
        **arguments,
    )


def data(model):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(16, *model.input_shape[1:])).astype("float32")
    return x, rng.normal(size=(16, 4)).astype("float32")


def pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0, 0.75, begin_step=1, end_step=14, frequency=3)
    return tfcomp.callbacks.GradualPruning(schedule, targets="head")


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def check_keras(name, model, folder):
    model.save(folder / "m.keras")
    loaded = keras.models.load_model(folder / "m.keras")
    assert_same_weights(model, loaded)
    x, _ = data(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))
    assert np.mean(numpy(loaded.get_layer("head").kernel) == 0) == 0.75
    fit(loaded, 1, [tfcomp.callbacks.PreserveSparsity("head")])
    assert np.mean(numpy(loaded.get_layer("head").kernel) == 0) == 0.75


def check_weights(name, model, folder):
    model.save_weights(folder / "m.weights.h5")
    loaded = make_model(name)
    fit(loaded, 1)
    loaded.load_weights(folder / "m.weights.h5")
    assert_same_weights(model, loaded)


def check_saved_model(name, model, folder):
    if keras.backend.backend() != "tensorflow":
        return
    import tensorflow as tf

    tfcomp.export(model, folder / "compact", verbose=False)
    loaded = tf.saved_model.load(folder / "compact")
    x, _ = data(model)
    expected = tf.function(lambda x: model(x, training=False))(x)
    np.testing.assert_allclose(loaded.serve(x), expected, rtol=1e-6, atol=1e-6)


def check_backup_and_restore(name, model, folder):
    with pytest.raises(Killed):
        fit(
            make_model(name),
            4,
            [keras.callbacks.BackupAndRestore(folder / "backup"), pruning(), Kill()],
        )
    resumed = make_model(name)
    fit(resumed, 4, [keras.callbacks.BackupAndRestore(folder / "backup"), pruning()])
    assert_same_weights(model, resumed)
    for a, b in zip(model.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy(a.value), numpy(b.value))


# One of each way to make a layer; the others are variants.
QUICK = ("BinaryConv2D", "DoReFaDense", "HashedDense", "ProductQuantizedConv2D", "ShuffleUnit")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LAYERS]


@pytest.mark.parametrize("name", NAMES)
def test_files_and_resume(name, tmp_path):
    model = make_model(name)
    fit(model, 4, [pruning()])
    for check in (check_backup_and_restore, check_keras, check_weights, check_saved_model):
        check(name, model, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_mixed_float16(name, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_model(name)
    history = fit(model, 4, [pruning()])
    assert np.all(np.isfinite(history.history["loss"]))
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert np.mean(numpy(model.get_layer("head").kernel) == 0) > 0.5
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert_same_weights(model, loaded)
    x, _ = data(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def test_no_layer_is_left_out():
    made = {name for name in layers.__all__ if issubclass(getattr(layers, name), keras.Layer)}
    assert made == set(LAYERS)
