"""After `release`, and where no callback ever was, everything is plain Keras."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import PreserveSparsity


def attributes(thing):
    return set(vars(thing))


def datasets(path):
    """Every data set in a file of weights."""
    import h5py

    found = []
    with h5py.File(path) as file:
        file.visititems(lambda name, x: found.append(name) if isinstance(x, h5py.Dataset) else None)
    return found


def assert_plain(model, fresh):
    """No attribute, variable or constraint that a fresh copy, trained likewise, has not."""
    assert attributes(model) == attributes(fresh)
    assert attributes(model.optimizer) == attributes(fresh.optimizer)
    for variable, plain in zip(model.variables, fresh.variables, strict=True):
        assert type(variable.constraint) is type(plain.constraint)
    ours, theirs = (
        [variable.path.replace(m.name, "") for variable in m.optimizer.variables]
        for m in (model, fresh)
    )
    assert [path.split("/")[-1] for path in ours] == [path.split("/")[-1] for path in theirs]
    for thing in (model, model.optimizer):
        for value in vars(thing).values():
            assert not type(value).__module__.startswith("tfcomp")


@pytest.mark.parametrize(
    "policy", ["float32", pytest.param("mixed_float16", marks=pytest.mark.slow)]
)
def test_release_leaves_nothing(policy, make_callback, make_model, fit, tmp_path):
    keras.config.set_dtype_policy(policy)
    model, fresh = make_model(), make_model()
    fit(model, [make_callback()], epochs=4)
    fit(fresh, epochs=4)
    before = [keras.ops.convert_to_numpy(v) for v in model.variables]
    tfcomp.release(model)
    assert_plain(model, fresh)
    for a, b in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(a, keras.ops.convert_to_numpy(b))
    model.save_weights(tmp_path / "released.weights.h5")
    fresh.save_weights(tmp_path / "fresh.weights.h5")
    assert datasets(tmp_path / "released.weights.h5") == datasets(tmp_path / "fresh.weights.h5")
    fit(model, epochs=1)
    assert attributes(model) == attributes(fresh)


def test_release_after_compiling_anew_twice(make_model, fit):
    model, fresh = make_model(), make_model()
    optimizers = [model.optimizer]
    fit(model, [PreserveSparsity()], epochs=1)
    for _ in range(2):
        model.compile(keras.optimizers.Adam(0.01), "mse")
        optimizers.append(model.optimizer)
        fit(model, epochs=1)
    fit(fresh, epochs=1)
    assert "tfcomp_state" in attributes(optimizers[-1])
    for optimizer in optimizers[:-1]:
        assert attributes(optimizer) == attributes(fresh.optimizer)
    tfcomp.release(model)
    assert_plain(model, fresh)


def test_release_of_a_part_keeps_the_rest(make_model, fit):
    model = make_model()
    fit(model, [PreserveSparsity()], epochs=1)
    tfcomp.release(model, "hidden")
    assert model.get_layer("hidden").kernel.constraint is None
    assert model.get_layer("conv").kernel.constraint is not None
    assert "tfcomp_state" in attributes(model.optimizer)


def test_a_constraint_of_ones_own_comes_back():
    own = keras.constraints.NonNeg()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_constraint=own)])
    model.compile("sgd", "mse")
    x, y = np.ones((4, 3)), np.ones((4, 2))
    model.fit(x, y, verbose=0, callbacks=[PreserveSparsity()])
    assert np.all(keras.ops.convert_to_numpy(model.layers[0].kernel) >= 0)
    tfcomp.release(model)
    assert model.layers[0].kernel.constraint is own


def test_a_model_file_holds_no_state(make_callback, make_model, fit, tmp_path):
    model, fresh = make_model(), make_model()
    fit(model, [make_callback()], epochs=4)
    fit(fresh, epochs=4)
    model.save(tmp_path / "m.keras")
    fresh.save(tmp_path / "fresh.keras")
    import zipfile

    for name in ("m", "fresh"):
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            archive.extract("model.weights.h5", tmp_path / name)
    found = [datasets(tmp_path / name / "model.weights.h5") for name in ("m", "fresh")]
    assert found[0] == found[1]
