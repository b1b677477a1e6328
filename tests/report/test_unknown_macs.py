"""What multiplies is counted or shown as unknown; numbers worked out by hand."""

import io
import pathlib
import re

import keras
import numpy as np
import pytest
import rich.console
from keras import layers, ops

from tfcomp.report import summary


def counted(model, **kwargs):
    """MACs of a model in single precision, `None` where they are a lower bound."""
    summed = summary(model, print_table=False, **kwargs)
    assert set(summed.macs) <= {(32, 32)}
    return summed.macs.get((32, 32), 0) if summed.macs_complete else None


def of(function, *shapes, dtype="float32", **kwargs):
    inputs = [keras.Input(shape, dtype=dtype) for shape in shapes]
    return counted(keras.Model(inputs, function(*inputs)), **kwargs)


# Query, key, value and output projections of 6 queries and 9 values of 16 numbers, to 4 heads of 8;
# scores and values take 4 x 6 x 9 x 8 each.
ATTENTION = (6 + 9 + 9 + 6) * 16 * 32 + 2 * 4 * 6 * 9 * 8


@pytest.mark.parametrize(
    "call",
    [
        lambda layer, q, v: layer(q, v),
        lambda layer, q, v: layer(q, value=v),
        lambda layer, q, v: layer(query=q, value=v),
        lambda layer, q, v: layer(value=v, query=q),
        lambda layer, q, v: layer(q, key=v, value=v),
        lambda layer, q, v: layer(key=v, query=q, value=v),
    ],
)
def test_attention_called_in_any_way(call):
    assert of(lambda q, v: call(layers.MultiHeadAttention(4, 8), q, v), (6, 16), (9, 16)) == (
        ATTENTION
    )


def test_attention_over_some_axes():
    layer = layers.MultiHeadAttention(2, 4, attention_axes=(2,))
    # 3 times: 4 projections of 5 positions from or to 2 heads of 4, and 5 x 5 pairs.
    expected = 3 * (4 * 5 * 8 * 8 + 2 * 2 * 5 * 5 * 4)
    assert of(lambda x: layer(x, x), (3, 5, 8)) == expected


@pytest.mark.parametrize(
    "function, shapes, expected",
    [
        # 6 x 9 scores over 4 numbers, and 6 x 9 times 7 numbers.
        (lambda q, v, k: layers.Attention()([q, v, k]), [(6, 4), (9, 7), (9, 4)], 54 * (4 + 7)),
        (lambda q, v: layers.Attention()(inputs=[q, v]), [(6, 4), (9, 4)], 54 * 8),
        # Sums of tanh are no products.
        (
            lambda q, v: layers.Attention(score_mode="concat")([q, v]),
            [(6, 4), (9, 4)],
            54 * 4,
        ),
        (lambda q, v: layers.AdditiveAttention()([q, v]), [(6, 4), (9, 4)], 54 * (4 + 4)),
        (
            lambda q, v: layers.AdditiveAttention(use_scale=False)([q, v]),
            [(6, 4), (9, 4)],
            54 * 4,
        ),
        # 4 query heads and 2 of keys and values, of 8 numbers each.
        (
            lambda q, v: layers.GroupQueryAttention(8, 4, 2)(query=q, value=v),
            [(6, 16), (9, 16)],
            2 * 6 * 16 * 32 + 2 * 9 * 16 * 16 + 2 * 4 * 6 * 9 * 8,
        ),
        (lambda a, b: layers.Dot(axes=1)([a, b]), [(7,), (7,)], 7),
        (lambda a, b: layers.Dot(axes=(2, 1))([a, b]), [(3, 5), (5, 4)], 3 * 4 * 5),
        (lambda a, b: layers.Dot(axes=-1)([a, b]), [(3, 5), (4, 5)], 3 * 4 * 5),
        # 6 x 6 positions, 3 x 3 windows of 2 and of 4 channels to 4 gates of 4, in 5 steps.
        (
            lambda x: layers.ConvLSTM2D(4, 3)(x),
            [(5, 8, 8, 2)],
            5 * 36 * 9 * (2 + 4) * 16,
        ),
        (
            lambda x: layers.ConvLSTM2D(4, 3, return_sequences=True)(x),
            [(5, 8, 8, 2)],
            5 * 36 * 9 * (2 + 4) * 16,
        ),
        (
            lambda x: layers.ConvLSTM1D(4, 3, padding="same", return_state=True)(x)[0],
            [(5, 8, 2)],
            5 * 8 * 3 * (2 + 4) * 16,
        ),
        (
            lambda x: layers.RNN([layers.LSTMCell(6), layers.GRUCell(4)])(x),
            [(7, 5)],
            7 * (4 * 6 * (5 + 6) + 3 * 4 * (6 + 4)),
        ),
        # Layers of one axis folded into the batch are called for every sample.
        (
            lambda x: layers.Dense(3)(ops.reshape(x, (-1, 5))),
            [(7, 5)],
            7 * 5 * 3,
        ),
        (
            lambda x: layers.Conv1D(3, 2)(ops.reshape(x, (-1, 6, 5))),
            [(7, 6, 5)],
            7 * 5 * 2 * 5 * 3,
        ),
    ],
)
def test_layers_of_keras(function, shapes, expected):
    assert of(function, *shapes) == expected


@pytest.mark.skipif(not hasattr(layers, "ReversibleEmbedding"), reason="not in this Keras")
@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_multiplies_when_it_is_reversed(tied):
    layer = layers.ReversibleEmbedding(100, 8, tie_weights=tied)
    assert of(lambda ids: layer(layer(ids), reverse=True), (6,), dtype="int32") == 6 * 8 * 100
    assert of(lambda ids: layer(ids), (6,), dtype="int32") == 0


@pytest.mark.parametrize(
    "function, shapes, expected",
    [
        (lambda a, b: ops.matmul(a, b), [(3, 5), (5, 4)], 3 * 5 * 4),
        (lambda a, b: a @ b, [(2, 3, 5), (2, 5, 4)], 2 * 3 * 5 * 4),
        (lambda a, b: ops.einsum("bqd,bkd->bqk", a, b), [(6, 4), (9, 4)], 6 * 9 * 4),
        (lambda a, b: ops.einsum("...qd,...kd->...qk", a, b), [(2, 6, 4), (2, 9, 4)], 2 * 216),
        (lambda a, b: ops.einsum("bij,bij->bij", a, b), [(6, 4), (6, 4)], 0),
        (lambda a: ops.einsum("bij->bji", a), [(6, 4)], 0),
        # `c` is summed up before.
        (lambda a, b: ops.einsum("bijc,bjk->bik", a, b), [(6, 4, 7), (4, 5)], 6 * 4 * 5),
        (lambda a, b: ops.tensordot(a, b, axes=[[2], [1]])[:, :, 0], [(3, 5), (5, 4)], 3 * 5 * 4),
        (
            lambda x: ops.conv(x, np.zeros((3, 3, 4, 8), "float32"), padding="same"),
            [(6, 6, 4)],
            36 * 9 * 4 * 8,
        ),
        (lambda x: ops.depthwise_conv(x, np.zeros((3, 4, 1), "float32")), [(6, 4)], 4 * 3 * 4),
        (
            lambda q, k: ops.dot_product_attention(q, k, k),
            [(6, 2, 4), (9, 2, 4)],
            2 * 6 * 9 * (4 + 4),
        ),
        (lambda x: ops.softmax(ops.sqrt(ops.abs(x)) * x + 1), [(6, 4)], 0),
    ],
)
def test_operations_of_functional_models(function, shapes, expected):
    assert of(function, *shapes) == expected


def test_operations_have_rows():
    a, b = keras.Input((3, 5)), keras.Input((5, 4))
    inner = keras.Model([a, b], ops.matmul(a, b), name="inner")
    model = keras.Model([a, b], layers.Dense(2)(inner([a, b])))
    found = {row.type: row.macs for row in summary(model, print_table=False).layers}
    assert found == {"Matmul": {(32, 32): 60}, "Dense": {(32, 32): 3 * 4 * 2}}


class OwnOperation(keras.Operation):
    def call(self, x):
        return ops.matmul(x, x)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


class Bilinear(layers.Layer):
    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], shape[-1]), name="kernel")

    def call(self, x):
        return ops.sum(ops.matmul(x, self.kernel) * x, axis=-1)


class OwnCell(layers.Layer):
    state_size = output_size = 3

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x, states):
        return (y := self.dense(x) + states[0]), [y]


@pytest.mark.parametrize(
    "function, shape",
    [
        (lambda x: OwnOperation()(x), (5, 5)),
        (lambda x: ops.einsum("bij,bjk,bkl->bil", x, x, x), (5, 5)),
        (lambda x: ops.map(lambda row: ops.matmul(row, row), x), (5, 5)),
        (lambda x: ops.rfft(x)[0], (8,)),
        (lambda x: ops.inv(x), (5, 5)),
        (lambda x: Bilinear()(x), (5,)),
        (lambda x: layers.RNN(OwnCell())(x), (4, 5)),
        (lambda x: layers.STFTSpectrogram(frame_length=8, frame_step=4, fft_length=8)(x), (32, 1)),
    ],
)
def test_what_has_no_rule_is_unknown(function, shape):
    x = keras.Input(shape)
    model = keras.Model(x, [function(x), layers.Dense(2)(x)])
    summed = summary(model, print_table=False)
    assert not summed.macs_complete
    dense = next(row for row in summed.layers if row.type == "Dense" and "rnn" not in row.path)
    assert summed.macs == dense.macs
    assert any(row.macs is None for row in summed.layers)


def test_a_total_that_is_not_known_is_a_lower_bound():
    model = keras.Sequential([keras.Input((4, 5)), layers.Dense(5), Bilinear(name="own")])
    out = io.StringIO()
    summary(model, console=rich.console.Console(file=out, width=140))
    assert "≥ 100 (32x32)" in out.getvalue() and "unknown" in out.getvalue()


class Attend(layers.Layer):
    """Attention over its own projections, as libraries of models write it."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.query, self.key = layers.Dense(4), layers.EinsumDense("abc,cd->abd", (None, 4))

    def build(self, shape):
        self.query.build(shape)
        self.key.build(shape)

    def call(self, x, training=None):
        scores = ops.softmax(ops.einsum("bqd,bkd->bqk", self.query(x), self.key(x)))
        return ops.matmul(scores, x)

    def compute_output_shape(self, shape):
        return shape


# Two projections of 6 positions, 6 x 6 scores over 4 numbers, and 6 x 6 times 5 numbers.
ATTEND = 2 * 6 * 5 * 4 + 36 * 4 + 36 * 5


class Block(layers.Layer):
    def __init__(self):
        super().__init__()
        self.attend, self.dense = Attend(), layers.Dense(5)

    def build(self, shape):
        self.attend.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return x + self.dense(self.attend(x))


class Around(layers.Wrapper):
    def call(self, x):
        return self.layer.call(x) + ops.matmul(x, x)


KERNEL = np.zeros((3, 8, 5), "float32")


class Whole(keras.Model):
    def __init__(self):
        super().__init__()
        self.block, self.pool = Block(), layers.GlobalAveragePooling1D()

    def call(self, x):
        y = self.pool(self.block(self.block(x)))
        return ops.matmul(y[:, None], y[:, :, None])


LOOSE = layers.Dense(4)


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda x: Attend()(x), ATTEND),
        # Layers that no layer holds.
        (lambda x: layers.Lambda(lambda y: LOOSE(layers.ReLU()(y)))(x), 6 * 5 * 4),
        (lambda x: layers.Lambda(lambda y: Attend()(y))(x), None),
        (lambda x: Block()(x), ATTEND + 6 * 5 * 5),
        (lambda x: Around(layers.Dense(5))(x[:, :5]), 5 * 5 * 5 + 5 * 5 * 5),
        (lambda x: layers.Lambda(lambda y: ops.matmul(y, ops.swapaxes(y, 1, 2)))(x), 36 * 5),
        (lambda x: layers.Lambda(lambda y: ops.relu(y) * 2)(x), 0),
        (
            lambda x: layers.Lambda(lambda y: ops.conv_transpose(y, KERNEL, strides=2))(x),
            6 * 3 * 8 * 5,
        ),
    ],
)
def test_operations_of_layers_of_users(function, expected):
    assert of(function, (6, 5)) == expected


def test_operations_of_subclassed_models():
    model = Whole()
    model(np.zeros((2, 6, 5), "float32"))
    before = [len(layer._inbound_nodes) for layer in (model.block, model.block.attend.query)]
    assert counted(model) == 2 * (ATTEND + 6 * 5 * 5) + 5
    # Looking leaves no trace.
    assert before == [len(part._inbound_nodes) for part in (model.block, model.block.attend.query)]


def test_operations_inside_time_distributed():
    assert of(lambda x: layers.TimeDistributed(Attend())(x), (3, 6, 5)) == 3 * ATTEND


class Native(layers.Layer):
    """Multiplies by what Keras does not see."""

    def call(self, x):
        backend = keras.backend.backend()
        if backend == "tensorflow":
            import tensorflow as tf

            return tf.matmul(x, x, transpose_b=True)
        if backend == "jax":
            import jax.numpy as jnp

            return jnp.matmul(x, jnp.swapaxes(x, 1, 2))
        import torch

        return torch.matmul(x, torch.transpose(x, 1, 2))


def test_a_backends_own_operations_are_unknown():
    assert of(lambda x: Native()(x), (6, 5)) is None


class Says(Bilinear):
    def count_macs(self, call):
        return [(self.kernel, call.inputs[-1] ** 2), (None, call.inputs[-1])]


def test_a_layer_says_its_own_macs():
    assert of(lambda x: Says()(x), (5,)) == 25 + 5


def test_the_layer_of_the_documentation():
    page = pathlib.Path(__file__).parents[2] / "docs" / "layers.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (example,) = [block for block in blocks if "count_macs" in block]
    made = {"keras": keras}
    exec(example, made)
    assert of(lambda x: made["Bilinear"]()(x), (5,)) == 25 + 5


class Wrong(Bilinear):
    def count_macs(self, call):
        return [(self.kernel, call.sizes)]


def test_a_fault_in_what_a_layer_says_is_not_hidden():
    with pytest.raises(AttributeError, match="sizes"):
        of(lambda x: Wrong()(x), (5,))


class Part(layers.Layer):
    is_part = True

    def build(self, shape=None):
        self.scale = self.add_weight(shape=(3,), name="scale")


class Holder(layers.Layer):
    def __init__(self):
        super().__init__(name="holder")
        self.part = Part()

    def build(self, shape):
        self.part.build()

    def call(self, x):
        return x * self.part.scale


def test_a_part_is_in_the_row_of_what_holds_it():
    rows = summary(keras.Sequential([keras.Input((3,)), Holder()]), print_table=False).layers
    assert [(row.name, row.weights) for row in rows] == [("holder", 3)]


def test_shapes_from_data():
    x, y = keras.Input((None, 8)), keras.Input((None, 8))
    model = keras.Model([x, y], layers.Attention()([x, layers.Dense(8)(y)]))
    assert counted(model) is None
    expected = 9 * 8 * 8 + 2 * 6 * 9 * 8
    assert counted(model, input_shape=[(None, 6, 8), (None, 9, 8)]) == expected

    ids = keras.Input((None,), dtype="int32")
    model = keras.Model(ids, layers.Dense(3)(layers.Embedding(10, 4)(ids)))
    assert counted(model) is None
    assert counted(model, data=np.zeros((5, 7), "int32")) == 7 * 4 * 3
    assert counted(model, input_shape=(None, 7)) == 7 * 4 * 3
    with pytest.raises(ValueError, match="`data`"):
        counted(model, data="ids")
    with pytest.raises(ValueError, match="`input_shape`"):
        counted(model, data=np.zeros((5, 7), "int32"), input_shape=(None, 7))


def test_batches_of_one_size():
    x = keras.Input(batch_shape=(4, 7, 5))
    model = keras.Model(x, layers.LSTM(3, stateful=True)(layers.Dense(5)(x)))
    assert counted(model) == 7 * 25 + 7 * 4 * 3 * (5 + 3)


@pytest.mark.parametrize("mode", ["int8", "int4"])
def test_kernels_that_keras_packs(mode):
    model = keras.Sequential([keras.Input((6, 8)), layers.Dense(10)])
    model.quantize(mode)
    summed = summary(model, print_table=False)
    assert summed.macs_complete and sum(summed.macs.values()) == 6 * 8 * 10
