"""The call: how many channels go, which, and what follows them."""

import re

import keras
import numpy as np
import pytest
from keras import layers

import tfcomp


def make(compiled=True, filters=(8, 12)):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(filters[0], 3, activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.Conv2D(filters[1], 3, activation="relu", name="second"),
            layers.Flatten(),
            layers.Dense(3, name="out"),
        ]
    )
    if compiled:
        model.compile(keras.optimizers.Adam(0.01), "mse", metrics=["mae"])
    return model


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 8, 8, 3)).astype("float32")
    return x, rng.normal(size=(32, 3)).astype("float32")


def numpy(x):
    return np.array(keras.ops.convert_to_numpy(x))


def sizes(done):
    return {row.path.split("/")[0]: row.after for row in done}


def prune(*args, **kwargs):
    return tfcomp.prune_channels(*args, **{"verbose": 0, **kwargs})


# ---- how many


@pytest.mark.parametrize(
    "arguments, wanted",
    [
        ({"ratio": 0.5}, {"first": 4, "second": 6}),
        ({"ratio": 0.75}, {"first": 2, "second": 3}),
        ({"ratio": {"first": 0.25}}, {"first": 6}),
        ({"ratio": 0.5, "targets": "second"}, {"second": 6}),
        ({"ratio": 0.5, "targets": {"first": None}}, {"second": 6}),
        ({"ratio": 0.5, "targets": {"first": {"ratio": 0.25}}}, {"first": 6, "second": 6}),
        ({"ratio": 0.5, "targets": re.compile("sec")}, {"second": 6}),
        ({"ratio": 0.4, "round_to": 4}, {"first": 4, "second": 8}),
        ({"ratio": 0.9, "targets": "first"}, {"first": 2}),
    ],
)
def test_how_many_are_kept(arguments, wanted):
    done = prune(make(), **arguments)
    assert sizes(done) == wanted
    for name, number in wanted.items():
        assert done.model.get_layer(name).filters == number


@pytest.mark.parametrize("amount", [0.5, 0.2, 1500])
def test_params(amount):
    model = make()
    done = prune(model, params=amount)
    budget = amount if amount > 1 else amount * model.count_params()
    assert 0.8 * budget < done.model.count_params() <= budget


@pytest.mark.parametrize("amount", [0.5, 0.2, 12_000])
def test_macs(amount):
    model = make()
    budget = amount * _macs(model) if amount < 1 else amount
    assert 0.7 * budget < _macs(prune(model, macs=amount).model) <= budget


def _macs(model):
    from tfcomp.methods.channel_pruning.shares import measured

    return measured(model, "macs")


def test_macs_of_a_convolution_by_hand():
    """8x8x3 to 6x6x8 to 4x4x12 to 3."""
    assert _macs(make()) == 36 * 27 * 8 + 16 * 72 * 12 + 192 * 3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"ratio": 1.0}, "argument `ratio`"),
        ({"ratio": -0.1}, "argument `ratio`"),
        ({"ratio": 0.95}, "leaves some of the 8 channels of first/kernel"),
        ({"ratio": 0.5, "macs": 0.5}, "None together with `ratio`"),
        ({"macs": 10}, "argument `macs`. Expected a budget that can be met"),
        ({"params": 0.001}, "argument `params`. Expected a budget that can be met"),
        ({"params": 2.5}, "argument `params`|a budget"),
        ({"ratio": 0.5, "targets": "out"}, "out/kernel: it leaves the model"),
        ({"ratio": 0.5, "targets": "nothing"}, "matches nothing"),
        ({"ratio": 0.5, "targets": {"first": {"sparsity": 1}}}, "'ratio' alone"),
        ({"ratio": {"first": 0.5}, "targets": "first"}, "argument `ratio`"),
        ({"ratio": 0.5, "score": "size"}, "argument `score`"),
        ({"ratio": 0.5, "score": "lasso"}, "argument `data`"),
        ({"ratio": 0.5, "reconstruct": True}, "argument `data`"),
        ({"ratio": 0.5, "score": lambda group: [1.0]}, "argument `score`"),
        ({"ratio": 0.5, "round_to": 0}, "argument `round_to`"),
        ({"ratio": 0.5, "unknown": "drop"}, "argument `unknown`"),
        ({"score": "magnitude"}, "argument `ratio`"),
        ({"ratio": 0.5, "damping": -1}, "argument `damping`"),
        ({"ratio": 0.5, "positions": 0}, "argument `positions`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        prune(make(), **arguments)


def residual():
    x = inputs = keras.Input((6,))
    x = layers.Dense(8, name="a")(x)
    x = layers.Add()([x, layers.Dense(8, name="b")(x)])
    return keras.Model(inputs, layers.Dense(2, name="out")(x))


def test_what_is_tied_goes_together():
    model = residual()
    assert sizes(prune(model, 0.5, targets="a")) == {"a": 4}
    done = prune(model, 0.5, targets={"b": None})
    assert not done.rows and dict(done.left_out)["a/kernel"].startswith("it is tied to 'b'")
    with pytest.raises(ValueError, match="one ratio for the layers of a/kernel"):
        prune(model, 0.5, targets={"a": {"ratio": 0.25}, "b": {"ratio": 0.5}})
    with pytest.raises(ValueError, match="tied to 'b'"):
        prune(model, 0.5, targets={"a": {"ratio": 0.25}, "b": None})


# ---- which


def test_magnitude_keeps_the_largest():
    model = make()
    kernel = numpy(model.get_layer("first").kernel)
    kernel[..., [1, 4, 6, 7]] *= 10
    model.get_layer("first").kernel.assign(kernel)
    small = prune(model, {"first": 0.5}).model
    assert np.array_equal(numpy(small.get_layer("first").kernel), kernel[..., [1, 4, 6, 7]])
    second = numpy(model.get_layer("second").kernel)[:, :, [1, 4, 6, 7]]
    assert np.array_equal(numpy(small.get_layer("second").kernel), second)


def test_scales_of_norms():
    model = make()
    model.get_layer("norm").gamma.assign([1, -9, 1, 1, 8, 1, -7, 6])
    done = prune(model, 0.5, score="bn_scale")
    assert numpy(done.model.get_layer("norm").gamma).tolist() == [-9, 8, -7, 6]
    assert sizes(done) == {"first": 4}
    assert dict(done.left_out)["second/kernel"] == "no norm with a scale follows it"


def test_a_score_of_ones_own():
    seen = []

    def last(group):
        seen.append((group.path, group.channels))
        return np.arange(group.channels)

    model = make()
    small = prune(model, 0.5, score=last).model
    assert seen == [("first/kernel", 8), ("second/kernel", 12)]
    assert np.array_equal(
        numpy(small.get_layer("first").kernel), numpy(model.get_layer("first").kernel)[..., 4:]
    )


def test_taylor_by_hand():
    """y = x w v, loss (y - t)^2: the derivative times the weight, summed over a channel."""
    from tfcomp.methods.channel_pruning.selection import taylor
    from tfcomp.model.data import Batches

    model = keras.Sequential(
        [
            keras.Input((1,)),
            layers.Dense(3, use_bias=False, name="w"),
            layers.Dropout(0.9),
            layers.Dense(1, use_bias=False, name="v"),
        ]
    )
    w, v = np.array([[1.0, 2.0, 3.0]]), np.array([[1.0], [-1.0], [0.5]])
    model.set_weights([w, v])
    model.compile("sgd", "mse")
    found = tfcomp.channels(model)
    group = found["w/kernel"]
    x, t = np.array([[2.0], [1.0]], "float32"), np.array([[0.0], [1.0]], "float32")
    # Batches of one: y = x (1 - 2 + 1.5) = x / 2; 2 (y - t) x w v is 2 1 2 (1, -2, 1.5) first.
    total = taylor(model, found.dyes, [group], Batches(model, (x, t), 1))["w/kernel"]
    first, second = 4 * np.array([1, -2, 1.5]), -1 * np.array([1, -2, 1.5])
    np.testing.assert_allclose(total, first**2 + second**2, rtol=1e-5)
    assert np.array_equal(numpy(model.layers[0].kernel), w)


@pytest.mark.parametrize("score", ["least_squares", "lasso"])
def test_copies_of_channels_cost_nothing(score, data):
    """Half of the channels are the other half in another order: the others can take over."""
    model = make()
    first, norm = model.get_layer("first"), model.get_layer("norm")
    kernel = numpy(first.kernel)
    kernel[..., 4:] = kernel[..., [2, 0, 3, 1]]
    first.kernel.assign(kernel)
    before = [numpy(v) for v in model.variables]
    done = prune(model, {"first": 0.5}, data, score=score, positions=36, damping=1e-8)
    x = data[0]
    if score == "least_squares":
        assert done[0].error < 1e-6
        np.testing.assert_allclose(
            numpy(done.model(x)), numpy(model(x)), atol=1e-3 * np.abs(numpy(model(x))).max()
        )
    assert all(np.array_equal(a, numpy(v)) for a, v in zip(before, model.variables))
    assert norm.gamma.shape == (8,)


def test_data_make_the_difference(data):
    model = make()
    model.fit(*data, epochs=3, verbose=0)

    def error(score, reconstruct=True):
        done = prune(model, 0.5, data, score=score, reconstruct=reconstruct)
        return np.mean([row.error for row in done])

    assert error("least_squares") < error("magnitude")
    for score in ("least_squares", "lasso"):
        assert error(score) < 0.7 * error(score, False)


def test_the_error_is_that_of_the_small_model(data):
    """What the reader computes in both models, position by position."""
    model = make()
    done = prune(model, {"first": 0.5}, data, positions=36)
    inside = [keras.Model(m.inputs, m.get_layer("second").output) for m in (model, done.model)]
    for m in (model, done.model):
        m.get_layer("second").activation = keras.activations.linear
    large, small = (
        numpy(i(data[0])) - numpy(m.get_layer("second").bias)
        for i, m in zip(inside, (model, done.model))
    )
    error = np.sum((large - small) ** 2) / np.sum(large**2)
    # Up to the damping.
    assert done[0].error == pytest.approx(error, rel=0.05)


# ---- what follows the cut


def test_zero_channels_are_taken_out_and_outputs_stay(data):
    model = make()
    second = model.get_layer("second")
    kernel = numpy(second.kernel)
    kernel[:, :, [0, 3, 5]] = 0
    second.kernel.assign(kernel)
    done = prune(model)
    assert sizes(done) == {"first": 5}
    assert dict(done.left_out)["second/kernel"] == "none is zero"
    np.testing.assert_allclose(numpy(done.model(data[0])), numpy(model(data[0])), atol=1e-5)


def test_it_is_compiled_alike(data):
    small = prune(make(), 0.5).model
    assert isinstance(small.optimizer, keras.optimizers.Adam)
    assert float(numpy(small.optimizer.learning_rate)) == pytest.approx(0.01)
    assert "mae" in small.fit(*data, verbose=0).history
    assert not prune(make(compiled=False), 0.5).model.compiled


def test_frozen_layers_stay_frozen():
    model = make()
    model.get_layer("norm").trainable = False
    small = prune(model, 0.5).model
    assert not small.get_layer("norm").trainable and small.get_layer("first").trainable
    assert len(small.trainable_variables) == len(model.trainable_variables)


@pytest.mark.parametrize("name", ["Adam", "SGD", "RMSprop", "Lion", "Nadam"])
def test_the_optimizer_follows_the_cut(name, data):
    model = make()
    made = {"momentum": 0.9} if name == "SGD" else {}
    model.compile(getattr(keras.optimizers, name)(0.01, **made), "mse")
    model.fit(*data, epochs=2, verbose=0)
    small = prune(model, 0.5, keep_optimizer=True).model
    kernel, whole = (numpy(m.get_layer("first").kernel) for m in (small, model))
    pairs = list(zip(model.optimizer.variables, small.optimizer.variables, strict=True))
    slots = [(numpy(a), numpy(b)) for a, b in pairs if a.shape == whole.shape]
    assert slots and all(b.any() and b.shape == kernel.shape for _, b in slots)
    kept = [
        int(np.flatnonzero((whole == part[..., None]).all((0, 1, 2)))[0])
        for part in np.moveaxis(kernel, -1, 0)
    ]
    assert all(np.array_equal(a[..., kept], b) for a, b in slots)
    assert all(numpy(a) == numpy(b) for a, b in pairs if not a.shape)
    small.fit(*data, verbose=0)


def test_an_optimizer_that_keeps_something_else():
    model = make()
    model.compile(keras.optimizers.Adafactor(0.01), "mse")
    model.optimizer.build(model.trainable_variables)
    with pytest.raises(ValueError, match="cannot follow the cut"):
        prune(model, 0.5, keep_optimizer=True)
    with pytest.raises(ValueError, match="argument `keep_optimizer`"):
        prune(make(compiled=False), 0.5, keep_optimizer=True)


def test_masks_follow_the_cut(data):
    model = make()
    schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    model.fit(*data, verbose=0, callbacks=[tfcomp.callbacks.GradualPruning(schedule)])
    small = prune(model, 0.5).model
    kernel = numpy(small.get_layer("first").kernel)
    zeros = kernel == 0
    assert 0 < zeros.sum() < kernel.size
    small.fit(*data, epochs=2, verbose=0)
    trained = numpy(small.get_layer("first").kernel)
    assert np.array_equal(trained == 0, zeros) and not np.array_equal(trained, kernel)


def test_latent_weights_follow_the_cut(data):
    model = make()
    quantized = tfcomp.callbacks.QuantizedTraining(tfcomp.quantizers.Binary(), targets="first")
    model.fit(*data, verbose=0, callbacks=[quantized])
    small = prune(model, 0.5).model
    small.fit(*data, epochs=3, verbose=0)
    values = np.unique(np.abs(numpy(small.get_layer("first").kernel)))
    assert len(values) <= 4


def test_weights_that_a_callback_holds_are_not_refitted(data):
    model = make()
    schedule = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    callback = tfcomp.callbacks.GradualPruning(schedule, targets="second")
    model.fit(*data, verbose=0, callbacks=[callback])
    done = prune(model, {"first": 0.5}, data)
    assert ("second/kernel", "not refitted: a callback keeps it compressed") in done.left_out
    assert done[0].score == "magnitude" and done[0].error is None


def test_quantized_layers_become_smaller(data):
    model = tfcomp.swap_layers(make(), {layers.Conv2D: tfcomp.layers.BinaryConv2D})
    done = prune(model, 0.5)
    assert sizes(done) == {"first": 4, "second": 6}
    assert type(done.model.get_layer("first")) is tfcomp.layers.BinaryConv2D
    done.model.fit(*data, verbose=0)


def test_half_precision(data):
    keras.config.set_dtype_policy("mixed_float16")
    model = make()
    done = prune(model, 0.5, data)
    assert done.model.get_layer("first").dtype_policy.name == "mixed_float16"
    assert numpy(done.model(data[0])).dtype == numpy(model(data[0])).dtype


@pytest.mark.parametrize("name", ["BertBackbone", "GPT2Backbone"])
def test_networks_of_keras_hub(name):
    models = pytest.importorskip("keras_hub").models
    made = getattr(models, name)(
        vocabulary_size=50,
        num_layers=2,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=16,
    )
    if name == "GPT2Backbone":
        # Its decoders cannot be run on symbolic tensors, nor say heads and their size apart.
        with pytest.warns(UserWarning, match="'transformer_layer_0' cannot be made smaller"):
            done = prune(made, 0.5)
    else:
        done = prune(made, 0.5)
    assert done.model.count_params() < 0.85 * made.count_params()
    inside = [row for row in done if row.before == 64]
    assert len(inside) == 2 and all(row.after == 32 for row in inside)


def test_a_network_of_keras_hub_that_no_file_brings_back(tmp_path):
    """The class of its first layer does not take the configuration that it gives."""
    models = pytest.importorskip("keras_hub").models
    made = models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=4, hidden_dim=16, mlp_dim=32
    )
    with pytest.warns(UserWarning, match="cannot be loaded, because of layer 'vit_patching"):
        done = prune(made, 0.5)
    assert [row.after / row.before for row in done] == [0.5] * 4
    with pytest.raises(TypeError, match="ViTPatchingAndEmbedding"):
        done.model.save(tmp_path / "small.keras")
        keras.models.load_model(tmp_path / "small.keras")


class Rejects(layers.Layer):
    """Gives a configuration that it does not take, or takes for another one."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.w = self.add_weight((shape[-1], self.units), name="w")

    def call(self, x):
        return keras.ops.matmul(x, self.w)

    def get_config(self):
        return {**super().get_config(), "units": self.units, "width": 3}


class Forgets(Rejects):
    def __init__(self, units, **kwargs):
        kwargs.pop("width", None)
        super().__init__(units, **kwargs)

    def get_config(self):
        return {**layers.Layer.get_config(self), "units": 5}


def with_layer(own):
    inputs = keras.Input((4,))
    x = layers.Dense(8, name="a")(own(inputs))
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(2)])
    return keras.Model(inputs, inner(x))


def test_layers_that_no_file_brings_back_are_named():
    with pytest.warns(UserWarning, match="because of layer 'own': .*'width'"):
        done = prune(with_layer(Rejects(6, name="own")), {"a": 0.5})
    assert sizes(done) == {"a": 4}
    with pytest.raises(ValueError, match=r"'own' .*its configuration cannot say w \(4, 6\)"):
        prune(with_layer(Forgets(6, name="own")), {"a": 0.5})


def test_a_block_that_trains_by_other_code_stays():
    class Odd(layers.Layer):
        def __init__(self, units, twice):
            super().__init__(name="odd")
            self.inner = layers.Dense(units)

        def build(self, shape):
            self.inner.build(shape)

        def call(self, x, training=None):
            return self.inner(x) * (2 if training else 1)

        def get_config(self):
            return {"something": 1}

    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(Odd(8, 1)(layers.Dense(6)(inputs))))
    with pytest.warns(UserWarning, match="'odd' cannot be made smaller"):
        small = prune(model, 0.5).model
    assert small.get_layer("odd").inner.units == 8 and small.layers[1].units == 6
    with pytest.raises(ValueError, match="'odd' cannot be made smaller"):
        prune(model, 0.5, unknown="error")
