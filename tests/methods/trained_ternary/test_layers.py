"""Trained ternary quantization: the paper's gradients by hand and in a training loop in numpy."""

import keras
import numpy as np
import pytest
from gradients import gradient

import tfcomp
from tfcomp import layers
from tfcomp.quantizers import TrainedTernary


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def scales(layer, weight="kernel"):
    holder = getattr(layer, f"{weight}_trained_scales")
    return float(holder.positive.value), float(holder.negative.value)


def regions(w, t=0.05):
    delta = t * np.abs(w).max()
    return w > delta, w < -delta


def test_gradients_by_hand():
    # t = 0.25: above 1 are 4 and 2, below -1 is -3.
    w = np.array([4.0, 2.0, 0.5, -1.0, -3.0], "float32")
    g = np.array([1.0, 10.0, 100.0, 1000.0, 1e4], "float32")
    q = TrainedTernary(0.25)

    def through(w, positive=0.5, negative=2.0):
        return keras.ops.multiply(q.with_scales(positive, negative)(w), g)

    np.testing.assert_array_equal(numpy(through(w)) / g, [0.5, 0.5, 0, 0, -2])
    np.testing.assert_array_equal(gradient(through, w), [0.5, 5.0, 100.0, 1000.0, 2e4])
    one = np.float32(0.5)
    assert gradient(lambda p: through(keras.ops.convert_to_tensor(w), p), one) == 11
    assert gradient(lambda n: through(keras.ops.convert_to_tensor(w), 0.5, n), one) == -1e4


def test_by_itself_it_takes_the_best_scales():
    w = np.random.default_rng(0).normal(size=(20, 30)).astype("float32")
    found = numpy(TrainedTernary(0.3)(w))
    above, below = regions(w, 0.3)
    expected = np.where(above, w[above].mean(), np.where(below, w[below].mean(), 0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(np.unique(found)) == 3
    assert numpy(TrainedTernary()(np.zeros(3, "float32"))).tolist() == [0, 0, 0]


def test_training_against_numpy():
    """Plain SGD on one dense layer, every step as the paper writes it."""
    rng, rate = np.random.default_rng(1), 0.05
    x, y = rng.normal(size=(12, 6)).astype("float32"), rng.normal(size=(12, 4))
    layer = layers.TrainedTernaryDense(4, use_bias=False)
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(rate), "mse")
    w = numpy(layer.kernel.value).astype(np.float64)
    (above, below), (p, n) = regions(w), scales(layer)
    np.testing.assert_allclose([p, n], [w[above].mean(), -w[below].mean()], rtol=1e-5)
    model.fit(x, y, batch_size=1, epochs=2, shuffle=False, verbose=0)
    for row, wanted in [*zip(x.astype(np.float64), y)] * 2:
        above, below = regions(w)
        shown = np.where(above, p, np.where(below, -n, 0))
        g = 2 / 4 * np.outer(row, row @ shown - wanted)
        w = w - rate * g * np.where(above, p, np.where(below, n, 1))
        p, n = p - rate * g[above].sum(), n + rate * g[below].sum()
    np.testing.assert_allclose(numpy(layer.kernel.value), w, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scales(layer), [p, n], rtol=1e-4)


def network(optimizer="adam"):
    model = keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            layers.TrainedTernaryConv2D(8, 3, name="conv"),
            layers.QuantizedSeparableConv2D(
                8,
                3,
                depthwise_quantizer="trained_ternary",
                pointwise_quantizer="trained_ternary",
                name="separable",
            ),
            keras.layers.Flatten(),
            layers.QuantizedDense(3, kernel_quantizer=TrainedTernary(0.1), name="out"),
        ]
    )
    model.compile(optimizer, "mse")
    return model


@pytest.fixture
def trained():
    rng = np.random.default_rng(0)
    model = network(keras.optimizers.Adam(0.01))
    x = rng.normal(size=(32, 6, 6, 3)).astype("float32")
    model.fit(x, rng.normal(size=(32, 3)), batch_size=4, verbose=0)
    return model, x


def three_levels(model):
    """The levels that each weight is computed with, found in what was loaded."""
    for layer in model.layers:
        for variable, quantizer in getattr(layer, "weight_quantizers", ()):
            name = variable.name if "kernel" in variable.name else "kernel"
            p, n = scales(layer, name)
            levels = np.unique(numpy(quantizer(variable.value)))
            np.testing.assert_array_equal(levels, np.float32([-n, 0, p]))
            assert p != n
            yield levels


@pytest.mark.parametrize("file", ["m.keras", "m.weights.h5"])
def test_levels_in_files_are_the_scales(trained, file, tmp_path):
    model, x = trained
    if file == "m.keras":
        model.save(tmp_path / file)
        loaded = keras.models.load_model(tmp_path / file)
    else:
        model.save_weights(tmp_path / file)
        loaded = network()
        loaded.load_weights(tmp_path / file)
    assert len(list(three_levels(loaded))) == 4
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(numpy(model(x)), numpy(loaded(x)))


@pytest.mark.tensorflow
def test_exported_weights_have_three_levels(trained, tmp_path):
    import tensorflow as tf

    model, x = trained
    tfcomp.export(model, tmp_path / "compact", verbose=False)
    served = tf.saved_model.load(tmp_path / "compact")
    np.testing.assert_allclose(served.serve(x), numpy(model(x)), rtol=1e-5, atol=1e-6)
    final = tfcomp.model.final_weights.FinalWeights(model)
    for layer in model.layers:
        for variable, _ in getattr(layer, "weight_quantizers", ()):
            assert len(np.unique(final.value(variable))) == 3


def test_summary_counts_two_bits_and_three_values(trained):
    model, _ = trained
    rows = {row.name: row for row in tfcomp.summary(model, print_table=False).layers}
    assert set(rows) == {"conv", "separable", "out"}
    assert rows["conv"].distinct == 3 and rows["conv"].weights == 3 * 3 * 3 * 8 + 8 + 2
    assert list(rows["out"].macs) == [(2, 32)]


def test_swapped_layers_begin_at_the_best_scales():
    plain = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, name="a")])
    plain.layers[0].kernel.assign(np.random.default_rng(0).normal(size=(6, 5)) * 7)
    swapped = tfcomp.swap_layers(plain, {"a": layers.TrainedTernaryDense})
    w = numpy(plain.layers[0].kernel.value)
    above, below = regions(w)
    np.testing.assert_allclose(
        scales(swapped.layers[0]), [w[above].mean(), -w[below].mean()], rtol=1e-5
    )
    # Trained scales are carried over, not found anew.
    swapped.layers[0].kernel_trained_scales.positive.assign(3.0)
    again = tfcomp.swap_layers(swapped, {"a": layers.TrainedTernaryDense})
    assert scales(again.layers[0])[0] == 3


def test_frozen_layers_keep_their_scales():
    model = network()
    for layer in model.layers:
        layer.trainable = False
    assert not model.trainable_weights


def test_bad_arguments():
    for threshold in (-0.1, 1.0, "0.05", True):
        with pytest.raises(ValueError, match="argument `threshold`"):
            TrainedTernary(threshold)
    with pytest.raises(ValueError, match=r"argument `quantizer`.*TrainedTernaryDense"):
        tfcomp.callbacks.QuantizedTraining("trained_ternary")
