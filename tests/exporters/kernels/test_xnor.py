"""XNOR products against sums of products of ±1 in NumPy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.kernels import words, xnor  # noqa: E402

pytestmark = pytest.mark.tensorflow


def signs(rng, *shape):
    return rng.choice([-1.0, 1.0], shape).astype("float32")


def reference(x, kernel, window):
    """A convolution, position by position, in whole numbers."""
    pads = [(0, 0), *window.pads, (0, 0)]
    x = np.pad(x, pads, constant_values=window.pad_value)
    rank, groups = len(window.size), window.groups
    inputs, outputs = kernel.shape[-2], kernel.shape[-1] // groups
    reach = [(k - 1) * d + 1 for k, d in zip(window.size, window.dilation)]
    space = [(n - r) // s + 1 for n, r, s in zip(x.shape[1:-1], reach, window.strides)]
    out = np.zeros((len(x), *space, kernel.shape[-1]))
    for at in np.ndindex(*space):
        begin = [a * s for a, s in zip(at, window.strides)]
        cut = [slice(b, b + r, d) for b, r, d in zip(begin, reach, window.dilation)]
        patch = x[(slice(None), *cut)]
        for g in range(groups):
            a = patch[..., g * inputs : (g + 1) * inputs]
            b = kernel[..., g * outputs : (g + 1) * outputs]
            out[(slice(None), *at, slice(g * outputs, (g + 1) * outputs))] = np.tensordot(
                a, b, rank + 1
            )
    return out


def computed(x, kernel, window):
    """What the kernels make of it, group by group."""
    space = x.shape[1:-1]
    inputs = kernel.shape[-2]
    outputs = kernel.shape[-1] // window.groups
    laid = xnor.sign_weights(kernel, window.groups)

    @tf.function(jit_compile=True)
    def run(x):
        found = []
        for group, weights in enumerate(laid):
            part = x[..., group * inputs : (group + 1) * inputs]
            own = kernel[..., group * outputs : (group + 1) * outputs]
            packed = xnor.padded(words.pack(part >= 0), window, inputs)
            counted = xnor.mismatches(packed, tf.constant(weights.words), window)
            added = xnor.outside(np.sign(own), window, space)
            entries = inputs * max(1, int(np.prod(window.size)))
            found.append(xnor.in_order(xnor.products(counted, entries, added), outputs))
        return tf.concat(found, -1)

    return run(tf.constant(x)).numpy()


@st.composite
def convolutions(draw):
    rank = draw(st.integers(1, 2))
    each = st.lists(st.integers(1, 3), min_size=rank, max_size=rank)
    size, strides, dilation = draw(each), draw(each), draw(each)
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in range(rank)]
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilation)]
    space = [r + draw(st.integers(0, 4)) for r in reach]
    window = xnor.Window(
        tuple(size),
        tuple(strides),
        tuple(dilation),
        tuple(pads),
        draw(st.sampled_from([-1, 0, 1])),
        draw(st.sampled_from([1, 1, 2])),
    )
    channels = window.groups * draw(st.sampled_from([1, 3, 63, 64, 65, 130]))
    outputs = window.groups * draw(st.sampled_from([1, 5, 64, 70]))
    return window, space, channels, outputs, draw(st.integers(1, 3)), draw(st.integers(0, 99))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(convolutions())
def test_convolutions_of_all_kinds(case):
    window, space, channels, outputs, batch, seed = case
    rng = np.random.default_rng(seed)
    x = signs(rng, batch, *space, channels)
    kernel = signs(rng, *window.size, channels // window.groups, outputs)
    np.testing.assert_array_equal(computed(x, kernel, window), reference(x, kernel, window))


@pytest.mark.parametrize("inputs,outputs", [(1, 1), (64, 10), (100, 130), (64 * 321 + 5, 70)])
def test_dense(inputs, outputs):
    rng = np.random.default_rng(0)
    x, kernel = signs(rng, 2, inputs), signs(rng, inputs, outputs)
    np.testing.assert_array_equal(computed(x, kernel, xnor.Window()), x @ kernel)


def test_one_by_hand():
    # 1 - 1 + 1 = 1 and -1 - 1 - 1 = -3.
    x, kernel = np.float32([[1, -1, 1]]), np.float32([[1, -1], [1, 1], [1, -1]])
    assert computed(x, kernel, xnor.Window()).tolist() == [[1, -3]]
    assert words.pack_array(np.array([True, False, True])).tolist() == [5]
    assert words.pack_array(np.arange(65) == 64).tolist() == [0, 1]


@pytest.mark.parametrize("channels", [1, 64, 100])
def test_packing(channels):
    bits = np.random.default_rng(0).random((2, 3, channels)) < 0.5
    packed = words.pack_array(bits)
    np.testing.assert_array_equal(words.pack(tf.constant(bits)), np.moveaxis(packed, -1, 0))
    lanes = np.pad(bits, ((0, 0), (0, 0), (0, -channels % 64))).reshape(2, 3, -1, 64)
    np.testing.assert_array_equal(words.collected(tf.constant(lanes)), packed)


@pytest.mark.parametrize("outputs,terms", [(70, 1), (64, 9), (130, 10), (200, 20)])
def test_limits_and_packing_of_what_fires(outputs, terms):
    rng = np.random.default_rng(1)
    x, kernel = signs(rng, 3, 64 * terms), signs(rng, 64 * terms, outputs)
    most = rng.integers(-1, 64 * terms + 1, outputs)
    (weights,) = xnor.sign_weights(kernel)

    @tf.function(jit_compile=True)
    def run(x):
        counted = xnor.mismatches(words.pack(x >= 0), tf.constant(weights.words), xnor.Window())
        return xnor.fired(counted, xnor.limits(most, counted.shape[-1]))

    differ = (x[:, :, None] != kernel).sum(1)
    expected = words.pack_array(differ <= most)
    np.testing.assert_array_equal(run(tf.constant(x)), expected.T)


def test_any_under_a_window():
    rng = np.random.default_rng(2)
    bits = rng.random((1, 2, 5, 5, 64)) < 0.2
    window = xnor.Window((2, 3), (2, 1), (1, 1), ((0, 1), (1, 1)))
    found = xnor.any_of(tf.constant(words.pack_array(bits)[..., 0]), window)
    wide = np.pad(bits, ((0, 0), (0, 0), (0, 1), (1, 1), (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(wide, (2, 3), (2, 3))[:, :, ::2]
    np.testing.assert_array_equal(found, words.pack_array(views.any((-1, -2)))[..., 0])


def test_other_kernels_are_not_signs():
    rng = np.random.default_rng(3)
    kernel = signs(rng, 3, 3, 4, 5) * np.float32([1, 2, 3, 4, 5])
    (weights,) = xnor.sign_weights(kernel)
    np.testing.assert_array_equal(weights.scale, [1, 2, 3, 4, 5])
    kernel[0, 0, 0, 0] = 0
    assert xnor.sign_weights(kernel) is None
    assert xnor.sign_weights(rng.standard_normal((4, 5)).astype("float32")) is None
