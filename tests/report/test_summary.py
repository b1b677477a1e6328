"""The summary's numbers against counts made by hand."""

import io
import json
import time
import zlib

import keras
import numpy as np
import pytest
import rich.console
from keras import layers

import tfcomp
from tfcomp import storage
from tfcomp.report import summary


def rows(model, **kwargs):
    return {row.name: row for row in summary(model, print_table=False, **kwargs).layers}


def macs(layer, *shapes, dtype="float32"):
    """MACs of one layer called on inputs of the given shapes, batch axis excluded."""
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    model = keras.Model(inputs, layer(*inputs))
    return summary(model, print_table=False).macs.get((32, 32), 0)


@pytest.mark.parametrize(
    "layer, shape, expected",
    [
        (lambda: layers.Dense(10), (20,), 200),
        (lambda: layers.Dense(10), (7, 20), 7 * 200),
        (lambda: layers.EinsumDense("abc,cde->abde", (None, 4, 5)), (7, 20), 7 * 20 * 4 * 5),
        (lambda: layers.EinsumDense("...x,xy->...y", 6), (7, 20), 7 * 20 * 6),
        (lambda: layers.Conv1D(8, 3), (10, 4), 8 * (3 * 4 * 8)),
        # 28 - 5 + 1 = 24: 24 * 24 positions of a 5 x 5 x 1 x 20 kernel.
        (lambda: layers.Conv2D(20, 5), (28, 28, 1), 24 * 24 * 500),
        (lambda: layers.Conv2D(20, 5, strides=2, padding="same"), (28, 28, 1), 14 * 14 * 500),
        (lambda: layers.Conv2D(8, 3, groups=2), (6, 6, 4), 4 * 4 * 3 * 3 * 2 * 8),
        (lambda: layers.Conv2D(8, 3, dilation_rate=2), (9, 9, 4), 5 * 5 * 3 * 3 * 4 * 8),
        (lambda: layers.Conv3D(2, 2), (4, 4, 4, 3), 27 * 8 * 3 * 2),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 4), 16 * 9 * 4 * 2),
        (lambda: layers.SeparableConv2D(8, 3), (6, 6, 4), 16 * (9 * 4 + 4 * 8)),
        (lambda: layers.Conv2DTranspose(8, 3, strides=2), (5, 5, 4), 25 * 9 * 4 * 8),
        (lambda: layers.LSTM(16), (7, 5), 7 * 4 * 16 * (5 + 16)),
        (lambda: layers.GRU(16), (7, 5), 7 * 3 * 16 * (5 + 16)),
        (lambda: layers.SimpleRNN(16), (7, 5), 7 * 16 * (5 + 16)),
        (lambda: layers.Bidirectional(layers.LSTM(16)), (7, 5), 2 * 7 * 4 * 16 * (5 + 16)),
        (lambda: layers.TimeDistributed(layers.Dense(3)), (7, 5), 7 * 15),
    ],
)
def test_macs_of_layers(layer, shape, expected):
    assert macs(layer(), shape) == expected


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="convolves channels first anywhere")
def test_channels_first():
    layer = layers.Conv2D(20, 5, data_format="channels_first")
    assert macs(layer, (3, 28, 28)) == 24 * 24 * 25 * 3 * 20


def test_attention_counts_projections_and_products():
    query, value = keras.Input((6, 16)), keras.Input((9, 16))
    layer = layers.MultiHeadAttention(num_heads=4, key_dim=8)
    model = keras.Model([query, value], layer(query, value))
    found = {row.name: row.macs[32, 32] for row in summary(model, print_table=False).layers}
    assert found.pop("query") == 6 * 16 * 4 * 8
    assert found.pop("key") == 9 * 16 * 4 * 8
    assert found.pop("value") == 9 * 16 * 4 * 8
    assert found.pop("attention_output") == 6 * 4 * 8 * 16
    # Each of 4 heads: 6 x 9 scores over 8 numbers, and 6 x 9 times 8 numbers.
    assert found.popitem()[1] == 4 * 6 * 9 * (8 + 8)


def test_a_shared_layer_is_weighed_once_and_multiplies_at_every_call():
    shared = layers.Dense(10, name="shared")
    left, right = keras.Input((20,)), keras.Input((20,))
    inner = keras.Sequential([shared])
    model = keras.Model([left, right], layers.add([shared(left), inner(right), shared(right)]))
    found = rows(model)
    assert found["shared"].weights == 210
    assert found["shared"].macs == {(32, 32): 600}


def test_what_depends_on_an_unknown_axis_is_unknown_and_the_rest_is_not():
    x = keras.Input((None, 8))
    y = layers.Dense(4, name="sequence")(x)
    y = layers.Dense(5, name="pooled")(layers.GlobalAveragePooling1D()(y))
    model = keras.Model(x, y)
    found = rows(model)
    assert found["sequence"].macs is None
    assert found["pooled"].macs == {(32, 32): 20}
    summed = summary(model, print_table=False)
    assert not summed.macs_complete and summed.macs == {(32, 32): 20}


class Own(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 3), name="kernel")

    def call(self, x):
        return keras.ops.matmul(x, self.kernel)


def test_a_layer_of_unknown_kind_is_unknown():
    model = keras.Sequential([keras.Input((4,)), Own(name="own"), layers.Dense(2, name="dense")])
    found = rows(model)
    assert found["own"].macs is None and found["own"].weights == 12
    assert found["dense"].macs == {(32, 32): 6}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(5, name="dense")
        self.idle = layers.Dense(5, name="idle")

    def build(self, shape):
        self.dense.build(shape)
        self.idle.build(shape)
        self.built = True

    def call(self, x):
        return self.dense(self.dense(x))


def test_subclassed_models():
    model = Subclassed()
    model.build((None, 5))
    assert rows(model, input_shape=(None, 5))["dense"].macs == {(32, 32): 50}
    model(np.zeros((2, 5)))
    found = rows(model)
    assert found["dense"].macs == {(32, 32): 50}
    assert found["idle"].macs == {} and found["idle"].weights == 30
    # The layers are as they were.
    assert "call" not in vars(model.dense) and model(np.zeros((2, 5))).shape == (2, 5)


def test_a_model_that_cannot_be_traced_is_still_weighed():
    class Moody(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(5, name="dense")

        def call(self, x):
            raise RuntimeError("not today")

    model = Moody()
    model.dense.build((None, 4))
    model.built = True
    assert rows(model, input_shape=(None, 4))["dense"].macs is None
    assert rows(model)["dense"].weights == 25


def test_weights_and_bytes():
    model = keras.Sequential([keras.Input((64,)), layers.Dense(100, name="dense")])
    kernel = np.zeros((64, 100), "float32")
    kernel[::4] = 0.5
    kernel[::8] = -0.5
    model.layers[0].set_weights([kernel, np.zeros(100)])
    row = rows(model)["dense"]
    assert row.weights == 6500 and row.bytes_float32 == 26_000
    assert row.sparsity == 0.75 and row.distinct == 3
    assert row.bits_per_weight == 8 * row.bytes_coded / 6500 < 1.6
    assert row.path == "dense" and row.type == "Dense"


def test_paths_of_nested_layers_and_types():
    inner = keras.Sequential([layers.Dense(3, name="dense")], name="inner")
    model = keras.Sequential([keras.Input((4,)), inner])
    assert [row.path for row in summary(model, print_table=False).layers] == ["inner/dense"]


def test_seeds_and_optimizer_state_are_no_weights():
    model = keras.Sequential([keras.Input((4,)), layers.Dropout(0.5), layers.Dense(2)])
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.zeros((4, 4)), np.zeros((4, 2)), verbose=0)
    assert summary(model, print_table=False).weights == 10


def test_mixed_precision_has_operands_of_half_precision():
    layer = layers.Dense(3, dtype="mixed_float16")
    model = keras.Sequential([keras.Input((4,)), layer])
    assert summary(model, print_table=False).macs == {(16, 16): 12}


def test_quantized_layers_are_weighed_as_quantized():
    model = keras.Sequential(
        [keras.Input((64,)), tfcomp.layers.BinaryDense(32, use_bias=False, name="binary")]
    )
    row = rows(model)["binary"]
    assert row.distinct == 2 and row.bits_per_weight < 1.1
    assert row.macs == {(1, 1): 2048}


def test_layers_of_tfcomp():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 16)),
            tfcomp.layers.QuantizedConv2D(32, 3, kernel_quantizer="ternary", name="ternary"),
            layers.Flatten(),
            tfcomp.layers.HashedDense(10, compression=1 / 8, name="hashed"),
        ]
    )
    found = rows(model)
    assert found["ternary"].distinct == 3
    assert found["ternary"].macs == {(2, 32): 36 * 9 * 16 * 32}
    assert found["hashed"].macs == {(32, 32): 36 * 32 * 10}
    assert found["hashed"].weights == 36 * 32 * 10 / 8 + 10


def test_bits_of_binary_networks():
    made = tfcomp.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 4)),
            made.BinaryConv2D(8, 3, scale=True, input_quantizer=None, name="weights_only"),
            made.XNORBlock(6, 3, name="xnor"),
            made.HORQConv2D(5, 3, order=2, name="horq"),
            layers.Flatten(),
            made.DoReFaDense(7, weight_bits=2, activation_bits=4, name="dorefa"),
            made.BinaryDense(3, input_scale=True, name="binary"),
        ]
    )
    found = {row.name: (row.macs, row.distinct) for row in summary(model, print_table=False).layers}
    assert found["weights_only"] == ({(1, 32): 36 * 9 * 4 * 8}, 2 * 8)
    assert found["conv"] == ({(1, 1): 36 * 9 * 8 * 6}, 2 * 6)
    assert found["horq"] == ({(1, 2): 16 * 9 * 6 * 5}, 2 * 5)
    assert found["dorefa"] == ({(2, 4): 80 * 7}, 4)
    assert found["binary"] == ({(1, 1): 7 * 3}, 2)


def test_to_dict_is_json():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="dense")], name="tiny")
    found = json.loads(json.dumps(summary(model, print_table=False).to_dict()))
    assert found["name"] == "tiny" and found["weights"] == 10 and found["macs"] == {"32x32": 8}
    assert found["layers"][0]["name"] == "dense" and found["layers"][0]["macs"] == {"32x32": 8}
    assert found["macs_complete"]


def test_prints_a_table():
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(2, name="dense")], name="tiny")
    out = io.StringIO()
    summary(model, console=rich.console.Console(file=out, width=120))
    assert all(word in out.getvalue() for word in ("tiny", "dense", "10", "unknown", "Total"))


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="`model`"):
        summary(keras.Sequential([layers.Dense(2)]))


def test_a_summary_costs_what_looking_at_the_weights_costs():
    """Four million weights that hardly repeat: a second and more, were they searched or hashed."""
    layers = [keras.layers.Dense(1000, use_bias=False) for _ in range(4)]
    model = keras.Sequential([keras.Input((1000,)), *layers])
    summary(keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)]), print_table=False)
    value = keras.ops.convert_to_numpy(layers[0].kernel.value)
    began = time.process_time()
    zlib.compress(value.tobytes(), 6)
    yardstick = time.process_time() - began
    began = time.process_time()
    summed = summary(model, print_table=False)
    spent = time.process_time() - began
    distinct = len(set(value.ravel().tolist()))
    assert summed.is_estimate and abs(summed.layers[0].distinct - distinct) < 0.02 * distinct
    # Half of one thorough compression of all weights, by processor time of both. A sixth is what it
    # takes: the rest is for processors that others use, too.
    assert spent < 2 * yardstick


def test_an_estimate_says_so_and_everything_else_is_exact():
    rng = np.random.default_rng(0)
    shapes = {"large": (600, 500), "pruned": (500, 600), "small": (600, 10)}
    made = [layers.Dense(units, use_bias=False, name=name) for name, (_, units) in shapes.items()]
    model = keras.Sequential([keras.Input((600,)), *made])
    for layer, shape in zip(made, shapes.values()):
        layer.set_weights([rng.standard_normal(shape).astype("float32")])
    made[1].set_weights([rng.choice([0, 0, 0, 0.5, -0.5], (500, 600)).astype("float32")])
    summed = summary(model, print_table=False)
    assert [row.is_estimate for row in summed.layers] == [True, False, False]
    exact = [storage.describe(keras.ops.convert_to_numpy(layer.kernel)) for layer in made]
    assert [row.bytes_coded for row in summed.layers[1:]] == [d.coded_bytes for d in exact[1:]]
    assert [row.distinct for row in summed.layers[1:]] == [3, exact[2].distinct]
    assert abs(summed.bytes_coded - sum(d.coded_bytes for d in exact)) < 0.01 * summed.bytes_coded
    found = summed.to_dict()
    assert found["is_estimate"] and [row["is_estimate"] for row in found["layers"]] == [1, 0, 0]
    out = io.StringIO()
    rich.console.Console(file=out, width=200).print(summed.table())
    (large,) = [
        line for line in out.getvalue().splitlines() if line.lstrip("│ ").startswith("larg")
    ]
    # Bits of a weight, values and bytes; in the other rows nothing.
    assert large.count("~") == 3 and out.getvalue().count("~") == 5


def test_distinct_values_of_several_kernels_one_of_which_is_large():
    layer = layers.SeparableConv2D(600, 3, use_bias=False, name="separable")
    model = keras.Sequential([keras.Input((4, 4, 500)), layer])
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(v.shape).astype("float32") for v in layer.weights]
    layer.set_weights(values)
    row = rows(model)["separable"]
    every = len(np.unique(np.concatenate([value.ravel() for value in values])))
    assert row.is_estimate and abs(row.distinct - every) < 0.03 * every
