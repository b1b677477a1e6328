"""Weights quantized in every step, against a training loop written in numpy."""

import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import quantizers
from tfcomp.callbacks import BinaryRelax, GradualPruning, IncrementalQuantization, QuantizedTraining
from tfcomp.core.attachment import attach
from tfcomp.methods.quantized_training import Quantized
from tfcomp.quantizers import Binary, Ternary

RATE, STEPS = 0.05, 12
KINDS = "conv", "dense"


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(STEPS, 6)).astype("float32"), rng.normal(size=(STEPS, 4))


def linear():
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, use_bias=False)])
    model.compile(keras.optimizers.SGD(RATE), "mse")
    return model


def kernel(model):
    return keras.ops.convert_to_numpy(model.layers[0].kernel.value)


def ternary(y):
    """Ternary weight networks, for the whole tensor."""
    above = np.abs(y) > 0.7 * np.mean(np.abs(y))
    return np.mean(np.abs(y)[above]) * np.sign(y) * above


def binary(y):
    """One scale for each output channel."""
    return np.mean(np.abs(y), axis=0) * np.where(y >= 0, 1, -1)


def trained(y, x, target, show, clip=np.inf):
    """One sample a step; yields the weights that each step ends with."""
    for step, (row, wanted) in enumerate(zip(x.astype(np.float64), target)):
        error = row @ show(y, step) - wanted
        y = np.clip(y - RATE * 2 / len(wanted) * np.outer(row, error), -clip, clip)
        yield show(y, step)


def fit(model, data, callback, epochs=1):
    return model.fit(
        *data, batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=[callback]
    )


@pytest.mark.parametrize(
    "quantizer, reference, clip",
    [
        ("ternary", ternary, np.inf),
        (Binary(clip_value=None, scale=True), binary, np.inf),
        (Binary(clip_value=0.3), lambda y: np.where(y >= 0, 1, -1), 0.3),
    ],
)
def test_against_numpy(quantizer, reference, clip, data):
    model = linear()
    begin = kernel(model).astype(np.float64)
    fit(model, data, QuantizedTraining(quantizer))
    expected = list(trained(begin, *data, lambda y, step: reference(y), clip))[-1]
    np.testing.assert_allclose(kernel(model), expected, rtol=1e-5, atol=1e-6)


def test_relaxation_against_numpy(data):
    """λ grows twice an epoch, and the last quarter is exact."""
    model = linear()
    begin = kernel(model).astype(np.float64)
    callback = BinaryRelax(Binary(clip_value=None, scale=True), strength=0.5, growth=3.0)
    history = fit(model, data, callback, epochs=2)

    def show(y, step):
        # Halves of an epoch are six steps; three quarters of 24 steps are 18.
        strength = 0.5 * 3.0 ** (step // 6)
        return binary(y) if step >= 18 else (strength * binary(y) + y) / (strength + 1)

    x, y = (np.concatenate([part, part]) for part in data)
    expected = list(trained(begin, x, y, show))[-1]
    np.testing.assert_allclose(kernel(model), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history.history["quantized"], [4.5 / 5.5, 1.0])


def test_relaxed_value_by_hand():
    """λ = 1: halfway between the weight and its level."""
    model = linear()
    model.layers[0].kernel.assign(np.full((6, 4), 0.5) * np.where(np.eye(6, 4), -1, 3))
    seen = []

    class Look(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            seen.append(kernel(model))

    model.compile(keras.optimizers.SGD(0.0), "mse")
    callback = BinaryRelax("binary", strength=1.0, growth=1.0, exact=0.5)
    data = np.ones((4, 6)), np.ones((4, 4))
    model.fit(*data, batch_size=1, verbose=0, callbacks=[callback, Look()])
    off = ~np.eye(6, 4, dtype=bool)
    np.testing.assert_array_equal(seen[0][off], 1.25)  # of 1.5 and 1
    np.testing.assert_array_equal(seen[0][~off], -0.75)  # of -0.5 and -1
    np.testing.assert_array_equal(np.unique(kernel(model)), [-1, 1])


def test_levels_are_exact_in_files_of_any_layer(every_layer, tmp_path):
    model = every_layer()
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(8, 8, 8, 4)), rng.integers(0, 11, size=(8, 6))]
    targets = {keras.layers.Dense: {"quantizer": Ternary(scale=False)}}
    callback = QuantizedTraining("binary", targets=targets)
    history = model.fit(x, rng.normal(size=(8, 5)), batch_size=2, verbose=0, callbacks=[callback])
    assert history.history["quantized"] == [1.0]
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    found = tfcomp.targets.find(loaded)
    assert len(found) == 20
    for target in found:
        levels = {-1, 0, 1} if type(target.layer) is keras.layers.Dense else {-1, 1}
        assert set(np.unique(keras.ops.convert_to_numpy(target.variable.value))) <= levels


EVERY = {
    "binary": "binary",
    "approx": "approx_sign",
    "swish": "swish_sign",
    "xnor": Binary(clip_value=None, scale=True),
    "magnitude_aware": "magnitude_aware_sign",
    "ternary": "ternary",
    "ternary_by_channel": Ternary(per_channel=True),
    "ste_tern": "ste_tern",
    "fine_grained": quantizers.FineGrainedTernary(4),
    "by_sign": quantizers.FineGrainedTernary(4, symmetric=False),
    "dorefa_1": quantizers.DoReFa(1),
    "dorefa_2": quantizers.DoReFa(2),
    "dorefa_4": quantizers.DoReFa(4),
    "residual": quantizers.ResidualBinary(2),
    "fixed": quantizers.FixedPoint(0, 3),
    "dynamic": quantizers.DynamicFixedPoint(4),
    "int8": quantizers.Int8(),
    "integer": quantizers.LeastSquaresInteger(3),
    "integer_by_channel": quantizers.LeastSquaresInteger(4, per_channel=True),
}


def sets(kernel, quantizer):
    """Parts of a kernel that share their levels."""
    if isinstance(quantizer, quantizers.FineGrainedTernary):
        return np.moveaxis(kernel, -1, 0).reshape(-1, quantizer.group_size)
    axis = quantizer.for_kernel((-1,)).axis
    return kernel.reshape(-1, kernel.shape[-1]).T if axis else kernel.reshape(1, -1)


def test_every_quantizers_set_in_one_file(tmp_path):
    """Dense and convolutional kernels, trained by a compiled step, as they are loaded."""
    inputs = x = keras.Input((6, 8))
    for name in EVERY:
        x = keras.layers.Conv1D(8, 3, padding="same", name=f"{name}_conv")(x)
        x = keras.layers.LayerNormalization()(keras.layers.Dense(8, name=f"{name}_dense")(x))
    model = keras.Model(inputs, x)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    rules = {f"{name}_{kind}": {"quantizer": EVERY[name]} for name in EVERY for kind in KINDS}
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 6, 6, 8)).astype("float32")
    model.fit(*data, batch_size=2, verbose=0, callbacks=[QuantizedTraining("binary", rules)])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    for name, identifier in EVERY.items():
        quantizer = quantizers.get(identifier)
        for kind in KINDS:
            found = keras.ops.convert_to_numpy(loaded.get_layer(f"{name}_{kind}").kernel.value)
            assert max(len(np.unique(part)) for part in sets(found, quantizer)) <= 2**quantizer.bits
            assert quantizer.levels is None or np.isin(found, np.float32(quantizer.levels)).all()


@pytest.mark.parametrize("callback", [QuantizedTraining, BinaryRelax])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_latent_weights_have_the_precision_of_small_numbers(callback, dtype):
    """Steps that are lost next to ±1 move a latent weight of 0.05, until its sign is another."""
    dense = keras.layers.Dense(1, use_bias=False, dtype=dtype, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((1,), dtype=dtype), dense])
    dense.kernel.assign([[0.05]])
    model.compile(keras.optimizers.SGD(1e-3), lambda target, output: output, jit_compile=False)
    ones = np.ones((80, 1), dtype="float32")
    model.fit(ones, ones, batch_size=1, verbose=0, callbacks=[callback("binary")])
    assert kernel(model).tolist() == [[-1.0]]


@pytest.mark.parametrize("optimizer", [keras.optimizers.SGD, keras.optimizers.AdamW])
def test_weight_decay_is_that_of_latent_weights(optimizer):
    """Without a gradient they shrink by the same factor every step, and not what is shown."""
    model = linear()
    model.compile(optimizer(0.01, weight_decay=0.1), lambda target, output: 0.0 * output)
    before = kernel(model)
    fit(model, (np.ones((50, 6), "float32"), np.ones((50, 4))), QuantizedTraining("binary"))
    state = tfcomp.core.attachment.entries_of(model)[0].read()[1]
    np.testing.assert_allclose(state["latent"], before * (1 - 0.001) ** 50, rtol=1e-4)
    np.testing.assert_array_equal(kernel(model), np.sign(before))


def test_what_is_pruned_stays_zero(data):
    """In one fit with pruning, binary weights become zero and -1 and 1, exactly as many."""
    model = linear()
    schedule = tfcomp.schedules.PolynomialDecay(0.0, 0.5, 0, 9, frequency=3)
    callbacks = [GradualPruning(schedule), QuantizedTraining("binary")]
    model.fit(*data, batch_size=1, shuffle=False, verbose=0, callbacks=callbacks)
    values, counts = np.unique(kernel(model), return_counts=True)
    assert set(values) == {-1, 0, 1} and counts[values == 0] == 12
    zeros = kernel(model) == 0
    model.fit(*data, batch_size=1, shuffle=False, verbose=0)
    np.testing.assert_array_equal(kernel(model) == 0, zeros)


def test_later_fit_stays_quantized_until_released(data):
    model = linear()
    fit(model, data, QuantizedTraining("ternary"))
    model.compile(keras.optimizers.SGD(RATE), "mse")
    model.fit(*data, batch_size=1, verbose=0)
    assert len(np.unique(np.abs(kernel(model)))) == 2
    tfcomp.release(model)
    model.fit(*data, batch_size=1, verbose=0)
    assert len(np.unique(np.abs(kernel(model)))) > 2


@pytest.mark.parametrize("known", [True, False])
def test_quantized_where_data_end_unforeseen(data, known):
    """A step that finds no more data leaves quantized weights alone."""

    def samples():
        for row, wanted in zip(*data):
            yield row[None], wanted[None]

    model = linear()
    model.fit(
        samples(),
        steps_per_epoch=STEPS if known else None,
        verbose=0,
        callbacks=[QuantizedTraining("ternary")],
    )
    assert len(np.unique(np.abs(kernel(model)))) == 2


def test_trains_on_after_compiling_anew(data):
    """With no callback in the later fit, latent weights go on as they would have."""
    kernels = []
    for recompile in (False, True):
        model = linear()
        first = model.optimizer
        fit(model, data, QuantizedTraining("ternary"))
        # Back to the first one, in the end.
        for optimizer in (keras.optimizers.SGD(RATE), keras.optimizers.SGD(RATE), first):
            if recompile:
                model.compile(optimizer, "mse")
            model.fit(*data, batch_size=1, epochs=3, shuffle=False, verbose=0)
        assert len(np.unique(np.abs(kernel(model)))) == 2
        kernels.append(kernel(model))
    np.testing.assert_array_equal(*kernels)


def shown_by(quantizer):
    """The `Entry` of a kernel that a quantizer shows, and what it shows."""
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100, use_bias=False)])
    model.set_weights([np.random.default_rng(0).normal(size=(100, 100))])
    model.compile("sgd", "mse")
    (target,) = tfcomp.targets.find(model)
    entry = attach(model, target, Quantized(quantizer))
    entry.write(*entry.projection.update(*entry.read(), 1.0))
    return entry, entry.read()[0].copy()


def test_other_roundings_are_no_other_weights():
    """One level up or down here and there, and the last bits of the scale; not half of them."""
    entry, shown = shown_by(quantizers.LeastSquaresInteger(8))
    value = shown * np.float32(1 + 1e-6)
    value[:3, 0] *= 1.01
    entry.variable.assign(value)
    assert not entry.is_stale
    entry.variable.assign(np.where(shown > 0, value, 1.01 * value))
    assert entry.is_stale
    entry, _ = shown_by(lambda y: keras.random.normal(y.shape))
    assert not entry.is_stale


def test_weights_that_were_set_are_where_a_later_fit_begins(data):
    model, callback = linear(), QuantizedTraining("ternary")
    fit(model, data, callback)
    best = model.get_weights()
    fit(model, data, callback, epochs=5)
    assert (kernel(model) != best[0]).any()
    model.set_weights(best)
    model.optimizer.learning_rate = 0.0
    fit(model, data, callback)
    np.testing.assert_allclose(kernel(model), best[0], rtol=1e-5)


def best_is_first(model, data, callback):
    """Trains until EarlyStopping restores the first epoch; returns the weights it ended with."""
    kernels = []
    log = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: (logs.update(epoch=epoch), kernels.append(kernel(model)))
    )
    best = keras.callbacks.EarlyStopping("epoch", patience=9, mode="min", restore_best_weights=True)
    model.fit(*data, batch_size=1, epochs=4, verbose=0, callbacks=[log, best, callback])
    assert (kernels[0] != kernels[-1]).any()
    return kernels[0]


@pytest.mark.parametrize("callback", [BinaryRelax("ternary"), IncrementalQuantization(2)])
def test_weights_of_an_earlier_epoch_are_quantized(data, callback):
    """The best epoch is the first, when most weights are not quantized."""
    model = linear()
    with pytest.warns(UserWarning, match="compressed without"):
        best_is_first(model, data, callback)
    assert len(np.unique(np.abs(kernel(model)))) == 2


@pytest.mark.parametrize("quantizer", ["ternary", quantizers.DoReFa(8)])
def test_weights_of_an_earlier_epoch_stay_as_they_were(data, quantizer):
    """They were quantized, and would be others if they were once more."""
    model = linear()
    best = best_is_first(model, data, QuantizedTraining(quantizer))
    np.testing.assert_array_equal(kernel(model), best)


def test_averages_are_those_of_latent_weights(data):
    """Keras's average over the run, quantized in the end."""
    model = linear()
    model.compile(keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.5), "mse")
    start = kernel(model).astype(np.float64)
    fit(model, data, QuantizedTraining("ternary"))
    y, average = start, start
    for row, wanted in zip(data[0].astype(np.float64), data[1]):
        error = row @ ternary(y) - wanted
        y = y - RATE * 2 / 4 * np.outer(row, error)
        average = 0.5 * average + 0.5 * y
    np.testing.assert_allclose(kernel(model), ternary(average), rtol=1e-4)


def test_used_again_on_other_layers(data):
    """What trains now, and did not before, is quantized, too."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5), keras.layers.Dense(4)])
    model.layers[0].trainable = False
    model.compile("sgd", "mse")
    callback = QuantizedTraining("binary")
    fit(model, data, callback)
    model.layers[0].trainable = True
    model.compile("sgd", "mse")
    fit(model, data, callback)
    for layer in model.layers:
        values = np.unique(keras.ops.convert_to_numpy(layer.kernel.value))
        assert values.tolist() == [-1.0, 1.0]


def test_bad_arguments_name_themselves(data):
    for make, name in [
        (lambda: QuantizedTraining("septary"), "quantizer"),
        (lambda: QuantizedTraining(None), "quantizer"),
        (lambda: BinaryRelax("ternary", strength=-1), "strength"),
        (lambda: BinaryRelax("ternary", growth=0.9), "growth"),
        (lambda: BinaryRelax("ternary", exact=1.0), "exact"),
    ]:
        with pytest.raises(ValueError, match=name):
            make()
    model = linear()
    before = kernel(model)
    with pytest.raises(ValueError, match="exact"):
        model.fit(data[0][:1], data[1][:1], verbose=0, callbacks=[BinaryRelax("ternary")])
    with pytest.raises(ValueError, match="targets"):
        fit(model, data, QuantizedTraining("ternary", targets={re.compile("dense"): {"bits": 2}}))
    with pytest.raises(ValueError, match="quantizer"):
        fit(model, data, QuantizedTraining(keras.ops.mean))
    np.testing.assert_array_equal(kernel(model), before)
