"""Exact sparsity and exact levels in what is shipped: counted in the loaded SavedModel."""

import keras
import numpy as np
import pytest

import tfcomp

pytestmark = pytest.mark.tensorflow


def make_model():
    return keras.Sequential(
        [
            keras.Input((5, 5, 3)),
            # Given a single one at its centre, a same-padded convolution returns its kernel.
            keras.layers.Conv2D(7, 5, padding="same", use_bias=False, name="conv"),
        ]
    )


def kernel_of(served):
    """The kernel, read off the outputs for one unit impulse a channel."""
    impulses = np.zeros((3, 5, 5, 3), "float32")
    for channel in range(3):
        impulses[channel, 2, 2, channel] = 1
    responses = np.asarray(served.serve(impulses))
    return np.moveaxis(responses[:, ::-1, ::-1], 0, 2)


def test_loaded_saved_model_is_sparse_and_quantized(tmp_path):
    import tensorflow as tf

    model = make_model()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(32, 5, 5, 3)).astype("float32")
    y = np.random.default_rng(1).normal(size=(32, 5, 5, 7)).astype("float32")
    schedule = tfcomp.schedules.PolynomialDecay(0, 0.7, begin_step=0, end_step=6, frequency=2)
    model.fit(
        x,
        y,
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[tfcomp.callbacks.GradualPruning(schedule)],
    )
    model.fit(x, y, epochs=6, verbose=0, callbacks=[tfcomp.callbacks.IncrementalQuantization(4)])
    tfcomp.export(model, tmp_path / "small", verbose=False)
    kernel = kernel_of(tf.saved_model.load(tmp_path / "small"))
    np.testing.assert_array_equal(kernel, model.get_layer("conv").kernel.numpy())
    pruned = int(0.7 * kernel.size + 0.5)
    # Quantization may round further weights to zero, and never fewer.
    assert pruned <= np.count_nonzero(kernel == 0) < pruned + 20
    assert set(np.abs(np.frexp(kernel)[0]).ravel()) == {0.0, 0.5}
    assert len(set(np.abs(kernel).ravel()) - {0.0}) <= 4


def test_sparsity_of_the_loaded_saved_model_is_exact_to_one_weight(tmp_path):
    import tensorflow as tf

    model = make_model()
    model.compile("adam", "mse")
    schedule = tfcomp.schedules.ConstantSparsity(0.618, begin_step=0)
    model.fit(
        np.ones((4, 5, 5, 3)),
        np.ones((4, 5, 5, 7)),
        verbose=0,
        callbacks=[tfcomp.callbacks.GradualPruning(schedule)],
    )
    tfcomp.export(model, tmp_path / "small", verbose=False)
    kernel = kernel_of(tf.saved_model.load(tmp_path / "small"))
    assert np.count_nonzero(kernel == 0) == int(0.618 * kernel.size + 0.5)


def test_tensorboard_shows_the_measures(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorflow.python.summary.summary_iterator import summary_iterator

    model = make_model()
    model.compile("adam", "mse")
    schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    model.fit(
        np.ones((4, 5, 5, 3)),
        np.ones((4, 5, 5, 7)),
        verbose=0,
        callbacks=[
            tfcomp.callbacks.GradualPruning(schedule),
            keras.callbacks.TensorBoard(tmp_path),
        ],
    )
    (file,) = tmp_path.glob("train/events*")
    tags = {value.tag for event in summary_iterator(str(file)) for value in event.summary.value}
    assert {"epoch_sparsity", "epoch_sparsity/conv/kernel"} <= tags
