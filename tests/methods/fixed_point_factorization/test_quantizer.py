"""Ternary values of a fixed step."""

import keras
import numpy as np
import pytest
from gradients import gradient

from tfcomp import quantizers
from tfcomp.quantizers import RoundedTernary


def test_values_and_gradient():
    q = RoundedTernary(0.5)
    x = np.array([-2, -0.26, -0.25, 0, 0.2, 0.25, 0.2501, 9], "float32")
    found = keras.ops.convert_to_numpy(q(x)).tolist()
    assert found == [-0.5, -0.5, 0, 0, 0, 0, 0.5, 0.5]
    assert gradient(q, x).tolist() == [1] * 8
    assert q.levels == (-0.5, 0, 0.5) and q.bits == 2
    assert quantizers.get(quantizers.serialize(q)).get_config() == {"step": 0.5}


@pytest.mark.parametrize("step", [0, -1, float("nan"), "1"])
def test_bad_step(step):
    with pytest.raises(ValueError, match="argument `step`"):
        RoundedTernary(step)
