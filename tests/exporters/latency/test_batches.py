"""A function of any batch size out of functions for some."""

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.latency.batches import (  # noqa: E402
    Way,
    bucket_of,
    covering,
    dispatched,
    part_of,
)

pytestmark = pytest.mark.tensorflow


def recorded(calls, part):
    """A function of two inputs and two outputs that says for how many samples it was traced."""

    def forward(pair):
        calls.append(pair["a"].shape[0])
        assert part is None or pair["a"].shape[0] == part
        return {"sum": pair["a"] + pair["b"], "twice": 2 * pair["a"]}

    return tf.function(forward, autograph=False)


@pytest.mark.parametrize("parts", [(None,) * 4, (1, 1, 4, 8), (1, None, None, 8), (1,) * 4])
def test_every_size_comes_out_whole(parts):
    calls = []
    single = recorded(calls, 1)
    ways = [Way(recorded(calls, part), part, single) for part in parts]
    specs = [{name: tf.TensorSpec([None, 3]) for name in "ab"}]
    run = tf.function(lambda *args: dispatched(list(args), ways), input_signature=specs)
    for size in (0, 1, 2, 3, 4, 7, 8, 9, 16, 19):
        a, b = np.arange(6.0 * size, dtype="float32").reshape(2, size, 3)
        found = run({"a": tf.constant(a), "b": tf.constant(b)})
        np.testing.assert_array_equal(found["sum"], a + b)
        np.testing.assert_array_equal(found["twice"], 2 * a)
    # Nothing is traced anew for a size that was not there before.
    assert len(calls) <= 2 * len(parts) + 2


def test_buckets():
    assert [bucket_of(size) for size in (1, 2, 3, 4, 8, 9, 100)] == [0, 1, 1, 2, 2, 3, 3]
    assert [part_of(size) for size in (1, 3, 4, 8, 9, 64)] == [1, 1, 4, 8, 8, 8]


def test_sizes_that_cover_all():
    """One sample; a part of 8 and 4 single ones; a part of 5 and what 4 leave; 8 and one more."""
    assert [covering([size]) for size in (1, 2, 8, 5, 64)] == [[1], [], [4, 8], [4, 5], [9]]
    assert covering([1, 8, 32]) == [1, 4, 8, 9]
