"""INQ: the rounding rule by hand and against a search, partitions, frozen weights."""

import itertools

import keras
import numpy as np
import pytest

from tfcomp.callbacks import GradualPruning, IncrementalQuantization
from tfcomp.methods.incremental_quantization import (
    PowersOfTwo,
    level_exponents,
    quantize,
    top_exponent,
)
from tfcomp.schedules import ConstantSparsity


def levels(top, bits):
    """All levels by the paper's formulas: n2 = n1 + 1 - 2**(b - 1) / 2."""
    smallest = top + 1 - 2 ** (bits - 1) // 2
    magnitudes = [2.0**n for n in range(smallest, top + 1)]
    return sorted([0.0, *magnitudes, *(-m for m in magnitudes)])


def reference(weight, top, bits):
    """The paper's rule, one weight and one pair of adjacent levels at a time."""
    magnitudes = [m for m in levels(top, bits) if m >= 0]
    if abs(weight) >= 1.5 * magnitudes[-1]:
        return np.sign(weight) * magnitudes[-1]
    for low, high in itertools.pairwise(magnitudes):
        if (low + high) / 2 <= abs(weight) < 3 * high / 2:
            return np.sign(weight) * high
    return 0.0


def test_level_set_by_hand():
    # s = 0.7: n1 = floor(log2(2.8 / 3)) = -1; three bits leave 1/2 and 1/4.
    assert top_exponent(np.array([0.1, -0.7])) == -1
    assert list(level_exponents(-1, 3)) == [-2, -1]
    assert [2.0**n for n in level_exponents(0, 5)][::7] == [1 / 128, 1.0]
    assert list(level_exponents(3, 2)) == [3]
    # 4 s / 3 is an exact power of two at s = 0.75.
    assert top_exponent(np.array([0.75])) == 0
    assert top_exponent(np.nextafter(np.array([0.75]), 0)) == -1


def test_rounding_by_hand():
    # Levels 1, 1/2, 0: up from 3/4, down below; zero below 1/4.
    values = np.array([0.2, 0.25, 0.3, 0.74, 0.75, 1.4, 9.0, -0.6, -0.2], "float32")
    expected = [0, 0.5, 0.5, 0.5, 1, 1, 1, -0.5, 0]
    assert quantize(values, 0, 3).tolist() == expected


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_rounding_against_the_rule(bits):
    rng = np.random.default_rng(bits)
    values = rng.normal(size=500).astype("float32") * 2.0 ** rng.integers(-9, 2, size=500)
    values = values.astype("float32")
    expected = [reference(float(value), 0, bits) for value in values]
    assert quantize(values, 0, bits).tolist() == expected
    assert set(expected) <= set(levels(0, bits))


def test_portions_by_hand():
    projection = PowersOfTwo(bits=3)
    value = np.array([[0.9, -0.1, 0.4, -0.7, 0.0]], "float32")
    state = projection.adopt(value, projection.init(value))
    assert int(state["top"]) == 0 and int(state["live"]) == 4
    value, state = projection.update(value, state, 0.5)
    np.testing.assert_array_equal(value, np.float32([[1.0, -0.1, 0.4, -0.5, 0.0]]))
    np.testing.assert_array_equal(~np.isnan(state["fixed"]), [[1, 0, 0, 1, 1]])
    # Doing a portion twice changes nothing.
    again, _ = projection.update(value, state, 0.5)
    np.testing.assert_array_equal(again, value)
    value, state = projection.update(value, state, 1.0)
    np.testing.assert_array_equal(value, np.float32([[1.0, 0, 0.5, -0.5, 0.0]]))
    assert not np.isnan(state["fixed"]).any()


def rounded(dtype, size=(30, 10)):
    return np.random.default_rng(0).normal(size=size).astype(dtype)


@pytest.mark.parametrize("partition", ["magnitude", "random"])
@pytest.mark.parametrize(
    "value, top",
    [
        (np.float32([[1, 3], [5, 0.3]]), 2),
        (np.round(rounded("float32", (50, 50)) * 4) / 2, 3),
        (rounded("bfloat16", (50, 50)), 2),
    ],
    ids=["small", "fixed point", "bfloat16"],
)
def test_rounded_weights_are_not_taken_for_frozen(value, top, partition):
    """Many are powers of two, but the largest is none: the rule goes by that."""
    value = value.copy()
    value[0, 1] = 1.375 * 2.0**top
    assert np.abs(value).argmax() == 1
    projection = PowersOfTwo(bits=5, partition=partition)
    state = projection.adopt(value, projection.init(value))
    assert int(state["top"]) == top
    if partition == "magnitude":
        assert np.isnan(state["fixed"][value != 0].astype("float32")).all()


@pytest.mark.parametrize("partition", ["magnitude", "random"])
def test_frozen_weights_are_found_again(partition):
    value = rounded("float32")
    projection = PowersOfTwo(bits=5, partition=partition)
    value, state = projection.update(value, projection.init(value), 0.5)
    free = np.isnan(state["fixed"])
    found = projection.adopt(value, projection.init(value))
    assert int(found["top"]) == int(state["top"])
    np.testing.assert_array_equal(np.isnan(found["fixed"]), free)


def test_clip_by_hand():
    """A root mean square of 2.066, 0.3 of which makes 2**-1 the largest level, and not 2**2."""
    value = np.array([[4.1, 0.3, 0.0, -0.3, 0.3]], "float32")
    for clip, top, levels in (
        (None, 2, [[4, 0, 0, 0, 0]]),
        (0.3, -1, [[0.5, 0.25, 0, -0.25, 0.25]]),
    ):
        projection = PowersOfTwo(bits=3, clip=clip)
        state = projection.init(value)
        assert int(state["top"]) == top
        assert int(projection.adopt(value, state)["top"]) == top
        np.testing.assert_array_equal(projection.update(value, state, 1.0)[0], np.float32(levels))


@pytest.mark.parametrize("seed", ["2", -1, None])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="`seed`"):
        IncrementalQuantization(partition="random", seed=seed)


@pytest.mark.parametrize("clip", [0, -1.0, "2"])
def test_bad_clip(clip):
    with pytest.raises(ValueError, match="`clip`"):
        IncrementalQuantization(clip=clip)


@pytest.mark.parametrize("partition", ["magnitude", "random"])
@pytest.mark.parametrize("bits", [2, 5])
def test_every_weight_ends_at_a_level(make_model, fit, kernels, partition, bits):
    model = make_model()
    tops = {path: top_exponent(kernel) for path, kernel in kernels(model).items()}
    callback = IncrementalQuantization(bits, (0.5, 0.75, 0.875, 1.0), partition=partition)
    history = fit(model, [callback]).history
    for path, kernel in kernels(model).items():
        assert set(np.unique(kernel)) <= set(levels(tops[path], bits)), path
        portions = history[f"quantized/{path}"]
        np.testing.assert_allclose(portions, [0.5, 0.75, 0.875, 1.0], atol=1 / kernel.size)
    assert history["quantized"][-1] == 1.0


@pytest.mark.parametrize(
    "bits, portions",
    [
        (2, [0.2, 0.4, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.975, 1]),
        (3, [0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95, 1]),
        (4, [0.3, 0.5, 0.8, 0.9, 0.95, 1]),
        (5, [0.5, 0.75, 0.875, 1]),
    ],
)
def test_portions_are_those_of_the_paper(make_model, data, kernels, tmp_path, bits, portions):
    model = make_model()
    tops = {path: top_exponent(kernel) for path, kernel in kernels(model).items()}
    x, y = (part[:8] for part in data)
    callback = IncrementalQuantization(bits)
    history = model.fit(x, y, epochs=len(portions), verbose=0, callbacks=[callback]).history
    np.testing.assert_allclose(history["quantized"], portions, atol=0.005)
    model.save(tmp_path / "m.keras")
    for path, kernel in kernels(keras.models.load_model(tmp_path / "m.keras")).items():
        assert set(np.unique(kernel)) <= set(levels(tops[path], bits)), path


def test_every_kind_of_layer_at_every_width(every_layer, kernels, tmp_path):
    """2 to 5 bits side by side in one run, each with its portions, found in the loaded file."""
    model = every_layer()
    model.compile("adam", "mse", run_eagerly=keras.backend.backend() != "jax")
    before = kernels(model)
    bits = {path: 2 + i % 4 for i, path in enumerate(before)}
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(10, 8, 8, 4)), rng.integers(0, 11, size=(10, 6))]
    targets = {path: {"bits": b} for path, b in bits.items()}
    callback = IncrementalQuantization(targets=targets)
    model.fit(x, rng.normal(size=(10, 5)), batch_size=1, verbose=0, callbacks=[callback])
    model.save(tmp_path / "m.keras")
    after = kernels(keras.models.load_model(tmp_path / "m.keras"))
    for (path, was), kernel in zip(before.items(), after.values(), strict=True):
        assert set(np.unique(kernel)) <= set(levels(top_exponent(was), bits[path])), path


def test_frozen_weights_never_move(make_model, fit, kernels):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(kernels(self.model)["hidden/kernel"])

    model = make_model(keras.optimizers.AdamW(0.01, weight_decay=0.1))
    before = kernels(model)["hidden/kernel"]
    fit(model, [IncrementalQuantization(bits=5), Look()])
    # The largest half is frozen before the first step.
    largest = np.abs(before) >= np.sort(np.abs(before).ravel())[before.size // 2]
    expected = quantize(before, top_exponent(before), 5)
    for kernel in seen:
        np.testing.assert_array_equal(kernel[largest], expected[largest])
    assert np.any(seen[0][~largest] != seen[3][~largest])


def test_pruned_zeros_stay_zero(make_model, fit, kernels):
    model = make_model()
    fit(model, [GradualPruning(ConstantSparsity(0.8, begin_step=0))], epochs=1)
    zeros = {path: kernel == 0 for path, kernel in kernels(model).items()}
    fit(model, [IncrementalQuantization(bits=5)])
    for path, kernel in kernels(model).items():
        assert np.all(kernel[zeros[path]] == 0), path
        assert np.all(np.abs(np.frexp(kernel[kernel != 0])[0]) == 0.5), path


def test_given_steps_and_partial_portions(make_model, fit, kernels):
    model = make_model()
    history = fit(model, [IncrementalQuantization(portions=(0.3, 0.6), steps=(5, 9))]).history
    np.testing.assert_allclose(history["quantized"], [0.0, 0.3, 0.6, 0.6], atol=0.01)
    assert np.count_nonzero(np.abs(np.frexp(kernels(model)["hidden/kernel"])[0]) != 0.5) > 0


def test_overrides(make_model, fit, kernels):
    model = make_model()
    targets = {"out": None, "hidden": {"bits": 2}}
    fit(model, [IncrementalQuantization(targets=targets)])
    found = kernels(model)
    assert len(set(np.abs(found["hidden/kernel"]).ravel()) - {0.0}) == 1
    assert len(set(np.abs(found["conv/kernel"]).ravel()) - {0.0}) > 1
    assert np.count_nonzero(np.abs(np.frexp(found["out/kernel"])[0]) != 0.5) > 0


def test_unknown_epoch_length_asks_for_steps(make_model, data):
    def batches():
        while True:
            yield data[0][:8], data[1][:8]

    model = make_model()
    callback = IncrementalQuantization()
    callback.set_params({"epochs": 2, "steps": None})
    callback.set_model(model)
    callback.on_train_begin()
    with pytest.raises(ValueError, match="argument `steps`"):
        callback.on_epoch_begin(0)
    history = model.fit(
        batches(), steps_per_epoch=4, epochs=2, verbose=0, callbacks=[IncrementalQuantization()]
    )
    assert history.history["quantized"][-1] == 1.0


def test_warns_when_stopped_early(make_model, fit):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    with pytest.warns(UserWarning, match="some weights are not compressed yet"):
        fit(make_model(), [IncrementalQuantization(), Stop()])


def test_bad_arguments_name_themselves(make_model, fit):
    for arguments, name in [
        ({"bits": 1}, "bits"),
        ({"bits": 9}, "bits"),
        ({"bits": 4.5}, "bits"),
        ({"portions": (0.5, 0.4)}, "portions"),
        ({"portions": ()}, "portions"),
        ({"portions": 0.5}, "portions"),
        ({"portions": (0.5, 1.0), "steps": (1,)}, "steps"),
        ({"partition": "largest"}, "partition"),
        ({"bits": 4, "steps": (1, 2, 3, 4)}, "steps"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            IncrementalQuantization(**arguments)
    with pytest.raises(ValueError, match=r"argument `portions`.*as the run has steps"):
        fit(make_model(), [IncrementalQuantization()], epochs=1, steps_per_epoch=3)
