"""Pruned matrices: what is found in them, and their products against NumPy."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.kernels import gathered, shared_inputs  # noqa: E402

pytestmark = pytest.mark.tensorflow


def grouped(rng, inputs, outputs, size, kept, shuffled=False):
    """A matrix in which each `size` outputs keep the same inputs."""
    matrix = rng.standard_normal((inputs, outputs)).astype("float32")
    for begin in range(0, outputs, size):
        gone = rng.permutation(inputs)[kept:]
        matrix[gone, begin : begin + size] = 0
    return matrix[:, rng.permutation(outputs)] if shuffled else matrix


def multiply(found, x):
    parts = [(tf.constant(p.inputs), tf.constant(p.values)) for p in found.parts]
    return shared_inputs.product(tf.constant(x), parts, found.order).numpy()


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("inputs,outputs,size", [(100, 128, 64), (40, 70, 8), (64, 96, 32)])
def test_groups_in_any_order(inputs, outputs, size, shuffled):
    rng = np.random.default_rng(0)
    matrix = grouped(rng, inputs, outputs, size, inputs // 10, shuffled)
    found = shared_inputs.shared(matrix)
    assert found.products < 0.2 * matrix.size
    assert shuffled or outputs % size or found.order is None
    x = rng.standard_normal((3, inputs)).astype("float32")
    np.testing.assert_allclose(multiply(found, x), x @ matrix, atol=1e-5)


def test_a_group_by_hand():
    matrix = np.zeros((4, 16), "float32")
    matrix[[0, 2], :8], matrix[[3], 8:] = 1, 2
    found = shared_inputs.shared(matrix)
    # Sorted by height, and of two heights: the group of one input first.
    assert [part.inputs.tolist() for part in found.parts] == [[[3]], [[0, 2]]]
    assert found.products == 8 * 1 + 8 * 2
    np.testing.assert_array_equal(found.order, [*range(8, 16), *range(8)])


@pytest.mark.parametrize("size", [8, 16, 32])
def test_groups_that_have_most_inputs_in_common_stay_apart(size):
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((100, 128)).astype("float32")
    matrix[60:] = 0
    for begin in range(0, 128, size):
        matrix[rng.permutation(60)[:12], begin : begin + size] = 0
    matrix = matrix[:, rng.permutation(128)]
    found = shared_inputs.shared(matrix)
    assert found.products == 128 * 48
    x = rng.standard_normal((3, 100)).astype("float32")
    np.testing.assert_allclose(multiply(found, x), x @ matrix, atol=1e-5)


def test_zeros_by_chance_leave_groups_whole():
    rng = np.random.default_rng(1)
    matrix = grouped(rng, 200, 128, 64, 40)
    matrix[rng.random(matrix.shape) < 0.1] = 0
    found = shared_inputs.shared(matrix)
    assert found.products <= 128 * 40
    x = rng.standard_normal((2, 200)).astype("float32")
    np.testing.assert_allclose(multiply(found, x), x @ matrix, atol=1e-5)


def test_single_weights_are_not_groups():
    rng = np.random.default_rng(2)
    matrix = rng.standard_normal((300, 200)) * (rng.random((300, 200)) < 0.1)
    assert shared_inputs.shared(matrix.astype("float32")) is None
    assert shared_inputs.shared(rng.standard_normal((30, 20)).astype("float32")) is None


def test_an_output_of_zeros():
    matrix = grouped(np.random.default_rng(3), 50, 64, 32, 5)
    matrix[:, :32] = 0
    x = np.ones((2, 50), "float32")
    np.testing.assert_allclose(multiply(shared_inputs.shared(matrix), x), x @ matrix, atol=1e-5)


@pytest.mark.parametrize("inputs,outputs,share", [(200, 70, 0.1), (40, 128, 0.5), (10, 3, 0.0)])
def test_single_weights(inputs, outputs, share):
    rng = np.random.default_rng(4)
    matrix = rng.standard_normal((inputs, outputs)).astype("float32")
    matrix[rng.random(matrix.shape) >= share] = 0
    x = rng.standard_normal((5, inputs)).astype("float32")
    one = tf.function(gathered.product_of_one, jit_compile=True)
    found = one(x[:1], *gathered.by_outputs(matrix))
    np.testing.assert_allclose(found[:, :outputs], x[:1] @ matrix, atol=1e-5)
    few = tf.function(gathered.product_of_columns, jit_compile=True)
    columns = few(np.ascontiguousarray(x.T), *gathered.by_samples(matrix))
    np.testing.assert_allclose(np.transpose(columns), x @ matrix, atol=1e-5)


def test_outputs_of_few_weights_are_apart():
    """96 outputs of 9 weights and 40 of 60, mixed: 6 blocks of 20 products, and 3 of 60."""
    rng = np.random.default_rng(5)
    counts = rng.permutation([9] * 96 + [60] * 40)
    matrix = np.zeros((100, 136), "float32")
    for output, count in enumerate(counts):
        matrix[rng.permutation(100)[:count], output] = rng.standard_normal(count)
    few, _, many, _, places = arrays = gathered.by_outputs(matrix)
    assert few.shape == (6, 1, 20, 16) and many.shape == (3, 3, 20, 16)
    assert sorted(places) == list(range(136)) and set(places[counts == 9]) == set(range(96))
    x = rng.standard_normal((1, 100)).astype("float32")
    found = tf.function(gathered.product_of_one, jit_compile=True)(x, *arrays)
    np.testing.assert_allclose(found, x @ matrix, atol=1e-5)
    # Where the others are hardly more, they are together.
    assert len(gathered.by_outputs(matrix[:, counts == 60])) == 2


@pytest.mark.parametrize("most,shape", [(41, (2, 21)), (205, (9, 23)), (5, (1, 5)), (48, (2, 24))])
def test_few_products_are_of_nothing(most, shape):
    """41 weights are 42 products rather than 48 or 50."""
    matrix = np.ones((most, 16), "float32")
    assert gathered.by_outputs(matrix)[0].shape == (1, *shape, 16)


def test_padded_rows_by_hand():
    matrix = np.float32([[0, 5], [7, 0], [8, 0]])
    inputs, values = gathered.padded_rows(matrix, 2)
    assert inputs.tolist() == [[1, 2], [0, 0]] and values.tolist() == [[7, 8], [5, 0]]
