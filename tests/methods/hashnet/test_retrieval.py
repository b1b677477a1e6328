"""Packing, Hamming distances and mean average precision, each counted in plain Python."""

import numpy as np
import pytest

from tfcomp.retrieval import hamming_distances, mean_average_precision, pack_bits


@pytest.mark.parametrize("bits", [1, 8, 13, 64, 130])
def test_distances_count_differing_bits(bits):
    rng = np.random.default_rng(bits)
    a = np.where(rng.normal(size=(5, bits)) > 0, 1.0, -1.0)
    b = np.where(rng.normal(size=(7, bits)) > 0, 1.0, -1.0)
    packed = pack_bits(a), pack_bits(b)
    assert packed[0].shape == (5, -(-bits // 8)) and packed[0].dtype == np.uint8
    expected = [[int(np.sum(x != y)) for y in b] for x in a]
    np.testing.assert_array_equal(hamming_distances(*packed), expected)
    # For ±1 codes distance and inner product are one.
    np.testing.assert_array_equal(hamming_distances(*packed), (bits - a @ b.T) / 2)


def test_mean_average_precision_by_hand():
    distances = [[3, 0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3]]
    relevant = [[1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    first = (1 / 1 + 2 / 4) / 2
    second = (1 / 3 + 2 / 4) / 2
    found = mean_average_precision(distances, relevant)
    assert found == pytest.approx((first + second + 0) / 3)
    # Of the top three only the hits among them count.
    found = mean_average_precision(distances, relevant, top=np.int64(3))
    assert found == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_ties_do_not_depend_on_the_order():
    distances, relevant = np.array([[1, 1, 1, 2]]), np.array([[1, 0, 0, 1]])
    # The three at distance 1 come together, at precision 1/3.
    expected = (1 / 3 + 2 / 4) / 2
    assert mean_average_precision(distances, relevant) == pytest.approx(expected)
    order = [2, 0, 3, 1]
    assert mean_average_precision(distances[:, order], relevant[:, order]) == pytest.approx(
        expected
    )


def test_bad_arguments():
    packed = pack_bits(np.ones((2, 9)))
    with pytest.raises(ValueError, match="argument `codes`"):
        pack_bits(np.ones(4))
    with pytest.raises(ValueError, match=r"argument `queries`.*pack_bits"):
        hamming_distances(np.ones((2, 9)), packed)
    with pytest.raises(ValueError, match="argument `database`"):
        hamming_distances(packed, packed[:, :1])
    with pytest.raises(ValueError, match="argument `relevant`"):
        mean_average_precision(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(ValueError, match="argument `top`"):
        mean_average_precision(np.ones((2, 3)), np.ones((2, 3)), top=0)
