"""Weights of an export, before they are in one."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.weights import Weights  # noqa: E402

pytestmark = pytest.mark.tensorflow


def test_arrays_of_the_same_values_are_one_variable(tmp_path):
    rng = np.random.default_rng(0)
    large, small = (rng.standard_normal((size, 8)).astype("float32") for size in (256, 2))
    weights, factor = Weights(str(tmp_path)), np.float32([2] * 8)
    for number, array in enumerate([large, large.reshape(-1), small, small.T.copy(), small]):
        weights.add_array(number, "array", array)
    weights.add_product("product", "product", large, factor)
    weights.add_product("same", "product", large.copy(), factor.copy())
    assert len({id(v) for v in weights.variables}) == 2
    decoding = weights.finish()
    # The small ones are in a third.
    assert len(weights.variables) == 3
    decoding._initialize()
    found = weights.read({0, 1, 2, 3, 4, "product", "same"})
    np.testing.assert_array_equal(found[0], large)
    np.testing.assert_array_equal(found[1], large.reshape(-1))
    np.testing.assert_array_equal(found[3], small.T)
    np.testing.assert_array_equal(found[4], small)
    np.testing.assert_array_equal(found["same"], 2 * large)


def test_products_of_the_same_values_in_other_shapes_are_others(tmp_path):
    """As those of kernels of transposed convolutions, whose outputs are not the last axis."""
    shapes = [(8, 8), (2, 8, 4)]
    weights, factor = Weights(str(tmp_path)), np.arange(8, dtype="float32")[:, None]
    for shape in shapes:
        weights.add_product(shape, "product", np.ones(shape, "float32"), factor)
    weights.finish()._initialize()
    for shape, found in weights.read(set(shapes)).items():
        np.testing.assert_array_equal(found, np.broadcast_to(factor, shape))
