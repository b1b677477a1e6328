"""Product-quantized layers: the kernel entry by entry, look-up tables, what is stored."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase

import tfcomp
from tfcomp.layers import (
    ProductQuantizedConv1D,
    ProductQuantizedConv2D,
    ProductQuantizedConv3D,
    ProductQuantizedDense,
)


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def reference_kernel(layer):
    """Every weight by its definition."""
    books, codes = numpy(layer.codebooks), numpy(layer.codes)
    spaces, filters = codes.shape[-2:]
    kernel = np.zeros(layer.kernel_shape, "float32")
    per_group = filters * spaces // len(books)
    for index in np.ndindex(*layer.kernel_shape):
        *window, channel, f = index
        space, entry = divmod(channel, books.shape[2])
        book = books[(f // per_group) * spaces + space]
        kernel[index] = book[codes[(*window, space, f)], entry]
    return kernel


CASES = [
    (ProductQuantizedDense, (9,), (3, 7), {}),
    (ProductQuantizedConv1D, (4, 3), (9, 5), {"padding": "causal", "dilation_rate": 2}),
    (ProductQuantizedConv1D, (4, 3), (5, 9), {"strides": 2, "data_format": "channels_first"}),
    (ProductQuantizedConv2D, (4, (3, 2)), (8, 7, 5), {"padding": "same", "strides": (2, 1)}),
    (ProductQuantizedConv2D, (6, 3), (8, 7, 10), {"groups": 2, "dilation_rate": 2}),
    (ProductQuantizedConv3D, (4, 2), (4, 4, 4, 3), {"use_bias": False, "activation": "relu"}),
]


@pytest.mark.parametrize(("cls", "arguments", "shape", "options"), CASES)
def test_decoded_and_looked_up_outputs_are_those_of_the_kernel(cls, arguments, shape, options):
    options = {**options, "subvector_size": 2, "codewords": 3, "bias_initializer": "ones"}
    layer = cls(*arguments, seed=4, **options)
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    outputs = numpy(layer(x))
    kernel = reference_kernel(layer)
    np.testing.assert_array_equal(numpy(layer.kernel), kernel)
    base = next(b for b in cls.__mro__ if b.__module__.startswith("keras."))
    for name in ("subvector_size", "codewords"):
        options.pop(name)
    plain = base(*arguments, **options)
    plain.build(x.shape)
    plain.kernel.assign(kernel)
    expected = numpy(plain(x))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    tables = cls.from_config({**layer.get_config(), "lookup": True})
    tables.build(x.shape)
    tables.set_weights(layer.get_weights())
    np.testing.assert_allclose(numpy(tables(x)), expected, atol=1e-5)
    np.testing.assert_allclose(numpy(tables(x, training=True)), expected, atol=1e-5)


@pytest.mark.parametrize("lookup", [False, True])
@pytest.mark.parametrize("name", ["Dense", "Conv1D", "Conv2D", "Conv3D"])
def test_keras_layer_exam(name, lookup):
    rank = 0 if name == "Dense" else int(name[4])
    first = {"filters": 4, "kernel_size": 2} if rank else {"units": 4}
    TestCase().run_layer_test(
        getattr(tfcomp.layers, f"ProductQuantized{name}"),
        init_kwargs={**first, "subvector_size": 2, "codewords": 3, "lookup": lookup},
        input_shape=(2, *[4] * rank, 3),
        expected_output_shape=(2, *[3] * rank, 4),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=1,
        supports_masking=not rank,
    )


def test_training_moves_codewords_and_no_codes(tmp_path):
    model = keras.Sequential([keras.Input((8,)), ProductQuantizedDense(6, codewords=4)])
    model.compile("adam", "mse")
    books, codes, _ = (numpy(w).copy() for w in map(model.layers[0].__getattribute__, _NAMES))
    x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
    losses = model.fit(x, x[:, :6], epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    layer = model.layers[0]
    assert np.any(numpy(layer.codebooks) != books)
    np.testing.assert_array_equal(numpy(layer.codes), codes)
    assert numpy(layer.codes).dtype == np.uint8
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(model(x)), numpy(loaded(x)))


_NAMES = ("codebooks", "codes", "bias")


@pytest.mark.tensorflow
@pytest.mark.parametrize("lookup", [False, True])
def test_exported_folder_holds_codebooks_and_packed_codes(lookup, tmp_path):
    import tensorflow as tf

    layer = ProductQuantizedDense(1024, codewords=16, lookup=lookup)
    model = keras.Sequential([keras.Input((512,)), layer])
    # 128 sub-spaces of 16 codewords with 4 numbers; a code of 4 bits for each of 128 x 1024.
    stored = 128 * 16 * 4 * 4 + 128 * 1024 * 4 // 8 + 4 * 1024
    tfcomp.export(model, tmp_path / "small", verbose=False)
    size = sum(f.stat().st_size for f in (tmp_path / "small").rglob("*") if f.is_file())
    assert 0.9 * stored < size < stored + 40_000 < 512 * 1024 * 4 / 10
    served = tf.saved_model.load(tmp_path / "small")
    x = np.random.default_rng(0).normal(size=(2, 512)).astype("float32")
    np.testing.assert_allclose(served.serve(x), model(x), rtol=1e-4, atol=1e-4)
    operations = {node.op for node in served.serve.concrete_functions[0].graph.as_graph_def().node}
    assert ("GatherV2" in operations) == lookup


def test_summary_counts_tables_and_additions():
    shape = (6, 6, 8)
    found = []
    for lookup in (False, True):
        layer = ProductQuantizedConv2D(16, 3, codewords=4, lookup=lookup, use_bias=False)
        model = keras.Sequential([keras.Input(shape), layer])
        found.append(tfcomp.summary(model, print_table=False).layers[0])
    assert found[0].macs == {(32, 32): 4 * 4 * 9 * 8 * 16}
    assert found[1].macs == {(32, 32): 6 * 6 * 8 * 4, (8, 32): 4 * 4 * 9 * 2 * 16}
    assert found[0].weights == 2 * 4 * 4 + 9 * 2 * 16
    # Two bits a code, and few bytes more.
    assert found[0].bytes_coded < 4 * 32 + 9 * 2 * 16 * 2 / 8 + 40


@pytest.mark.parametrize(
    ("name", "value"),
    [("subvector_size", 0), ("codewords", 1), ("codewords", 2.5), ("seed", -1)],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        ProductQuantizedDense(4, **{name: value})


def test_more_codewords_than_sub_vectors():
    with pytest.raises(ValueError, match=r"argument `codewords`.*at most 12"):
        ProductQuantizedConv2D(3, 2, codewords=13).build((None, 4, 4, 4))
