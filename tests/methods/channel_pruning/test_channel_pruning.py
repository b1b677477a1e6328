"""Channels masked in `fit`, and taken out afterwards."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tfcomp

RATIO = 0.5


def make():
    keras.utils.set_random_seed(4)
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    y = layers.BatchNormalization(name="norm")(layers.Conv2D(8, 3, padding="same", name="a")(x))
    x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2D(12, 1, groups=2, name="groups")(x)
    x = layers.GlobalAveragePooling2D()(layers.Activation("sigmoid")(x))
    model = keras.Model(inputs, layers.Dense(3, name="out")(x))
    model.compile("adam", "mse")
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    return x, rng.normal(size=(32, 3)).astype("float32")


def numpy(x):
    return np.array(keras.ops.convert_to_numpy(x))


def callback(**arguments):
    schedule = tfcomp.schedules.PolynomialDecay(0, RATIO, begin_step=0, end_step=6, frequency=2)
    return tfcomp.callbacks.ChannelPruning(schedule, **arguments)


@pytest.mark.parametrize("score", ["magnitude", lambda group: np.arange(group.channels)])
def test_masked_channels_are_taken_out_and_outputs_stay(score, data):
    model = make()
    history = model.fit(
        *data, batch_size=8, epochs=3, verbose=0, callbacks=[callback(score=score)]
    ).history
    assert history["channels"][-1] == pytest.approx(RATIO)
    assert history["channels/stem/kernel"][-1] == pytest.approx(RATIO)
    done = tfcomp.prune_channels(model, verbose=0)
    assert [(row.path, row.after) for row in done] == [("stem/kernel", 4), ("groups/kernel", 6)]
    np.testing.assert_allclose(numpy(done.model(data[0])), numpy(model(data[0])), atol=1e-5)
    done.model.fit(*data, verbose=0)


def test_channels_are_masked_in_all_they_are_tied_to(data):
    model = make()
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[callback()])
    stem, a, norm = (model.get_layer(name) for name in ("stem", "a", "norm"))
    gone = ~numpy(stem.kernel).any((0, 1, 2))
    assert gone.sum() == 4
    for value in (a.kernel, stem.bias, a.bias, norm.gamma, norm.beta):
        assert not numpy(value)[..., gone].any() and numpy(value)[..., ~gone].any()
    assert not numpy(a.kernel)[:, :, gone].any()
    # The second group of the convolution reads the second half.
    read = numpy(model.get_layer("groups").kernel)
    assert not read[:, :, gone[:4], :6].any() and not read[:, :, gone[4:], 6:].any()
    assert gone[:4].sum() == gone[4:].sum() == 2


def test_what_is_masked_stays_so(data):
    model, masks = make(), []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            masks.append(numpy(self.model.get_layer("stem").kernel).any((0, 1, 2)))

    model.fit(*data, batch_size=4, epochs=2, verbose=0, callbacks=[callback(), Look()])
    assert masks[0].sum() > masks[-1].sum() == 4
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(masks))


def test_a_second_run_goes_on(data):
    model = make()
    model.fit(*data, batch_size=8, epochs=3, verbose=0, callbacks=[callback()])
    before = numpy(model.get_layer("groups").kernel).any((0, 1, 2))
    schedule = tfcomp.schedules.ConstantSparsity(0.75, begin_step=0)
    model.fit(*data, verbose=0, callbacks=[tfcomp.callbacks.ChannelPruning(schedule)])
    after = numpy(model.get_layer("groups").kernel).any((0, 1, 2))
    # Each group of a convolution keeps two at least.
    assert before.sum() == 6 and after.sum() == 4 and (after <= before).all()


def test_norms_that_take_means_over_channels_keep_them(data):
    inputs = keras.Input((6,))
    x = layers.LayerNormalization()(layers.Dense(8, name="a")(inputs))
    x = layers.Dense(8, activation="relu", name="b")(x)
    model = keras.Model(inputs, layers.Dense(2, name="out")(x))
    model.compile("sgd", "mse")
    used = callback()
    model.fit(np.ones((8, 6)), np.ones((8, 2)), batch_size=1, verbose=0, callbacks=[used])
    assert dict(used.left_out)["a/kernel"] == "a norm takes means over it"
    assert numpy(model.get_layer("a").kernel).any(0).all()
    assert numpy(model.get_layer("b").kernel).any(0).sum() == 4


def test_bad_arguments():
    schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    with pytest.raises(ValueError, match="argument `score`"):
        tfcomp.callbacks.ChannelPruning(schedule, score="lasso")
    with pytest.raises(ValueError, match="argument `round_to`"):
        tfcomp.callbacks.ChannelPruning(schedule, round_to=0)
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="channels that can go"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0, callbacks=[callback()])
