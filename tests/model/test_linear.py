"""Layers as linear maps: samples times matrices is what the layer computes."""

import keras
import numpy as np
import pytest

from tfcomp import targets
from tfcomp.model.choice import Unsuited
from tfcomp.model.linear import linear_map

LAYERS = {
    "dense": (lambda: keras.layers.Dense(4), (3, 5)),
    "dense_sequence": (lambda: keras.layers.Dense(4), (3, 6, 5)),
    "einsum": (lambda: keras.layers.EinsumDense("abc,cde->abde", (None, 2, 3)), (3, 4, 5)),
    "einsum_order": (lambda: keras.layers.EinsumDense("abc,dcb->ad", (6,)), (3, 4, 5)),
    "einsum_ellipsis": (lambda: keras.layers.EinsumDense("...x,xy->...y", (4,)), (3, 2, 5)),
    "conv1d": (lambda: keras.layers.Conv1D(4, 3, strides=2, padding="same"), (2, 9, 3)),
    "causal": (lambda: keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (2, 9, 3)),
    "conv2d": (lambda: keras.layers.Conv2D(4, (2, 3)), (2, 5, 6, 3)),
    "strided": (lambda: keras.layers.Conv2D(4, 3, strides=(2, 1), padding="same"), (2, 6, 7, 3)),
    "even": (lambda: keras.layers.Conv2D(4, 4, padding="same"), (2, 6, 7, 3)),
    "dilated": (lambda: keras.layers.Conv2D(4, 2, dilation_rate=2), (2, 6, 7, 3)),
    "grouped": (lambda: keras.layers.Conv2D(6, 3, groups=2), (2, 5, 6, 4)),
    "conv3d": (lambda: keras.layers.Conv3D(3, 2, padding="same"), (2, 4, 5, 3, 2)),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(3, depth_multiplier=2), (2, 5, 6, 4)),
    "transposed": (lambda: keras.layers.Conv2DTranspose(4, 3, strides=2), (2, 5, 6, 3)),
    "transposed_same": (
        lambda: keras.layers.Conv2DTranspose(4, (3, 4), strides=(2, 1), padding="same"),
        (2, 5, 6, 3),
    ),
    "transposed_sparse": (lambda: keras.layers.Conv1DTranspose(4, 2, strides=3), (2, 5, 3)),
    "transposed_gaps": (
        lambda: keras.layers.Conv1DTranspose(4, 1, strides=3, padding="same"),
        (2, 5, 3),
    ),
    "transposed_wide": (lambda: keras.layers.Conv1DTranspose(4, 5, padding="same"), (2, 5, 3)),
    "transposed3d": (lambda: keras.layers.Conv3DTranspose(2, 2, strides=2), (2, 3, 2, 3, 2)),
    "depthwise1d": (lambda: keras.layers.DepthwiseConv1D(3, padding="same"), (2, 5, 4)),
}


def the_map(layer, variable):
    holder = layer if not hasattr(layer, "cell") else layer.cell
    target = targets.Target("weight", variable, holder, {})
    return linear_map(target, [targets.Site("layer", (layer,))])


@pytest.mark.parametrize("name", LAYERS)
def test_samples_times_matrices_is_the_output(name):
    make, shape = LAYERS[name]
    layer, x = make(), np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted = keras.ops.convert_to_numpy(layer(x))
    linear = the_map(layer, layer.kernel)
    value = keras.ops.convert_to_numpy(layer.kernel)
    matrices = linear.matrices(value)
    np.testing.assert_array_equal(linear.assemble(matrices), value)
    samples = np.concatenate(list(linear.samples((x,), {})), axis=1)
    got = np.matmul(samples, matrices)  # (groups, positions, outputs)
    got = got.transpose(1, 0, 2).reshape(wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


SEPARABLE = {
    "separable": lambda: keras.layers.SeparableConv2D(5, 3, depth_multiplier=2),
    "separable_strided": lambda: keras.layers.SeparableConv2D(5, (2, 3), 2, padding="same"),
    "separable_dilated": lambda: keras.layers.SeparableConv2D(5, 2, dilation_rate=2),
    "separable1d": lambda: keras.layers.SeparableConv1D(5, 3, depth_multiplier=2),
}


@pytest.mark.parametrize("name", SEPARABLE)
def test_both_kernels_of_a_separable_convolution(name):
    layer = SEPARABLE[name]()
    shape = (2, 7, 4) if layer.rank == 1 else (2, 6, 7, 4)
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    wanted = keras.ops.convert_to_numpy(layer(x))
    depthwise, pointwise = (keras.ops.convert_to_numpy(v) for v in layer.weights[:2])
    first = the_map(layer, layer.depthwise_kernel)
    matrices = first.matrices(depthwise)
    np.testing.assert_array_equal(first.assemble(matrices), depthwise)
    (samples,) = first.samples((x,), {})
    between = np.matmul(samples, matrices).transpose(1, 0, 2).reshape(-1, pointwise.shape[-2])
    second = the_map(layer, layer.pointwise_kernel)
    (samples,) = second.samples((x,), {})
    np.testing.assert_allclose(samples[0], between, rtol=1e-4, atol=1e-5)
    matrices = second.matrices(pointwise)
    np.testing.assert_array_equal(second.assemble(matrices), pointwise)
    got = np.matmul(samples, matrices)[0].reshape(wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_channels_first():
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels_first on GPUs only")
    layer = keras.layers.Conv2D(4, 3, data_format="channels_first")
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 6)).astype("float32")
    wanted = np.moveaxis(keras.ops.convert_to_numpy(layer(x)), 1, -1)
    linear = the_map(layer, layer.kernel)
    (samples,) = linear.samples((x,), {})
    got = samples[0] @ linear.matrices(keras.ops.convert_to_numpy(layer.kernel))[0]
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_recurrent_maps_add_up_to_the_next_state(backwards, masked):
    layer = keras.layers.SimpleRNN(4, activation=None, use_bias=False, go_backwards=backwards)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    mask = np.ones((2, 5), bool)
    if masked:
        mask[1, :2] = False
    start = keras.ops.ones((2, 4))
    tensor = keras.ops.convert_to_tensor(x)
    layer(tensor)
    kwargs = {"initial_state": [start], "mask": keras.ops.convert_to_tensor(mask)}
    kernel = the_map(layer, layer.cell.kernel)
    recurrent = the_map(layer, layer.cell.recurrent_kernel)
    (inputs,), (states,) = kernel.samples((tensor,), kwargs), recurrent.samples((tensor,), kwargs)
    assert inputs.shape == (1, mask.sum(), 3)
    assert states.shape == (1, mask.sum(), 4)
    if backwards:
        inputs = x[:, ::-1][mask[:, ::-1]][None]
    w = keras.ops.convert_to_numpy(layer.cell.kernel)
    u = keras.ops.convert_to_numpy(layer.cell.recurrent_kernel)
    following = inputs[0] @ w + states[0] @ u
    # Within a sample, what follows one state is the next state.
    first = int(mask[0].sum())
    np.testing.assert_allclose(following[: first - 1], states[0][1:first], rtol=1e-3, atol=1e-4)
    last = np.stack([following[first - 1], following[-1]])
    wanted = keras.ops.convert_to_numpy(layer(x, **kwargs))
    if not (backwards and masked):
        np.testing.assert_allclose(last, wanted, rtol=1e-3, atol=1e-4)
    assert layer.return_sequences is False


@pytest.mark.parametrize("kind", [keras.layers.LSTM, keras.layers.GRU])
def test_gated_layers_see_their_own_outputs(kind):
    layer = kind(4, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    outputs = keras.ops.convert_to_numpy(layer(x))
    (states,) = the_map(layer, layer.cell.recurrent_kernel).samples((x,), {})
    states = states.reshape(2, 5, 4)
    np.testing.assert_array_equal(states[:, 0], 0)
    np.testing.assert_allclose(states[:, 1:], outputs[:, :-1], rtol=1e-5, atol=1e-6)


def test_what_is_not_a_linear_map():
    gru = keras.layers.GRU(4, reset_after=False)
    gru(np.zeros((1, 2, 3), "float32"))
    with pytest.raises(ValueError, match="reset_after"):
        the_map(gru, gru.cell.recurrent_kernel)
    stateful = keras.layers.LSTM(4, stateful=True)
    stateful(np.zeros((1, 2, 3), "float32"))
    with pytest.raises(ValueError, match="stateful"):
        the_map(stateful, stateful.cell.kernel)
    batched = keras.layers.EinsumDense("abc,bcd->abd", (4, 5))
    batched(np.zeros((1, 4, 3), "float32"))
    with pytest.raises(ValueError, match="one matrix"):
        the_map(batched, batched.kernel)
    padded = keras.layers.Conv1DTranspose(3, 3, strides=2, output_padding=1)
    padded(np.zeros((1, 4, 3), "float32"))
    with pytest.raises(Unsuited, match="output_padding"):
        the_map(padded, padded.kernel)
    embedding = keras.layers.Embedding(4, 3)
    embedding(np.zeros((1, 2), "int32"))
    with pytest.raises(Unsuited, match="the 'embeddings' of Embedding"):
        the_map(embedding, embedding.embeddings)
