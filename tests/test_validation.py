"""Checks of arguments: what passes, as what it comes back, and what does not."""

import numpy as np
import pytest

from tfcomp.validation import check_verbose


@pytest.mark.parametrize("value", [0, 1, 2, False, True, np.int64(2), np.uint8(0)])
def test_verbose_is_0_1_or_2(value):
    assert type(check_verbose(value)) is int and check_verbose(value) == value


@pytest.mark.parametrize("value", [3, -1, 1.0, "1", "auto", None, [1]])
def test_other_verbose_is_refused(value):
    with pytest.raises(ValueError, match=r"argument `verbose`.*>= 0 and <= 2"):
        check_verbose(value)
