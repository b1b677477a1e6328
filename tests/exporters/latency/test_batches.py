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


SPECS = [{name: tf.TensorSpec([None, 3]) for name in "ab"}]


@pytest.mark.parametrize("is_small", [True, False])
@pytest.mark.parametrize("parts", [(None,) * 4, (1, 1, 4, 8), (1, None, None, 8), (1,) * 4])
def test_every_size_comes_out_whole(parts, is_small):
    calls = []
    single = recorded(calls, 1)
    ways = [Way(recorded(calls, part), part, single) for part in parts]
    run = tf.function(lambda *args: dispatched(list(args), ways, is_small), input_signature=SPECS)
    assert run.get_concrete_function().structured_outputs["sum"].shape == (None, 3)
    for size in (0, 1, 2, 3, 4, 7, 8, 9, 16, 19):
        a, b = np.arange(6.0 * size, dtype="float32").reshape(2, size, 3)
        found = run({"a": tf.constant(a), "b": tf.constant(b)})
        np.testing.assert_array_equal(found["sum"], a + b)
        np.testing.assert_array_equal(found["twice"], 2 * a)
    # Nothing is traced anew for a size that was not there before.
    assert len(calls) <= 2 * len(parts) + 2


def called(is_small):
    """Names of what computes each branch: a function that is called, or that is copied there."""
    ways = [Way(recorded([], part), part, recorded([], 1)) for part in (1, 1, 8, 8)]
    run = tf.function(lambda *args: dispatched(list(args), ways, is_small), input_signature=SPECS)
    library = run.get_concrete_function().graph.as_graph_def().library.function
    alone = {f.signature.name for f in library if f.attr["_noinline"].b}
    branches = sorted(
        (f.signature.name, [node.attr["f"].func.name for node in f.node_def if "f" in node.attr])
        for f in library
        if "indexed_case_branch" in f.signature.name
    )
    return [bool(alone & set(names)) for _, names in branches]


def test_branches_that_are_not_taken_take_no_time():
    """Nine samples and more, one, two or three, four to seven, and eight."""
    assert called(is_small=False) == [True, False, True, True, True]
    assert called(is_small=True) == [True, False, True, True, False]


def test_buckets():
    assert [bucket_of(size) for size in (1, 2, 3, 4, 8, 9, 100)] == [0, 1, 1, 2, 2, 3, 3]
    assert [part_of(size) for size in (1, 3, 4, 8, 9, 64)] == [1, 1, 4, 8, 8, 8]


def test_sizes_that_cover_all():
    """One sample; a part of 8 and 4 single ones; a part of 5 and what 4 leave; 8 and one more."""
    assert [covering([size]) for size in (1, 2, 8, 5, 64)] == [[1], [], [4, 8], [4, 5], [9]]
    assert covering([1, 8, 32]) == [1, 4, 8, 9]
