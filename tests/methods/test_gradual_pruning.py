"""Gradual pruning: masks against an independent reference, exact sparsity, every kind of layer."""

import collections
import itertools
import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import GradualPruning
from tfcomp.methods.gradual_pruning import choose_masks
from tfcomp.model import patterns
from tfcomp.schedules import ConstantSparsity, PolynomialDecay


def once(sparsity):
    return ConstantSparsity(sparsity, begin_step=0, frequency=10**6)


def masks(weights, amount, pattern=None, alive=None):
    arrays = [np.asarray(w, "float32") for w in weights]
    alive = alive or [np.ones(a.shape, bool) for a in arrays]
    shapes = [pattern or patterns.Unstructured()] * len(arrays)
    return choose_masks([np.abs(a) for a in arrays], alive, shapes, amount)


def test_mask_by_hand():
    weight = [[0.1, -0.5, 0.3], [-0.2, 0.4, -0.6]]
    (mask,) = masks([weight], 0.5)
    assert mask.tolist() == [[False, True, False], [False, True, True]]


def test_global_masks_by_hand():
    a, b = masks([[[0.1, 0.2], [0.3, 0.4]], [[1.0, 2.0], [0.05, 0.25]]], 0.5)
    assert a.tolist() == [[False, False], [True, True]]
    assert b.tolist() == [[True, True], [False, False]]


def test_global_masks_leave_no_layer_empty():
    small, large = masks([[[0.1, 0.2]], [[5.0, 6.0, 7.0, 8.0]]], 0.5)
    assert small.sum() == 1 and small[0, 1]
    assert large.sum() == 2


def test_what_is_dead_stays_dead_and_counts():
    alive = np.array([[True, False, True, True]])
    (mask,) = masks([[[0.1, 0.0, 0.3, 0.4]]], 0.5, alive=[alive])
    assert mask.tolist() == [[False, False, True, True]]
    (mask,) = masks([[[0.1, 0.0, 0.3, 0.4]]], 0.0, alive=[alive])
    assert mask.tolist() == alive.tolist()


def test_masks_against_sorting():
    rng = np.random.default_rng(0)
    for _ in range(50):
        shape = tuple(rng.integers(1, 9, size=rng.integers(2, 5)))
        # Coarse values, so that there are ties.
        weight = np.round(rng.normal(size=shape), 1)
        amount = rng.random()
        (mask,) = masks([weight], amount)
        flat = np.abs(weight.astype("float32")).ravel()
        pruned = min(int(amount * flat.size + 0.5), flat.size - 1)
        assert np.count_nonzero(~mask) == pruned
        if pruned:
            assert flat[~mask.ravel()].max() <= flat[mask.ravel()].min()


def test_block_mask_by_hand():
    weight = np.array([[1, 1, 9, 0, 5], [1, 1, 0, 0, 5], [3, 3, 0, 8, 1]], "float32")
    # Means of 2 x 2 blocks: 1, 2.25, 5 above; 3, 4, 1 below. The three smallest go.
    (mask,) = masks([weight], 0.5, patterns.Blocks((2, 2)))
    assert mask.astype(int).tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0]]
    (mask,) = masks([weight], 0.5, patterns.Blocks((2, 2), "max"))
    # Maxima: 1, 9, 5 above; 3, 8, 1 below.
    assert mask.astype(int).tolist() == [[0, 0, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 1, 1, 0]]


def test_whole_filters_by_hand():
    weights = np.array([[1, -5, 2], [1, 0.5, 2], [1, 0.5, 2]], "float32")
    (mask,) = masks([weights], 1 / 3, patterns.Blocks((None, 1)))
    assert mask.tolist() == [[False, True, True]] * 3
    (mask,) = masks([weights], 1 / 3, patterns.Blocks((1, None)))
    assert mask.tolist() == [[True] * 3, [True] * 3, [False] * 3]


def test_whole_filters(make_model, fit, kernels):
    model = make_model()
    fit(model, [tfcomp.callbacks.GradualPruning(once(0.4), block_size=(None, 1))])
    kernel = kernels(model)["conv/kernel"].reshape(-1, 5)
    assert sorted(np.mean(kernel == 0, axis=0)) == [0, 0, 0, 1, 1]


def test_m_by_n_mask_by_hand():
    # Two zeros in every four along the inputs (rows); the last group has two rows only.
    weight = np.array([[4, 1], [3, 2], [2, 3], [1, 4], [7, 7], [8, 8]], "float32")
    (mask,) = masks([weight], 0.5, patterns.MByN((2, 4)))
    assert mask.astype(int).T.tolist() == [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 1, 1]]


def test_m_by_n_against_loops():
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(36, 5)).astype("float32")
    (mask,) = masks([weight], 0.75, patterns.MByN((3, 4)))
    for output in range(5):
        column = np.abs(weight[..., output].ravel())
        kept = mask[..., output].ravel()
        for start in range(0, 36, 4):
            group = slice(start, start + 4)
            assert kept[group].sum() == 1
            assert kept[group].argmax() == column[group].argmax()


@pytest.mark.parametrize("sparsity", [0.0, 0.31, 0.5, 0.95])
def test_sparsity_is_exact_in_every_epoch(make_model, fit, kernels, sparsity):
    model = make_model()
    schedule = PolynomialDecay(0, sparsity, begin_step=0, end_step=12, frequency=4)
    history = fit(model, [GradualPruning(schedule)]).history
    for path, kernel in kernels(model).items():
        assert np.count_nonzero(kernel == 0) == int(sparsity * kernel.size + 0.5)
        expected = [
            int(schedule.value(step) * kernel.size + 0.5) / kernel.size for step in (4, 8, 12, 16)
        ]
        np.testing.assert_allclose(history[f"sparsity/{path}"], expected)
    assert history["sparsity"][-1] == pytest.approx(sparsity, abs=0.01)


def test_masked_weights_are_zero_in_every_step_and_survivors_train(make_model, fit, kernels):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(kernels(self.model)["hidden/kernel"])

    fit(make_model(), [GradualPruning(once(0.6)), Look()], epochs=2)
    zero = seen[0] == 0
    assert zero.mean() == pytest.approx(0.6, abs=0.01)
    for before, after in itertools.pairwise(seen):
        np.testing.assert_array_equal(after == 0, zero)
        assert np.any(before != after)


def test_global_scope(make_model, fit, kernels):
    model = make_model()
    fit(model, [GradualPruning(once(0.7), scope="global")], epochs=1)
    sizes = [kernel.size for kernel in kernels(model).values()]
    zeros = [np.count_nonzero(kernel == 0) for kernel in kernels(model).values()]
    assert sum(zeros) == int(0.7 * sum(sizes) + 0.5)
    assert len({round(zero / size, 2) for zero, size in zip(zeros, sizes)}) > 1


def test_overrides(make_model, fit, kernels):
    model = make_model()
    targets = {"out": None, "conv": {"schedule": once(0.25)}, "hidden": {"block_size": (4, 1)}}
    fit(model, [GradualPruning(once(0.5), targets=targets)], epochs=1)
    found = kernels(model)
    assert not np.any(found["out/kernel"] == 0)
    assert np.count_nonzero(found["conv/kernel"] == 0) == 23  # a quarter of 90, rounded up
    blocks = (found["hidden/kernel"] == 0).reshape(-1, 4, 7)
    np.testing.assert_array_equal(blocks.all(axis=1), blocks.any(axis=1))


def test_m_by_n_on_a_schedule(make_model, fit, kernels):
    model = make_model()
    schedule = PolynomialDecay(0, 0.5, begin_step=0, end_step=8, frequency=1)
    fit(model, [GradualPruning(schedule, m_by_n=(2, 4))])
    for path, kernel in kernels(model).items():
        columns = kernel.reshape(-1, kernel.shape[-1])
        whole = columns[: len(columns) // 4 * 4].reshape(-1, 4, kernel.shape[-1])
        np.testing.assert_array_equal((whole == 0).sum(axis=1), 2, err_msg=path)


@pytest.mark.tensorflow
def test_tfmot_schedule(make_model, fit, kernels):
    tfmot_schedules = pytest.importorskip(
        "tensorflow_model_optimization.python.core.sparsity.keras.pruning_schedule"
    )
    model = make_model()
    schedule = tfmot_schedules.PolynomialDecay(0.0, 0.8, begin_step=0, end_step=12, frequency=4)
    fit(model, [GradualPruning(schedule)])
    for kernel in kernels(model).values():
        assert np.count_nonzero(kernel == 0) == int(0.8 * kernel.size + 0.5)


def test_per_gate():
    """Every gate of a recurrent kernel comes to the sparsity, whatever its scale."""
    inputs = keras.Input((5, 4))
    x = keras.layers.Bidirectional(keras.layers.LSTM(6, return_sequences=True))(inputs)
    x = keras.layers.GRU(5)(x)
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    for target in tfcomp.targets.find(model, re.compile("kernel")):
        value = keras.ops.convert_to_numpy(target.variable.value).copy()
        value[:, : target.layer.units] *= 0.01
        target.variable.assign(value)
    model.compile("adam", "mse")
    gradual = tfcomp.callbacks.GradualPruning(once(0.5), per_gate=True)
    model.fit(np.ones((8, 5, 4)), np.ones((8, 3)), verbose=0, callbacks=[gradual])
    checked = 0
    for target in tfcomp.targets.find(model, re.compile("kernel")):
        value = keras.ops.convert_to_numpy(target.variable.value)
        gates = {"LSTMCell": 4, "GRUCell": 3}.get(type(target.layer).__name__, 1)
        for gate in np.split(value, gates, axis=1):
            assert np.count_nonzero(gate == 0) == int(0.5 * gate.size + 0.5)
            checked += 1
    assert checked == 4 * 4 + 2 * 3 + 1


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = [keras.layers.Dense(8), keras.layers.Dense(3)]

    def call(self, x):
        return self.inner[1](keras.ops.relu(self.inner[0](x)))


def test_every_kind_of_layer(every_layer):
    model = every_layer()
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(4, 8, 8, 4)), rng.integers(0, 11, size=(4, 6))]
    callback = GradualPruning(once(0.5))
    model.fit(x, rng.normal(size=(4, 5)), epochs=1, verbose=0, callbacks=[callback])
    targets = tfcomp.targets.find(model)
    assert len(targets) == 20
    for target in targets:
        kernel = keras.ops.convert_to_numpy(target.variable)
        assert np.count_nonzero(kernel == 0) == int(0.5 * kernel.size + 0.5), target.path


def test_subclassed_model():
    model = Subclassed()
    model.compile("sgd", "mse")
    x = np.ones((4, 6), "float32")
    model(x)
    model.fit(x, np.ones((4, 3)), verbose=0, callbacks=[GradualPruning(once(0.5))])
    assert np.count_nonzero(keras.ops.convert_to_numpy(model.inner[0].kernel) == 0) == 24


def test_the_layers_own_constraint_still_holds():
    model = keras.Sequential(
        [keras.Input((8,)), keras.layers.Dense(4, kernel_constraint="non_neg")]
    )
    model.compile(keras.optimizers.SGD(0.5), "mse")
    x = np.random.default_rng(0).normal(size=(16, 8))
    model.fit(x, -np.ones((16, 4)), verbose=0, callbacks=[GradualPruning(once(0.25))])
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert kernel.min() >= 0
    assert np.count_nonzero(kernel == 0) >= 8


def test_bad_arguments_name_themselves():
    for arguments, name in [
        ({"scope": "model"}, "scope"),
        ({"block_size": (0, 1)}, "block_size"),
        ({"block_size": 3}, "block_size"),
        ({"block_size": (2, 2), "block_pooling": "median"}, "block_pooling"),
        ({"m_by_n": (4, 4)}, "m_by_n"),
        ({"m_by_n": (1, 4)}, "m_by_n"),
        ({"m_by_n": (2, 4), "scope": "global"}, "scope"),
        ({"m_by_n": (2, 4), "block_size": (2, 2)}, "block_size"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            GradualPruning(once(0.5), **arguments)
    with pytest.raises(ValueError, match="argument `schedule`"):
        GradualPruning(0.9)


def test_bad_models_and_targets_raise_before_training(make_model, fit):
    with pytest.raises(ValueError, match=r"argument `targets`.*Did you mean 'hidden'"):
        fit(make_model(), [GradualPruning(once(0.5), targets="hiden")])
    with pytest.raises(ValueError, match=r"argument `targets`.*overrides for hidden/kernel among"):
        fit(make_model(), [GradualPruning(once(0.5), targets={"hidden": {"sparsity": 0.5}})])
    model = make_model()
    model.layers[0].kernel.assign(np.full((3, 3, 2, 5), np.nan))
    with pytest.raises(ValueError, match=r"conv/kernel.*NaN"):
        fit(model, [GradualPruning(once(0.5))])
    uncompiled = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="compile"):
        GradualPruning(once(0.5)).set_model(uncompiled)


def test_fit_builds_a_model_without_inputs(data):
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    x, y = data[0], np.ones((32, 4))
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[GradualPruning(once(0.5))])
    assert np.mean(keras.ops.convert_to_numpy(model.layers[1].kernel) == 0) == 0.5


def test_integer_weight_as_target(fit):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dropout(0.5, seed=1, name="drop"), keras.layers.Dense(2)]
    )
    model.compile("sgd", "mse")
    seed = next(v for v in model.variables if "seed" in v.path)
    with pytest.raises(ValueError, match=r"argument `targets`.*floating point"):
        GradualPruning(once(0.5), targets=seed).set_model(model)


def test_warns_of_a_schedule_longer_than_the_run(make_model, fit):
    schedule = PolynomialDecay(0, 0.5, begin_step=0, end_step=100)
    with pytest.warns(UserWarning, match="ends at step 100, but this run ends at step 16"):
        fit(make_model(), [GradualPruning(schedule)])


def test_warns_of_a_jump(make_model, fit):
    model = make_model()
    fit(model)
    schedule = PolynomialDecay(0, 0.8, begin_step=0, end_step=10, frequency=2)
    with pytest.warns(UserWarning, match="has done 16 steps"):
        fit(model, [GradualPruning(schedule)], epochs=1)


def test_verbose_prints_the_updates(make_model, fit, capsys):
    schedule = PolynomialDecay(0, 0.5, begin_step=0, end_step=4, frequency=2)
    fit(make_model(), [GradualPruning(schedule, verbose=1)], epochs=1)
    assert "GradualPruning: step 4: sparsity 0.5000" in capsys.readouterr().out


# A layer, the shape of its inputs, one of its weights, and its axes of outputs, by hand.
AXES = {
    "dense": (lambda: keras.layers.Dense(8), (8,), "kernel", (1,)),
    "conv": (lambda: keras.layers.Conv2D(8, 2), (6, 6, 4), "kernel", (3,)),
    "transposed": (lambda: keras.layers.Conv2DTranspose(8, 2), (6, 6, 4), "kernel", (2,)),
    "transposed 1D": (lambda: keras.layers.Conv1DTranspose(8, 2), (6, 4), "kernel", (1,)),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(2), (6, 6, 8), "kernel", (2, 3)),
    "separable, depthwise": (
        lambda: keras.layers.SeparableConv2D(8, 2),
        (6, 6, 8),
        "depthwise_kernel",
        (2, 3),
    ),
    "separable, pointwise": (
        lambda: keras.layers.SeparableConv2D(8, 2),
        (6, 6, 8),
        "pointwise_kernel",
        (3,),
    ),
    "einsum": (
        lambda: keras.layers.EinsumDense("abc,hcd->abhd", (None, 2, 4)),
        (3, 8),
        "kernel",
        (0, 2),
    ),
}


def pruned_by(pattern, make, shape, name):
    """The weight and its mask as arrays `(outputs, inputs)`, in the order of the weight's axes."""
    keras.utils.set_random_seed(2)
    layer = make()
    model = keras.Sequential([keras.Input(shape), layer])
    model.compile("sgd", "mse")
    (variable,) = (v for v in layer.variables if v.name == name)
    before = np.array(keras.ops.convert_to_numpy(variable))
    callback = tfcomp.callbacks.GradualPruning(
        tfcomp.schedules.ConstantSparsity(0.5, begin_step=0), targets=variable, **pattern
    )
    callback.set_model(model)
    callback.on_epoch_begin(0)
    return before, keras.ops.convert_to_numpy(variable)


@pytest.mark.parametrize("kind", AXES)
def test_whole_filters_are_those_of_the_outputs(kind):
    *layer, axes = AXES[kind]
    before, after = pruned_by({"block_size": (None, 1)}, *layer)
    inputs = tuple(axis for axis in range(before.ndim) if axis not in axes)
    size = np.abs(before).mean(axis=inputs).ravel()
    alive = np.any(after != 0, axis=inputs).ravel()
    np.testing.assert_array_equal(alive, size > np.median(size))
    assert alive.size == 8 and np.mean(after == 0) == 0.5


@pytest.mark.parametrize("kind", AXES)
def test_groups_run_along_the_inputs(kind):
    *layer, axes = AXES[kind]
    before, after = pruned_by({"m_by_n": (2, 4)}, *layer)
    inputs = [axis for axis in range(before.ndim) if axis not in axes]
    for array in (before, after):
        assert np.prod([array.shape[axis] for axis in inputs]) % 4 == 0
    groups = np.moveaxis(np.abs(before), inputs, range(-len(inputs), 0)).reshape(-1, 4)
    kept = np.moveaxis(after != 0, inputs, range(-len(inputs), 0)).reshape(-1, 4)
    expected = np.argsort(np.argsort(groups, axis=1), axis=1) >= 2
    np.testing.assert_array_equal(kept, expected)


def test_groups_of_an_attention_run_along_what_it_sums_over():
    """Queries sum over the features; the output sums over heads and their features."""
    inputs = keras.Input((6, 32))
    attention = keras.layers.MultiHeadAttention(4, 8, name="mha")
    model = keras.Model(inputs, attention(inputs, inputs))
    model.compile("sgd", "mse")
    callback = tfcomp.callbacks.GradualPruning(
        tfcomp.schedules.ConstantSparsity(0.5, begin_step=0), m_by_n=(2, 4)
    )
    callback.set_model(model)
    callback.on_epoch_begin(0)
    kernels = {v.path: keras.ops.convert_to_numpy(v) for v in model.weights if v.name == "kernel"}
    for path, kernel in kernels.items():
        # Of both, the first axes are inputs, 32 in all.
        groups = kernel.reshape(8, 4, 32).transpose(0, 2, 1)
        assert np.all(np.count_nonzero(groups == 0, axis=-1) == 2), path


@pytest.mark.parametrize(
    ("pattern", "units", "argument"),
    [
        ({"block_size": (None, None)}, 4, "block_size"),
        ({"block_size": (None, 1)}, 1, "block_size"),
        ({"m_by_n": (2, 4)}, 4, "m_by_n"),
    ],
)
def test_a_pattern_that_cannot_come_to_the_sparsity_raises(pattern, units, argument):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)])
    model.compile("sgd", "mse")
    schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    with pytest.raises(ValueError, match=f"`{argument}`"):
        tfcomp.callbacks.GradualPruning(schedule, **pattern).set_model(model)


def gradually(sparsity=0.9, end=12):
    return PolynomialDecay(0, sparsity, begin_step=0, end_step=end, frequency=3)


def patterns_of(kernel, axes=(-1,)):
    """Dict from a pattern of kept inputs to the number of outputs that have it."""
    inputs = [axis for axis in range(kernel.ndim) if axis - kernel.ndim not in axes]
    matrix = np.moveaxis(kernel != 0, inputs, range(len(inputs)))
    matrix = matrix.reshape(np.prod([kernel.shape[axis] for axis in inputs], dtype=int), -1)
    return collections.Counter(column.tobytes() for column in np.ascontiguousarray(matrix.T))


GROUPED = {name: given for name, given in AXES.items() if "depthwise" not in name}


@pytest.mark.parametrize("kind", GROUPED)
def test_outputs_of_a_group_keep_the_same_inputs(kind):
    make, shape, name, axes = GROUPED[kind]
    before, after = pruned_by({"vector_size": 3}, make, shape, name)
    # Eight outputs: groups of three, three and two.
    counts = patterns_of(after, tuple(axis - after.ndim for axis in axes)).values()
    assert sorted(counts) in ([2, 3, 3], [3, 5], [2, 6], [8])
    vectors = after.size // 8 * 3
    assert abs(np.count_nonzero(after == 0) / after.size - 0.5) < 2 / vectors + 0.1
    assert np.all((after == 0) | (after == before))


def test_groups_in_every_epoch(make_model, fit, kernels):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(kernels(self.model)["hidden/kernel"])

    callback = GradualPruning(gradually(), vector_size=3, targets="hidden")
    fit(make_model(), [callback, Look()])
    schedule = gradually()
    for epoch, kernel in enumerate(seen, 1):
        vectors = kernel.shape[0] * 3  # seven outputs: groups of 3, 3 and 1
        pruned = int(schedule.value(min(4 * epoch // 3 * 3, 12)) * vectors + 0.5)
        order = keras.ops.convert_to_numpy(callback._entries[0].state["order"])
        assert sorted(order) == list(range(7))
        assert kernel.shape[0] < np.count_nonzero(kernel == 0) <= 3 * pruned
        counts = sorted(patterns_of(kernel).values())
        assert len(counts) <= 3 and sum(counts) == 7
    order = keras.ops.convert_to_numpy(callback._entries[0].state["order"])
    kernel = seen[-1] != 0
    groups = [kernel[:, order[begin : begin + 3]] for begin in (0, 3, 6)]
    assert all(np.all(group == group[:, :1]) for group in groups)
    assert sum(np.count_nonzero(~group[:, 0]) for group in groups) == pruned


def test_groups_come_out_of_a_planted_pattern():
    """Groups of a trained layer, shuffled, are found again: nothing that counts is pruned."""
    rng = np.random.default_rng(0)
    value = rng.uniform(0.5, 1.5, (40, 32)).astype("float32")
    for begin in range(0, 32, 8):
        value[rng.permutation(40)[10:], begin : begin + 8] *= 0.01
    value = value[:, rng.permutation(32)]
    large = value > 0.1
    for pattern, whole in (({"vector_size": 8}, True), ({"block_size": (1, 8)}, False)):
        model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(32)])
        model.layers[0].kernel.assign(value)
        model.compile("sgd", "mse")
        callback = GradualPruning(once(0.75), **pattern)
        callback.set_model(model)
        callback.on_epoch_begin(0)
        kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
        assert np.array_equal(kernel != 0, large) == whole


def test_weights_may_come_back_in_new_groups():
    """Outputs 0 and 1 were a group, and now 0 and 2 want the same inputs."""
    value = np.float32([[8, 1, 0, 0], [9, 1, 9, 1], [1, 9, 9, 9], [0, 0, 1, 9]])
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4, use_bias=False)])
    model.layers[0].kernel.assign(value)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.random.default_rng(0).normal(size=(8, 4))
    callback = GradualPruning(once(0.5), vector_size=2)
    model.fit(x, x, verbose=0, callbacks=[callback])
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    kept = [[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1], [0, 1, 0, 1]]
    np.testing.assert_array_equal(kernel != 0, kept)


@pytest.mark.parametrize("per_gate", [False, True])
def test_groups_of_recurrent_kernels(per_gate):
    model = keras.Sequential(
        [keras.Input((5, 6)), keras.layers.LSTM(8, return_sequences=True), keras.layers.GRU(4)]
    )
    model.compile("adam", "mse")
    callback = GradualPruning(once(0.5), vector_size=4, per_gate=per_gate)
    model.fit(np.ones((8, 5, 6)), np.ones((8, 4)), verbose=0, callbacks=[callback])
    for layer, gates in ((model.layers[0], 4), (model.layers[1], 3)):
        for weight in (layer.cell.kernel, layer.cell.recurrent_kernel):
            kernel = keras.ops.convert_to_numpy(weight)
            assert np.mean(kernel == 0) == 0.5
            for part in np.split(kernel, gates, axis=1) if per_gate else [kernel]:
                assert np.mean(part == 0) == 0.5 or not per_gate
                assert all(count % 4 == 0 for count in patterns_of(part).values())


def test_groups_within_those_of_a_convolution():
    model = keras.Sequential([keras.Input((6, 6, 4)), keras.layers.Conv2D(8, 2, groups=2)])
    model.compile("sgd", "mse")
    callback = GradualPruning(once(0.5), vector_size=4)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel).reshape(-1, 8)
    for half in (kernel[:, :4], kernel[:, 4:]):
        assert np.mean(half == 0) == 0.5 and len(patterns_of(half)) == 1


def test_groups_over_all_layers(make_model, fit, kernels):
    model = make_model()
    fit(model, [GradualPruning(gradually(0.8), vector_size=4, scope="global")])
    found = kernels(model)
    counts = {path: patterns_of(kernel) for path, kernel in found.items()}
    assert all(len(each) <= -(-found[path].shape[-1] // 4) for path, each in counts.items())
    zeros = {path: np.mean(kernel == 0) for path, kernel in found.items()}
    assert len({round(zero, 2) for zero in zeros.values()}) > 1
    assert 0.7 < np.mean(np.concatenate([k.ravel() for k in found.values()]) == 0) < 0.9


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_groups_are_made_anew_only_where_there_is_more_to_prune(make_model, scope, kernels):
    model = make_model()
    callback = GradualPruning(once(0.5), vector_size=3, scope=scope)
    callback.set_model(model)
    callback.on_epoch_begin(0)
    before = [entry.read()[1] for entry in callback._entries]
    rng = np.random.default_rng(0)
    for entry in callback._entries:
        value = rng.normal(size=entry.variable.shape) * keras.ops.convert_to_numpy(entry.variable)
        entry.variable.assign(value)
    callback.compress(callback._entries, 0.5)
    for entry, state in zip(callback._entries, before):
        for name, array in entry.read()[1].items():
            np.testing.assert_array_equal(array, state[name])
    callback.compress(callback._entries, 0.7)
    after = [entry.read()[1]["mask"] for entry in callback._entries]
    assert sum(map(np.sum, after)) < sum(np.sum(state["mask"]) for state in before)


def test_groups_of_a_pruned_model_are_kept(make_model, fit, kernels):
    """A later callback finds the groups in the zeros."""
    model = make_model()
    first = GradualPruning(gradually(), vector_size=3, targets="hidden")
    fit(model, [first])
    before = kernels(model)["hidden/kernel"]
    later = GradualPruning(once(0.9), vector_size=3, targets="hidden")
    fit(model, [later], epochs=1)
    np.testing.assert_array_equal(kernels(model)["hidden/kernel"] == 0, before == 0)


def test_files_of_weights_hold_the_groups(make_model, fit, tmp_path):
    model = make_model()
    callback = GradualPruning(gradually(), vector_size=3)
    fit(model, [callback])
    model.save_weights(tmp_path / "m.weights.h5")
    other = GradualPruning(gradually(), vector_size=3)
    loaded = make_model()
    loaded.compile(keras.optimizers.Adam(0.01), "mse")
    other.set_model(loaded)
    loaded.load_weights(tmp_path / "m.weights.h5")
    orders = [
        [keras.ops.convert_to_numpy(entry.state["order"]) for entry in each._entries]
        for each in (callback, other)
    ]
    for first, second in zip(*orders, strict=True):
        np.testing.assert_array_equal(first, second)


def test_depthwise_kernels_have_no_groups():
    model = keras.Sequential(
        [keras.Input((6, 6, 4)), keras.layers.DepthwiseConv2D(3), keras.layers.Conv2D(8, 1)]
    )
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"`vector_size`.*a channel of its own"):
        GradualPruning(once(0.5), vector_size=4).set_model(model)
    targets = {keras.layers.DepthwiseConv2D: {"vector_size": None}}
    GradualPruning(once(0.5), vector_size=4, targets=targets).set_model(model)


def test_bad_vector_sizes():
    for size in (0, 2.5, "8", (1, 8)):
        with pytest.raises(ValueError, match="argument `vector_size`"):
            GradualPruning(once(0.5), vector_size=size)
    with pytest.raises(ValueError, match="argument `block_size`"):
        GradualPruning(once(0.5), vector_size=8, block_size=(1, 8))
    with pytest.raises(ValueError, match="argument `vector_size`"):
        GradualPruning(once(0.5), vector_size=8, m_by_n=(2, 4))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(4)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="argument `vector_size`"):
        GradualPruning(once(0.5), vector_size=8).set_model(model)
