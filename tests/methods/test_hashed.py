"""Hashed layers: the hash by an independent reference, the exact gradient, what is stored."""

import keras
import numpy as np
import pytest
from gradients import gradient
from keras.src.testing import TestCase

import tfcomp
from tfcomp.layers import HashedConv1D, HashedConv2D, HashedConv3D, HashedDense
from tfcomp.methods.hashed import buckets_and_signs, hash_bits


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def reference_hash(i, j, seed):
    """The documented formula in Python's unbounded integers."""
    mask = 2**32 - 1
    h = ((i * 0x9E3779B1 + seed) & mask) ^ ((j * 0x85EBCA77) & mask)
    h ^= h >> 16
    h = (h * 0x21F0AAAD) & mask
    h ^= h >> 15
    h = (h * 0x735A2D97) & mask
    return h ^ (h >> 15)


def reference_kernel(buckets, rows, columns, seed):
    kernel = np.zeros((rows, columns), "float32")
    for i in range(rows):
        for j in range(columns):
            h = reference_hash(i, j, seed)
            k = int(np.floor(np.float32(h >> 8) * np.float32(len(buckets) / 2**24)))
            kernel[i, j] = buckets[min(k, len(buckets) - 1)] * (1 - 2 * (h & 1))
    return kernel


@pytest.mark.parametrize("seed", [0, 1, 123456789, 2**31 - 1])
def test_hash(seed):
    found = numpy(hash_bits(40, 30, seed)).astype(np.int64) & (2**32 - 1)
    expected = [[reference_hash(i, j, seed) for j in range(30)] for i in range(40)]
    np.testing.assert_array_equal(found, expected)


def test_golden_hash():
    """Files depend on these numbers: they must never change."""
    found = numpy(hash_bits(2, 3, 42)).astype(np.int64) & (2**32 - 1)
    assert found.tolist() == [
        [671623878, 961307751, 1901404888],
        [3051710096, 242312994, 2526705199],
    ]


def test_buckets_are_used_evenly_and_signs_balance():
    index, sign = map(numpy, buckets_and_signs(500, 400, 100, seed=0))
    counts = np.bincount(index.ravel(), minlength=100)
    # Chi-squared with 99 degrees of freedom: 149 is its 99.9 % quantile.
    assert ((counts - 2000) ** 2 / 2000).sum() < 149
    assert abs(sign.mean()) < 0.01
    by_bucket = np.bincount(index.ravel(), weights=sign.ravel(), minlength=100)
    assert np.abs(by_bucket).max() < 5 * np.sqrt(2000)
    other, _ = map(numpy, buckets_and_signs(500, 400, 100, seed=1))
    assert np.mean(index == other) < 0.02


def test_kernel_and_outputs():
    layer = HashedDense(9, compression=0.2, seed=5, activation="relu")
    x = np.random.default_rng(0).normal(size=(3, 2, 11)).astype("float32")
    outputs = numpy(layer(x))
    buckets = numpy(layer.hashed_kernel)
    assert buckets.shape == (20,)
    layer.bias.assign(np.arange(9) / 9)
    kernel = reference_kernel(buckets, 11, 9, 5)
    np.testing.assert_array_equal(numpy(layer.kernel), kernel)
    np.testing.assert_allclose(outputs, np.maximum(x @ kernel, 0), atol=1e-5)
    np.testing.assert_allclose(
        numpy(layer(x)), np.maximum(x @ kernel + np.arange(9) / 9, 0), atol=1e-5
    )


def test_gradient_sums_over_a_bucket():
    layer = HashedDense(6, buckets=7, use_bias=False)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    layer.build(x.shape)
    upstream = np.random.default_rng(1).normal(size=(4, 6)).astype("float32")

    def loss(buckets):
        with keras.StatelessScope([(layer.hashed_kernel, buckets)]):
            return keras.ops.multiply(layer.call(keras.ops.array(x)), upstream)

    found = gradient(loss, numpy(layer.hashed_kernel))
    dense = x.T @ upstream
    expected = np.zeros(7)
    for i in range(5):
        for j in range(6):
            unit = np.eye(7, dtype="float32")
            signs = [reference_kernel(unit[k], 5, 6, 0)[i, j] for k in range(7)]
            expected += np.array(signs) * dense[i, j]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


CONVOLUTIONS = [
    (HashedConv1D, (9, 4), {"padding": "causal", "dilation_rate": 2}),
    (HashedConv1D, (4, 9), {"strides": 2, "data_format": "channels_first"}),
    (HashedConv2D, (8, 7, 4), {"padding": "same", "strides": (2, 1), "activation": "relu"}),
    (HashedConv2D, (8, 7, 4), {"groups": 2, "dilation_rate": 2, "use_bias": False}),
    (HashedConv3D, (5, 5, 5, 4), {"padding": "same"}),
]


@pytest.mark.parametrize(("cls", "shape", "arguments"), CONVOLUTIONS)
def test_convolution_is_that_of_keras_with_the_hashed_kernel(cls, shape, arguments):
    layer = cls(6, 3, buckets=17, seed=4, **arguments)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    outputs = numpy(layer(x))
    plain = next(base for base in cls.__mro__ if base.__module__.startswith("keras."))
    expected = plain(6, 3, **arguments)
    expected.build(x.shape)
    rows = int(np.prod(expected.kernel.shape[:-1]))
    kernel = reference_kernel(numpy(layer.hashed_kernel), rows, 6, 4)
    expected.kernel.assign(kernel.reshape(expected.kernel.shape))
    np.testing.assert_array_equal(numpy(layer.kernel), numpy(expected.kernel))
    np.testing.assert_allclose(outputs, numpy(expected(x)), atol=1e-5)
    assert layer.count_params() == 17 + (6 if layer.use_bias else 0)
    assert layer.compute_output_shape(x.shape) == outputs.shape


@pytest.mark.parametrize("cls", [HashedConv1D, HashedConv2D, HashedConv3D])
def test_keras_convolution_exam(cls):
    rank = int(cls.__name__[-2])
    TestCase().run_layer_test(
        cls,
        init_kwargs={"filters": 4, "kernel_size": 2, "compression": 0.25, "seed": 3},
        input_shape=(2, *[4] * rank, 3),
        expected_output_shape=(2, *[3] * rank, 4),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=0,
        supports_masking=False,
    )


@pytest.mark.parametrize("arguments", [{"compression": 0.25}, {"buckets": 3, "seed": 9}])
def test_keras_layer_exam(arguments):
    TestCase().run_layer_test(
        HashedDense,
        init_kwargs={"units": 4, **arguments},
        input_shape=(2, 3, 5),
        expected_output_shape=(2, 3, 4),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=0,
        supports_masking=True,
    )


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("jit", [False, True])
def test_trains_every_bucket_in_use(optimizer, jit):
    if jit and keras.backend.backend() == "torch":
        pytest.skip("torch.compile needs a C++ toolchain")
    model = keras.Sequential([keras.Input((6,)), HashedDense(5, compression=0.5)])
    model.compile(optimizer, "mse", jit_compile=jit)
    before = numpy(model.layers[0].hashed_kernel).copy()
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    losses = model.fit(x, x[:, :5], epochs=10, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    used = np.unique(numpy(buckets_and_signs(6, 5, 15, 0)[0]))
    moved = np.flatnonzero(numpy(model.layers[0].hashed_kernel) != before)
    np.testing.assert_array_equal(moved, used)


def test_file_holds_the_buckets_alone(tmp_path):
    model = keras.Sequential([keras.Input((64,)), HashedDense(64, compression=1 / 64, seed=3)])
    assert [w.shape for w in model.get_weights()] == [(64,), (64,)]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.ones((1, 64), "float32")
    np.testing.assert_array_equal(numpy(model(x)), numpy(loaded(x)))


@pytest.mark.tensorflow
def test_exported_folder_holds_the_buckets_alone(tmp_path):
    import tensorflow as tf

    model = keras.Sequential(
        [
            keras.Input((6, 6, 32)),
            HashedConv2D(64, 3, compression=1 / 8),
            keras.layers.Flatten(),
            HashedDense(512, compression=1 / 64),
            keras.layers.Dense(3),
        ]
    )
    stored = 4 * (9 * 32 * 64 // 8 + 16 * 64 * 512 // 64)
    tfcomp.export(model, tmp_path / "small", verbose=False)
    size = sum(f.stat().st_size for f in (tmp_path / "small").rglob("*") if f.is_file())
    # Biases, the head and the graph come on top.
    assert stored < size < stored + 60_000 < 4 * 16 * 64 * 512 / 20
    served = tf.saved_model.load(tmp_path / "small")
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 32)).astype("float32")
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-5, atol=1e-5)
    # Kernels are decoded once, on loading: a call does what one of the plain layers does.
    operations = {node.op for node in served.serve.concrete_functions[0].graph.as_graph_def().node}
    assert not operations & {"GatherV2", "BitwiseXor", "Range"}


def test_swapped_in_for_any_dense_and_convolution():
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(4, 3, strides=2, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="relu", name="dense"),
        ]
    )
    rules = {keras.layers.Conv2D: HashedConv2D, keras.layers.Dense: HashedDense}
    swapped = tfcomp.swap_layers(model, rules)
    conv, dense = swapped.get_layer("conv"), swapped.get_layer("dense")
    assert type(conv) is HashedConv2D and conv.strides == (2, 2)
    assert type(dense) is HashedDense and dense.activation is keras.activations.relu
    assert swapped.output_shape == model.output_shape
    # The kernels are new; of the weights there were, biases are carried over.
    np.testing.assert_array_equal(numpy(dense.bias), numpy(model.get_layer("dense").bias))


def test_no_lora():
    with pytest.raises(ValueError, match="lora_rank=2"):
        HashedDense(4, lora_rank=2).build((None, 3))
    layer = HashedDense(4)
    layer.build((None, 3))
    with pytest.raises(NotImplementedError, match="LoRA"):
        layer.enable_lora(2)


def test_initial_variance_is_that_of_the_whole_kernel():
    layer = HashedDense(300, compression=1 / 64, kernel_initializer="glorot_normal")
    layer.build((None, 500))
    assert numpy(layer.hashed_kernel).std() == pytest.approx(np.sqrt(2 / 800), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"compression": 0}, "compression"),
        ({"compression": -0.5}, "compression"),
        ({"compression": 1.5}, "compression"),
        ({"compression": float("nan")}, "compression"),
        ({"buckets": 0}, "buckets"),
        ({"buckets": 2**25}, "buckets"),
        ({"seed": -1}, "seed"),
        ({"seed": 0.5}, "seed"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        HashedDense(**{"units": 4, **arguments})


def test_more_buckets_than_connections():
    with pytest.raises(ValueError, match=r"argument `buckets`.*at most 12"):
        HashedDense(4, buckets=13).build((None, 3))
