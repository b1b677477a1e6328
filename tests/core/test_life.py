"""The life of a callback across runs, processes, files and other callbacks."""

import warnings

import keras
import numpy as np
import pytest
from killing import Kill, Killed

import tfcomp
from tfcomp.callbacks import GradualPruning, IncrementalQuantization, PreserveSparsity
from tfcomp.schedules import ConstantSparsity, PolynomialDecay


def prune(sparsity, **arguments):
    return GradualPruning(ConstantSparsity(sparsity, begin_step=0), **arguments)


def everything(model):
    """All variables of model and optimizer, those of tfcomp included."""
    variables = [*model.variables, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable.value) for variable in variables]


def assert_same(first, second):
    for a, b in zip(everything(first), everything(second), strict=True):
        np.testing.assert_array_equal(a, b)


SETTINGS = {
    "plain": {},
    "jit": {"jit_compile": True},
    "steps_per_execution": {"steps_per_execution": 4},
    "accumulation": {
        "optimizer": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=4)
    },
    "momentum": {"optimizer": lambda: keras.optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01)},
    "mixed_float16": {},
}


@pytest.mark.parametrize(
    "setting",
    [name if name == "plain" else pytest.param(name, marks=pytest.mark.slow) for name in SETTINGS],
)
def test_killed_and_resumed_is_bit_identical(
    setting, make_model, make_callback, fit, kernels, tmp_path
):
    arguments = dict(SETTINGS[setting])
    make_optimizer = arguments.pop("optimizer", lambda: None)
    if keras.backend.backend() == "torch" and arguments.get("jit_compile"):
        pytest.skip("torch.compile needs a C++ toolchain")
    if keras.backend.backend() == "torch" and setting == "steps_per_execution":
        pytest.skip("Keras refuses steps_per_execution on torch")
    if setting == "mixed_float16":
        keras.config.set_dtype_policy("mixed_float16")

    def make():
        model = make_model(make_optimizer(), **arguments)
        # Something for PreserveSparsity to preserve.
        kernel = keras.ops.convert_to_numpy(model.get_layer("hidden").kernel).copy()
        kernel[::3] = 0
        model.get_layer("hidden").kernel.assign(kernel)
        return model

    # Accumulation leaves an update for every fourth batch: the schedules' steps pass later.
    epochs = 16 if setting == "accumulation" else 4
    unbroken = make()
    fit(unbroken, [make_callback()], epochs=epochs)

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    with pytest.raises(Killed):
        fit(make(), [backup, make_callback(), Kill(epochs // 2)], epochs=epochs)
    resumed = make()
    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    history = fit(resumed, [backup, make_callback()], epochs=epochs)
    assert len(history.history["loss"]) == epochs - epochs // 2
    assert_same(unbroken, resumed)
    if make_callback.__name__ != "binary_relax":
        assert np.count_nonzero(kernels(resumed)["hidden/kernel"] == 0) > 0


def test_file_written_mid_schedule(make_model, fit, kernels, tmp_path):
    """A plain load keeps the optimizer's state, and the next fit goes on from there."""
    schedule = PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    unbroken = make_model()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(unbroken, [GradualPruning(schedule), checkpoint])

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = keras.models.load_model(tmp_path / "2.keras")
    assert int(loaded.optimizer.iterations) == 8
    assert any(np.any(v != 0) for v in everything(loaded)[len(loaded.variables) + 2 :])
    before = {path: kernel == 0 for path, kernel in kernels(loaded).items()}
    assert all(mask.mean() > 0.2 for mask in before.values())

    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(kernels(self.model))

    fit(loaded, [GradualPruning(schedule), Look()], initial_epoch=2)
    for found in seen:
        for path, kernel in found.items():
            assert np.all(kernel[before[path]] == 0)
    for a, b in zip(kernels(unbroken).values(), kernels(loaded).values()):
        np.testing.assert_array_equal(a, b)


def test_inq_goes_on_from_a_file_written_mid_schedule(make_model, fit, kernels, tmp_path):
    unbroken = make_model()
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "{epoch}.keras")
    fit(unbroken, [IncrementalQuantization(), checkpoint])
    loaded = keras.models.load_model(tmp_path / "2.keras")
    history = fit(loaded, [IncrementalQuantization()], initial_epoch=2)
    np.testing.assert_allclose(history.history["quantized"], [0.875, 1.0], atol=0.01)
    for a, b in zip(kernels(unbroken).values(), kernels(loaded).values()):
        np.testing.assert_array_equal(a, b)


def test_weights_file_written_mid_schedule_loads_into_a_plain_model(make_model, fit, tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "{epoch}.weights.h5", save_weights_only=True
    )
    pruned = make_model()
    fit(pruned, [prune(0.5), checkpoint], epochs=1)
    plain = make_model()
    plain.optimizer.build(plain.trainable_variables)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        plain.load_weights(tmp_path / "1.weights.h5")
    assert int(plain.optimizer.iterations) == 4
    for a, b in zip(plain.optimizer.variables, pruned.optimizer.variables):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(a.value), keras.ops.convert_to_numpy(b.value)
        )


@pytest.mark.parametrize("way", ["load_weights", "set_weights"])
def test_masks_stay_in_force_for_other_weights(way, make_model, fit, kernels, tmp_path):
    dense = make_model()
    dense.optimizer.build(dense.trainable_variables)
    dense.save_weights(tmp_path / "dense.weights.h5")
    model = make_model()
    fit(model, [prune(0.5)], epochs=1)
    zeros = kernels(model)["hidden/kernel"] == 0
    if way == "load_weights":
        model.load_weights(tmp_path / "dense.weights.h5")
    else:
        model.set_weights(dense.get_weights())
    np.testing.assert_array_equal(kernels(model)["hidden/kernel"], kernels(dense)["hidden/kernel"])
    fit(model, epochs=1)
    np.testing.assert_array_equal(kernels(model)["hidden/kernel"] == 0, zeros)


def test_saves_and_loads_like_any_model_after_fit(
    make_model, make_callback, fit, kernels, tmp_path
):
    model = make_model()
    fit(model, [make_callback()])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        fit(loaded, epochs=1)
    again = keras.models.load_model(tmp_path / "m.keras")
    for path, kernel in kernels(again).items():
        np.testing.assert_array_equal(kernel, kernels(model)[path])
    assert int(again.optimizer.iterations) == 16


def test_later_fit_without_callback_keeps_zeros(make_model, fit, kernels):
    model = make_model()
    fit(model, [prune(0.75)], epochs=1)
    zeros = {path: kernel == 0 for path, kernel in kernels(model).items()}
    fit(model, epochs=1)
    model.compile("sgd", "mse")
    fit(model, epochs=1)
    for path, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel == 0, zeros[path])


def test_preserve_sparsity_after_loading(make_model, fit, kernels, tmp_path):
    model = make_model()
    fit(model, [prune(0.75)], epochs=1)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    history = fit(loaded, [PreserveSparsity()], epochs=2)
    for path, kernel in kernels(loaded).items():
        np.testing.assert_array_equal(kernel == 0, kernels(model)[path] == 0)
        assert np.any(kernel != kernels(model)[path])
    assert history.history["sparsity"][-1] == pytest.approx(0.75, abs=0.01)


def test_zero_initialised_weight_is_not_taken_for_pruned(fit):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(3, kernel_initializer="zeros"),
        ]
    )
    model.compile("sgd", "mse")
    fit(model, [PreserveSparsity()], epochs=1)
    assert np.all(keras.ops.convert_to_numpy(model.layers[-1].kernel) != 0)


def test_second_pruning_never_goes_back_to_a_denser_mask(make_model, fit, kernels):
    model = make_model()
    fit(model, [prune(0.8)], epochs=1)
    zeros = {path: kernel == 0 for path, kernel in kernels(model).items()}
    fit(model, [prune(0.5)], epochs=1)
    for path, kernel in kernels(model).items():
        np.testing.assert_array_equal(kernel == 0, zeros[path])
    fit(model, [prune(0.9)], epochs=1)
    for path, kernel in kernels(model).items():
        assert np.all(kernel[zeros[path]] == 0)
        assert np.count_nonzero(kernel == 0) == int(0.9 * kernel.size + 0.5)


def test_pruning_and_quantization_in_one_fit(make_model, fit, kernels):
    model = make_model()
    schedule = PolynomialDecay(0, 0.8, begin_step=0, end_step=14, frequency=2)
    for callbacks in (
        [IncrementalQuantization(), GradualPruning(schedule)],
        [GradualPruning(schedule), IncrementalQuantization()],
    ):
        model = make_model()
        fit(model, callbacks)
        for kernel in kernels(model).values():
            assert np.mean(kernel == 0) >= 0.8 - 0.5 / kernel.size
            assert np.all(np.abs(np.frexp(kernel[kernel != 0])[0]) == 0.5)


def test_quantized_weights_stay_after_compiling_anew_and_pruning(make_model, fit, kernels):
    model = make_model()
    fit(model, [IncrementalQuantization()])
    before = kernels(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    fit(model, [prune(0.5)], epochs=1)
    for path, kernel in kernels(model).items():
        alive = kernel != 0
        np.testing.assert_array_equal(kernel[alive], before[path][alive])
        assert np.count_nonzero(~alive) == int(0.5 * kernel.size + 0.5)


def test_one_callback_in_two_fits_continues(make_model, fit, kernels):
    schedule = PolynomialDecay(0.2, 0.9, begin_step=2, end_step=13, frequency=3)
    whole, parts = make_model(), make_model()
    fit(whole, [GradualPruning(schedule)])
    callback = GradualPruning(schedule)
    with pytest.warns(UserWarning, match="ends at step 13"):
        fit(parts, [callback], epochs=2)
    fit(parts, [callback], epochs=2)
    for a, b in zip(kernels(whole).values(), kernels(parts).values()):
        np.testing.assert_array_equal(a, b)


def test_one_callback_on_two_models_raises(make_model, fit):
    callback = prune(0.5)
    fit(make_model(), [callback], epochs=1)
    with pytest.raises(ValueError, match="used on another model already"):
        fit(make_model(), [callback], epochs=1)


def test_release(make_model, fit, kernels):
    model = make_model()
    callback = prune(0.5)
    fit(model, [callback], epochs=1)
    count = len(model.optimizer.variables)
    zeros = np.count_nonzero(kernels(model)["hidden/kernel"] == 0)
    tfcomp.release(model, "hidden")
    fit(model, epochs=1)
    # Weights behind a dead unit have no gradient, so some may stay where they are.
    assert np.count_nonzero(kernels(model)["hidden/kernel"] == 0) < zeros / 2
    assert np.mean(kernels(model)["conv/kernel"] == 0) == 0.5
    assert len(model.optimizer.variables) == count - 2  # the mask and the run
    tfcomp.release(model)
    fit(model, epochs=1)
    assert np.mean(kernels(model)["conv/kernel"] == 0) < 0.25


def test_averaged_weights_are_compressed_too(make_model, fit, kernels):
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    schedule = PolynomialDecay(0, 0.9, begin_step=0, end_step=15, frequency=3)
    model = make_model(optimizer)
    fit(model, [GradualPruning(schedule)])
    for kernel in kernels(model).values():
        assert np.count_nonzero(kernel == 0) == int(0.9 * kernel.size + 0.5)


def test_evaluate_takes_the_callback(make_model, data, fit, kernels):
    model = make_model()
    expected, before = model.evaluate(*data, verbose=0), everything(model)
    callback = prune(0.5)
    assert model.evaluate(*data, verbose=0, callbacks=[callback]) == expected
    for value, kept in zip(before, everything(model)):
        np.testing.assert_array_equal(value, kept)
    fit(model, [callback], epochs=1)
    for kernel in kernels(model).values():
        assert np.count_nonzero(kernel == 0) == int(0.5 * kernel.size + 0.5)


def test_frozen_layer_is_left_alone_unless_named(make_model, fit, kernels):
    model = make_model()
    model.get_layer("hidden").trainable = False
    model.compile("sgd", "mse")
    before = kernels(model)["hidden/kernel"]
    fit(model, [prune(0.5)], epochs=1)
    np.testing.assert_array_equal(kernels(model)["hidden/kernel"], before)
    fit(model, [prune(0.5, targets="hidden")], epochs=1)
    assert np.mean(kernels(model)["hidden/kernel"] == 0) == 0.5


def test_resuming_what_followed_an_earlier_callback(make_model, fit, kernels, tmp_path):
    """The killed process had a mask attached, too, which the resuming one does not know of."""
    first = make_model()
    fit(first, [prune(0.5)], epochs=1)
    first.save(tmp_path / "pruned.keras")
    backup = tmp_path / "backup"
    with pytest.raises(Killed):
        fit(
            first,
            [keras.callbacks.BackupAndRestore(backup), IncrementalQuantization(), Kill(2)],
        )
    resumed = keras.models.load_model(tmp_path / "pruned.keras")
    history = fit(resumed, [keras.callbacks.BackupAndRestore(backup), IncrementalQuantization()])

    unbroken = keras.models.load_model(tmp_path / "pruned.keras")
    fit(unbroken, [IncrementalQuantization()])
    for a, b in zip(kernels(unbroken).values(), kernels(resumed).values()):
        np.testing.assert_array_equal(a, b)
    assert history.history["quantized"][-1] == 1.0


def test_going_back_to_an_earlier_optimizer(make_model, fit, kernels, tmp_path):
    model = make_model()
    first = model.optimizer
    fit(model, [prune(0.5)], epochs=1)
    model.compile("sgd", "mse")
    fit(model, [prune(0.6)], epochs=1)
    model.compile(first, "mse")
    fit(model, [prune(0.7)], epochs=1)
    tfcomp.release(model, "out")
    for path, kernel in kernels(model).items():
        assert np.count_nonzero(kernel == 0) == int(0.7 * kernel.size + 0.5), path
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model.save(tmp_path / "m.keras")
        keras.models.load_model(tmp_path / "m.keras")


def test_release_after_compiling_anew(make_model, fit):
    model = make_model()
    fit(model, [prune(0.5)], epochs=1)
    model.compile("sgd", "mse")
    tfcomp.release(model)
    fit(model, epochs=1)
    assert model.get_layer("hidden").kernel.constraint is None
