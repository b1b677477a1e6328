"""Every callback on every kind of layer: files, mixed precision, a run killed and resumed."""

import keras
import numpy as np
import pytest
from killing import Kill, Killed

import tfcomp
from tfcomp.model.axes import output_axes

pytestmark = pytest.mark.slow

EPOCHS = 4


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.fixture
def make_callback(make_callback):
    if make_callback.__name__ in ("global_pruning", "random_quantization"):
        pytest.skip("a variant of another one")
    return make_callback


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(8, 8, 8, 4)).astype("float32"), rng.integers(0, 11, size=(8, 6))]
    return x, rng.normal(size=(8, 5)).astype("float32")


@pytest.fixture
def make(every_layer):
    """A function that makes the model, compiled; steps run eagerly, which is quick for a few."""

    def make():
        model = every_layer()
        eager = keras.backend.backend() != "jax"
        model.compile(keras.optimizers.Adam(0.003), "mse", run_eagerly=eager)
        return model

    return make


@pytest.fixture
def fit(data):
    def run(model, callbacks=(), epochs=EPOCHS):
        x, y = data
        return model.fit(
            x, y, batch_size=2, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks)
        )

    return run


def zeros(model):
    """Dict from path to the number of zeros."""
    return {
        target.path: int(np.count_nonzero(numpy(target.variable.value) == 0))
        for target in tfcomp.targets.find(model)
    }


def levels(model):
    return {
        target.path: np.unique(np.abs(numpy(target.variable.value)))
        for target in tfcomp.targets.find(model)
    }


def assert_same_weights(first, second):
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def check_resumed(model, make_callback, make, fit, folder):
    """A run that was killed and resumed is the same to the last bit."""
    with pytest.raises(Killed):
        fit(make(), [keras.callbacks.BackupAndRestore(folder), make_callback(), Kill()])
    resumed = make()
    fit(resumed, [keras.callbacks.BackupAndRestore(folder), make_callback()])
    assert_same_weights(model, resumed)
    for a, b in zip(model.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(numpy(a.value), numpy(b.value))


def check_files(model, make_callback, make, fit, x, folder):
    """What was compressed is so in each file, and stays so when training goes on."""
    pruned, found = zeros(model), levels(model)
    if "quantization" in make_callback.__name__:
        assert all(np.all(np.isin(np.frexp(v)[0], (0, 0.5))) for v in found.values())
    elif make_callback.__name__ == "binary_relax":
        for target in tfcomp.targets.find(model):
            shape, axes = target.variable.shape, output_axes(target.layer, target.variable.name)
            assert len(found[target.path]) <= np.prod([shape[axis] for axis in axes])
    elif make_callback.__name__ == "weight_sharing":
        # By magnitude: two of the clusters may differ in sign alone.
        assert all(2 <= len(magnitudes) <= 8 for magnitudes in found.values())
    elif make_callback is not tfcomp.callbacks.PreserveSparsity:
        assert sum(count > 0 for count in pruned.values()) == len(pruned) == 20
    model.save(folder / "m.keras")
    loaded = keras.models.load_model(folder / "m.keras")
    assert_same_weights(model, loaded)
    expected = model.predict(x, verbose=0)
    np.testing.assert_array_equal(expected, loaded.predict(x, verbose=0))
    model.save_weights(folder / "m.weights.h5")
    fresh = make()
    fresh.load_weights(folder / "m.weights.h5")
    assert_same_weights(model, fresh)
    fit(fresh, [tfcomp.callbacks.PreserveSparsity()], epochs=1)
    assert list(zeros(fresh).values()) == list(pruned.values())
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tfcomp.export(model, folder / "compact", verbose=False)
        served = tf.saved_model.load(folder / "compact")
        np.testing.assert_allclose(served.serve(x), expected, rtol=1e-5, atol=1e-6)


def check_then_quantized(model, fit):
    """What is pruned stays so when quantization follows."""
    pruned = zeros(model)
    fit(model, [tfcomp.callbacks.IncrementalQuantization(bits=5)])
    after = zeros(model)
    assert all(after[path] >= count for path, count in pruned.items())
    for values in levels(model).values():
        assert np.all(np.isin(np.frexp(values)[0], (0, 0.5)))


def test_resumed_saved_and_quantized(make_callback, make, fit, data, tmp_path):
    model = make()
    fit(model, [make_callback()])
    check_resumed(model, make_callback, make, fit, tmp_path / "backup")
    check_files(model, make_callback, make, fit, data[0], tmp_path)
    check_then_quantized(model, fit)


def test_mixed_precision(make_callback, make, fit, tmp_path):
    # XLA multiplies no float16 matrices for JAX's attention on a CPU.
    on_jax = keras.backend.backend() == "jax"
    keras.config.set_dtype_policy("mixed_bfloat16" if on_jax else "mixed_float16")
    model = make()
    history = fit(model, [make_callback()])
    assert np.all(np.isfinite(history.history["loss"]))
    if make_callback is not tfcomp.callbacks.PreserveSparsity:
        assert history.history[make_callback().measures][-1] > 0.1
    model.save(tmp_path / "m.keras")
    assert_same_weights(model, keras.models.load_model(tmp_path / "m.keras"))
