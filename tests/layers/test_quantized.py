"""Quantized layers: what they compute, where gradients go, what is saved."""

import warnings

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

from tfcomp import layers, quantizers
from tfcomp.quantizers import Binary, Ternary

IMAGE, SEQUENCE, VOLUME, ROWS = (2, 6, 6, 3), (2, 7, 3), (2, 5, 5, 5, 3), (2, 4)

CONV = {"filters": 4, "kernel_size": 3}

# Arguments that the Keras layer has, too.
PLAIN = ("units", "filters", "kernel_size", "depth_multiplier", "equation", "output_shape")

# Class, arguments, input shape.
CASES = [
    (layers.QuantizedDense, {"units": 5}, ROWS),
    (layers.QuantizedEinsumDense, {"equation": "abc,cd->abd", "output_shape": (None, 5)}, SEQUENCE),
    (layers.QuantizedConv1D, {"filters": 4, "kernel_size": 3}, SEQUENCE),
    (layers.QuantizedConv2D, {"filters": 4, "kernel_size": 3}, IMAGE),
    (layers.QuantizedConv3D, {"filters": 4, "kernel_size": 2}, VOLUME),
    (layers.QuantizedConv1DTranspose, {"filters": 4, "kernel_size": 3}, SEQUENCE),
    (layers.QuantizedConv2DTranspose, {"filters": 4, "kernel_size": 3}, IMAGE),
    (layers.QuantizedConv3DTranspose, {"filters": 4, "kernel_size": 2}, VOLUME),
    (layers.QuantizedDepthwiseConv1D, {"kernel_size": 3, "depth_multiplier": 2}, SEQUENCE),
    (layers.QuantizedDepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}, IMAGE),
    (layers.QuantizedSeparableConv1D, {"filters": 4, "kernel_size": 3}, SEQUENCE),
    (layers.QuantizedSeparableConv2D, {"filters": 4, "kernel_size": 3}, IMAGE),
    (layers.BinaryDense, {"units": 5, "scale": True}, ROWS),
    (layers.BinaryConv1D, {"filters": 4, "kernel_size": 3, "padding": "causal"}, SEQUENCE),
    (layers.BinaryConv2D, {"filters": 4, "kernel_size": 3, "padding": "same"}, IMAGE),
    (layers.BinaryConv3D, {"filters": 4, "kernel_size": 2}, VOLUME),
    (layers.BinaryDepthwiseConv2D, {"kernel_size": 3, "padding": "same"}, IMAGE),
    (
        layers.BinarySeparableConv2D,
        {"filters": 4, "kernel_size": 3, "padding": "same", "scale": True},
        IMAGE,
    ),
    (layers.DoReFaDense, {"units": 5}, ROWS),
    (layers.DoReFaConv1D, {"filters": 4, "kernel_size": 3, "gradient_bits": 4}, SEQUENCE),
    (layers.DoReFaConv2D, {"filters": 4, "kernel_size": 3, "weight_bits": 4}, IMAGE),
    (layers.DoReFaConv3D, {"filters": 4, "kernel_size": 2}, VOLUME),
    (layers.TernaryDense, {"units": 5}, ROWS),
    (layers.TernaryConv2D, {"filters": 4, "kernel_size": 3}, IMAGE),
    (layers.TrainedTernaryDense, {"units": 5}, ROWS),
    (layers.TrainedTernaryConv2D, CONV, IMAGE),
]
IDS = [case[0].__name__ for case in CASES]


def arguments_of(cls, arguments, quantizer):
    """With a quantizer for every weight where the class has none by default."""
    if cls.__name__.startswith("Quantized"):
        return {**arguments, **dict.fromkeys(cls.quantized_weights.values(), quantizer)}
    return arguments


def batch(shape):
    return np.random.default_rng(3).normal(size=shape).astype("float32")


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


SCALED = [
    (layers.BinaryConv2D, {**CONV, "input_scale": True, "padding": "same"}, IMAGE),
    (layers.BinaryDepthwiseConv2D, {"kernel_size": 3, "input_scale": True}, IMAGE),
    (layers.HORQDense, {"units": 5}, ROWS),
    (layers.HORQConv1D, CONV, SEQUENCE),
    (layers.HORQConv2D, {**CONV, "order": 3}, IMAGE),
    (layers.HORQConv3D, {"filters": 4, "kernel_size": 2}, VOLUME),
]


@pytest.mark.parametrize(
    ("cls", "arguments", "shape"), CASES + SCALED, ids=IDS + [case[0].__name__ for case in SCALED]
)
def test_keras_layer_exam(cls, arguments, shape):
    arguments = arguments_of(cls, arguments, Ternary(per_channel=True))
    layer = cls(**arguments)
    layer.build(shape)
    TestCase().run_layer_test(
        cls,
        init_kwargs=arguments,
        input_shape=shape,
        expected_output_shape=layer.compute_output_shape(shape),
        expected_num_trainable_weights=len(layer.trainable_weights),
        expected_num_non_trainable_weights=0,
        supports_masking=layer.supports_masking,
    )


@pytest.mark.parametrize(("cls", "arguments", "shape"), CASES, ids=IDS)
def test_equals_the_keras_layer_on_quantized_weights(cls, arguments, shape):
    layer = cls(**arguments_of(cls, arguments, Ternary(per_channel=True)))
    x = batch(shape)
    outputs = numpy(layer(x))
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    plain = base(**{name: v for name, v in arguments.items() if name in PLAIN})
    if layer.input_quantizer is not None:
        x = numpy(layer.input_quantizer(x))
    if arguments.get("padding") == "same":
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=1)
    elif arguments.get("padding") == "causal":
        x = np.pad(x, [(0, 0), (2, 0), (0, 0)], constant_values=1)
    plain.build(x.shape)
    quantized = {id(v): numpy(q(v.value)) for v, q in layer.weight_quantizers}
    assert len(quantized) == len(layer.quantized_weights)
    own = [v for v in layer.weights if v.name not in ("positive", "negative")]
    plain.set_weights([quantized.get(id(v), numpy(v.value)) for v in own])
    np.testing.assert_array_equal(outputs, numpy(plain(x)))


@pytest.mark.parametrize(("cls", "arguments", "shape"), CASES, ids=IDS)
@pytest.mark.parametrize("format", ["m.keras", "m.weights.h5"])
def test_saves_latent_weights(cls, arguments, shape, format, tmp_path):
    def make():
        return keras.Sequential(
            [keras.Input(shape[1:]), cls(**arguments_of(cls, arguments, "binary"), name="layer")]
        )

    with pytest.warns(UserWarning) if cls.__name__.startswith("Quant") else _nothing():
        model = make()
    if format == "m.keras":
        model.save(tmp_path / format)
        loaded = keras.models.load_model(tmp_path / format)
    else:
        model.save_weights(tmp_path / format)
        loaded = make()
        loaded.load_weights(tmp_path / format)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.size < 20 or len(np.unique(a)) > 3
    x = batch(shape)
    np.testing.assert_array_equal(numpy(model(x)), numpy(loaded(x)))


def _nothing():
    import contextlib

    return contextlib.nullcontext()


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("jit", [False, True])
def test_training_moves_latent_weights_only_inside_the_clip(policy, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ toolchain")
    keras.config.set_dtype_policy(policy)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.BinaryConv2D(4, 3, input_quantizer=None, padding="same"),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            layers.BinaryDense(3, scale=True),
        ]
    )
    model.compile(keras.optimizers.Adam(0.1), "mse", jit_compile=jit)
    before = model.get_weights()
    x = batch((16, 6, 6, 2))
    model.fit(x, np.ones((16, 3)), epochs=3, verbose=0)
    after = model.get_weights()
    assert np.any(before[0] != after[0])
    assert np.abs(after[0]).max() <= 1 and np.abs(model.layers[-1].get_weights()[0]).max() <= 1
    assert np.abs(after[0]).min() < 0.9


def test_gradient_reaches_the_latent_kernel():
    layer = layers.BinaryDense(2, input_quantizer=None, use_bias=False, kernel_constraint=None)
    layer.build((None, 2))
    layer.kernel.assign([[0.5, -2.0], [1.5, 0.25]])
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(1.0), lambda y, p: keras.ops.sum(p * y, axis=-1))
    model.fit(np.array([[1.0, 10.0]]), np.array([[1.0, 2.0]]), verbose=0)
    # The gradient x y of the binary kernel, where |w| <= 1.
    np.testing.assert_allclose(numpy(layer.kernel), [[-0.5, -2.0], [1.5, 0.25 - 20.0]])


def test_tiny_weights_keep_their_sign_in_half_precision():
    keras.config.set_dtype_policy("mixed_float16")
    layer = layers.BinaryDense(1, input_quantizer=None, use_bias=False)
    layer.build((None, 2))
    layer.kernel.assign([[-1e-12], [1e-12]])
    assert numpy(layer(np.array([[1.0, 3.0]]))).tolist() == [[2.0]]


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (1, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("training", [False, True])
def test_pad_value_follows_same_padding(data_format, stride, dilation, training):
    if data_format == "channels_first" and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow has no such convolution on CPU")
    arguments = {
        "filters": 3,
        "kernel_size": (3, 2),
        "strides": stride,
        "dilation_rate": dilation,
        "padding": "same",
        "data_format": data_format,
    }
    layer = layers.QuantizedConv2D(**arguments, pad_value=-1)
    x = batch((2, 7, 8, 3))
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
    outputs = numpy(layer(x, training=training))
    # Padding with v is padding x - v with zeros and adding v to everything.
    plain = keras.layers.Conv2D(**arguments, use_bias=False)
    plain.build(x.shape)
    plain.kernel.assign(layer.kernel)
    everything = numpy(layer.kernel).sum((0, 1, 2))
    if data_format == "channels_first":
        everything = everything[:, None, None]
    np.testing.assert_allclose(outputs, numpy(plain(x + 1)) - everything, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("training", [False, True])
def test_pad_value_where_the_size_is_not_known_before_the_call(training):
    import functools

    import tensorflow as tf

    layer = layers.BinaryConv2D(1, 3, strides=2, padding="same", kernel_initializer="ones")
    model = keras.Sequential([keras.Input((None, None, 2)), layer])
    call = functools.partial(model, training=training)
    run = tf.function(call, input_signature=[tf.TensorSpec((None, None, None, 2))])
    for size in ((7, 8), (4, 5)):
        outputs = run(np.ones((1, *size, 2), "float32")).numpy()
        assert outputs.shape == (1, -(-size[0] // 2), -(-size[1] // 2), 1)
        assert np.unique(outputs) == [18.0]


def test_weights_as_stored():
    layer = layers.TernaryDense(4)
    x = batch((2, 3))
    layer(x)
    ((kernel, quantizer),) = layer.weight_quantizers
    expected = numpy(layer(x))
    kernel.assign(quantizer(kernel.value) * 2)
    with quantizers.weights_as_stored():
        np.testing.assert_allclose(numpy(layer(x)), 2 * expected, rtol=1e-6)


def test_regularizers_act_on_latent_weights():
    layer = layers.BinaryDense(2, kernel_regularizer=keras.regularizers.L1(1.0), use_bias=False)
    layer.build((None, 1))
    layer.kernel.assign([[0.25, -0.5]])
    layer(np.ones((1, 1)))
    assert float(layer.losses[0]) == 0.75


def test_only_the_call_reads_quantized_weights():
    """Fails when Keras no longer reads `kernel` in `call`, or no longer casts it there."""
    seen = []

    def watch(x):
        kernel = keras.ops.stop_gradient(layer.kernel)
        dtype = keras.backend.standardize_dtype(kernel.dtype)
        seen.append((dtype, np.unique(numpy(keras.ops.cast(kernel, "float32")))))
        return x

    layer = layers.QuantizedDense(
        4, activation=watch, kernel_quantizer="ternary", dtype="mixed_bfloat16"
    )
    layer.build((None, 6))
    latent = numpy(layer.kernel)
    layer(np.ones((1, 6), "float32"))
    dtype, values = seen[-1]
    assert dtype == "bfloat16" and len(values) == 3
    assert isinstance(layer.kernel, keras.Variable)
    np.testing.assert_array_equal(numpy(layer.kernel), latent)
    with pytest.raises(AttributeError):
        layer.kernel = 1


def test_layers_used_as_activations_keep_their_state_and_losses():
    for activation in (
        keras.layers.BatchNormalization(momentum=0.0),
        keras.layers.ActivityRegularization(l2=1.0),
        keras.layers.PReLU(),
    ):
        layer = layers.TernaryDense(2, activation=activation)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.compile("sgd", "mse")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.fit(batch((8, 3)), np.ones((8, 2)), verbose=0)
        layer(batch((8, 3)))
        if isinstance(activation, keras.layers.BatchNormalization):
            assert np.any(numpy(activation.moving_mean) != 0)
        elif isinstance(activation, keras.layers.ActivityRegularization):
            assert float(layer.losses[0]) > 0
        else:
            assert np.any(numpy(activation.alpha) != 0)


@pytest.mark.parametrize("cls", [layers.TernaryDense, layers.TernaryConv2D])
def test_lora_is_quantized_as_it_is_saved(cls, tmp_path):
    arguments, shape = ({"units": 4}, ROWS) if cls is layers.TernaryDense else (CONV, IMAGE)
    layer = cls(**arguments)
    model = keras.Sequential([keras.Input(shape[1:]), layer])
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(batch(layer.lora_kernel_b.shape))
    assert layer.weight_quantizers == []
    expected = numpy(model(batch(shape)))
    with quantizers.weights_as_stored():
        np.testing.assert_array_equal(numpy(model(batch(shape))), expected)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(numpy(loaded(batch(shape))), expected, rtol=1e-5, atol=1e-6)


def test_binary_layers_take_a_quantizer_of_their_own():
    layer = layers.BinaryDense(2, kernel_quantizer=Binary(clip_value=None))
    assert layer.kernel_quantizer.clip_value is None and not layer.scale
    assert layers.BinaryConv2D.from_config(layers.BinaryConv2D(2, 3, scale=True).get_config()).scale
    with pytest.raises(ValueError, match="argument `scale`"):
        layers.BinaryDense(2, kernel_quantizer=Binary(), scale=True)


def test_einsum_dense_scales_follow_the_equation():
    layer = layers.QuantizedEinsumDense(
        "abc,cde->abde", output_shape=(None, 2, 3), kernel_quantizer=Ternary(per_channel=True)
    )
    layer.build((None, 5, 4))
    ((_, quantizer),) = layer.weight_quantizers
    assert quantizer.axis == (-2, -1)


def test_warns_of_unclipped_latent_weights():
    with pytest.warns(UserWarning, match=r"kernel_constraint=tfcomp\.layers\.WeightClip\(1\.0\)"):
        layers.QuantizedDense(2, kernel_quantizer="binary")
    with pytest.raises(ValueError, match="argument `clip_value`"):
        layers.WeightClip(0)


def test_config_round_trip_of_plain_callables():
    @keras.saving.register_keras_serializable("test")
    def halve(x):
        return x / 2

    layer = layers.QuantizedDense(2, kernel_quantizer=halve, input_quantizer=Binary(None))
    again = layers.QuantizedDense.from_config(layer.get_config())
    assert again.kernel_quantizer is halve
    assert again.input_quantizer.clip_value is None
