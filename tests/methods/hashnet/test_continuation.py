"""HashCode and its continuation: values by hand, what is saved, a run killed and resumed."""

import keras
import numpy as np
import pytest
from keras.src.testing import TestCase
from killing import Kill, Killed

import tfcomp
from tfcomp.callbacks import HashContinuation
from tfcomp.layers import HashCode


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def make_model():
    keras.utils.set_random_seed(5)
    model = keras.Sequential([keras.Input((6,)), HashCode(8, name="code")])
    model.compile(keras.optimizers.Adam(0.01), tfcomp.losses.WeightedPairwise())
    return model


def fit(model, epochs, callbacks):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 6)).astype("float32"), np.arange(32) % 3
    arguments = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": 0}
    return model.fit(x, y, callbacks=callbacks, **arguments).history


def test_outputs():
    layer = HashCode(3, initial_beta=2.0, use_bias=False, kernel_initializer="ones")
    x = np.array([[0.5], [-0.25], [0.0]], "float32")
    sign, smooth = numpy(layer(x)), numpy(layer(x, training=True))
    np.testing.assert_array_equal(sign, np.repeat([[1.0], [-1.0], [1.0]], 3, axis=1))
    np.testing.assert_allclose(smooth, np.repeat(np.tanh(2 * x), 3, axis=1), rtol=1e-6)
    layer.beta.assign(float("inf"))
    np.testing.assert_array_equal(numpy(layer(x, training=True)), sign)


def test_keras_layer_exam():
    TestCase().run_layer_test(
        HashCode,
        init_kwargs={"bits": 5, "initial_beta": 1.5},
        input_shape=(2, 3),
        expected_output_shape=(2, 5),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=1,
        supports_masking=True,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"gamma": 0.5}, [(1 + 0.5 * t) ** 0.5 for t in (4, 8, 12)]),
        ({"stages": (1, 3, 10), "steps_per_stage": 5}, [1, 3, 10]),
    ],
)
def test_beta_follows_the_steps_and_ends_at_infinity(arguments, expected):
    model = make_model()
    history = fit(model, 3, [HashContinuation(**arguments)])
    np.testing.assert_allclose(history["beta"], expected)
    assert np.all(np.isfinite(history["loss"]))
    layer = model.get_layer("code")
    assert float(layer.beta.value) == float("inf")
    x = np.random.default_rng(0).normal(size=(5, 6))
    np.testing.assert_array_equal(numpy(layer(x, training=True)), numpy(layer(x)))
    # A further run takes up where the step count is.
    history = fit(model, 1, [HashContinuation(gamma=1)])
    assert history["beta"] == [pytest.approx(17**0.5)]


def test_beta_is_saved(tmp_path):
    model = make_model()
    model.get_layer("code").beta.assign(7.0)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert float(loaded.get_layer("code").beta.value) == 7
    x = np.random.default_rng(0).normal(size=(5, 6))
    np.testing.assert_array_equal(numpy(model(x)), numpy(loaded(x)))


@pytest.mark.parametrize("arguments", [{"gamma": 0.5}, {"stages": (1, 9), "steps_per_stage": 6}])
def test_killed_and_resumed_is_bit_identical(arguments, tmp_path):
    unbroken, resumed = make_model(), make_model()
    history = fit(unbroken, 4, [HashContinuation(**arguments)])
    with pytest.raises(Killed):
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        fit(make_model(), 4, [backup, HashContinuation(**arguments), Kill()])
    backup = keras.callbacks.BackupAndRestore(tmp_path)
    rest = fit(resumed, 4, [backup, HashContinuation(**arguments)])
    assert rest["beta"] == history["beta"][2:]
    for a, b in zip(unbroken.variables, resumed.variables, strict=True):
        np.testing.assert_array_equal(numpy(a.value), numpy(b.value))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    model = make_model()
    history = fit(model, 3, [HashContinuation(stages=(1, 1e6), steps_per_stage=5)])
    assert np.all(np.isfinite(history["loss"]))
    x = np.random.default_rng(1).normal(size=(9, 6)).astype("float32")
    codes = model.predict(x, verbose=0)
    np.testing.assert_array_equal(np.abs(codes.astype("float32")), 1)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(codes, loaded.predict(x, verbose=0))


def test_bad_arguments():
    for name, value in [("bits", 0), ("bits", 2.5), ("initial_beta", 0), ("activation", "relu")]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            HashCode(**{"bits": 4, name: value})
    for name, arguments in [
        ("gamma", {"gamma": -1}),
        ("power", {"power": "two"}),
        ("stages", {"stages": (2, 1), "steps_per_stage": 1}),
        ("steps_per_stage", {"stages": (1, 2)}),
        ("steps_per_stage", {"steps_per_stage": 3}),
        ("steps_per_stage", {"stages": (1, 2), "steps_per_stage": 2.0}),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            HashContinuation(**arguments)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"no `tfcomp\.layers\.HashCode`"):
        model.fit(np.ones((4, 4)), np.ones((4, 2)), callbacks=[HashContinuation()], verbose=0)
