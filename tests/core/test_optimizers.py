"""What optimizers see of compressed weights, whichever optimizer it is and however it is driven."""

import copy
import warnings

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import (
    GradualPruning,
    IncrementalQuantization,
    PreserveSparsity,
    QuantizedTraining,
    WeightSharing,
)
from tfcomp.schedules import ConstantSparsity, PolynomialDecay

X = np.random.default_rng(0).normal(size=(32, 20)).astype("float32") * 3
Y = np.random.default_rng(1).normal(size=(32, 10)).astype("float32") * 5

OPTIMIZERS = {
    "adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "adafactor": lambda: keras.optimizers.Adafactor(0.01),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adam": lambda: keras.optimizers.Adam(0.01),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, clipnorm=0.5),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=0.01),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01),
    "global_clipnorm": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.5),
    "lamb": lambda: keras.optimizers.Lamb(0.01),
    "lion": lambda: keras.optimizers.Lion(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
    "muon": lambda: keras.optimizers.Muon(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01),
}


def prune(sparsity=0.5, **arguments):
    return GradualPruning(ConstantSparsity(sparsity, begin_step=0), **arguments)


def dense(**arguments):
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(10, use_bias=False, name="a", **arguments)]
    )


def kernel(model, name="a"):
    return np.array(keras.ops.convert_to_numpy(model.get_layer(name).kernel))


@keras.saving.register_keras_serializable("tests")
class Masked(keras.layers.Dense):
    """Multiplies its kernel by a mask in the forward pass: what pruning is to be equal to."""

    mask = 1.0

    def call(self, inputs):
        return keras.ops.matmul(inputs, self._kernel * self.mask)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equal_to_a_mask_in_the_forward_pass(name):
    model = dense()
    begin = kernel(model)
    mask = np.abs(begin) > np.quantile(np.abs(begin), 0.6)
    model.get_layer("a").kernel.assign(begin * mask)
    model.compile(OPTIMIZERS[name](), "mse")
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[PreserveSparsity()])

    reference = keras.Sequential([keras.Input((20,)), Masked(10, use_bias=False, name="a")])
    reference.get_layer("a").mask = mask.astype("float32")
    reference.get_layer("a").kernel.assign(begin * mask)
    reference.compile(OPTIMIZERS[name](), "mse")
    reference.fit(X, Y, batch_size=8, shuffle=False, verbose=0)
    np.testing.assert_allclose(kernel(model), kernel(reference) * mask, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(kernel(model), begin * mask)


def test_frozen_weights_take_no_part_in_clipping():
    model = dense()
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=0.5), "mse")
    inq = IncrementalQuantization(bits=5, portions=[0.875], steps=[0])
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[inq])
    before = kernel(dense())
    frozen = np.abs(np.frexp(kernel(model))[0]) == 0.5
    assert 0.85 < frozen.mean() < 0.95
    start = np.where(frozen, kernel(model), before)
    gradient = 2 / Y.size * X.T @ (X @ start - Y) * ~frozen
    step = 0.1 * gradient * min(1, 0.5 / np.linalg.norm(gradient))
    np.testing.assert_allclose(kernel(model), start - step, rtol=1e-4, atol=1e-6)


def test_a_centroid_is_clipped_as_a_variable_of_its_own():
    model = dense()
    model.compile(keras.optimizers.SGD(0.1, global_clipnorm=0.5), "mse")
    model.fit(X[:8], Y[:8], batch_size=8, epochs=0, verbose=0)
    ends = [-0.5, 0.25]
    begin = np.where(kernel(model) > 0, *reversed(ends)).astype("float32")
    model.get_layer("a").kernel.assign(begin)
    model.fit(X, Y, batch_size=32, verbose=0, callbacks=[WeightSharing(clusters=2)])
    gradient = 2 / Y.size * X.T @ (X @ begin - Y)
    sums = np.array([gradient[begin == end].sum() for end in ends])
    expected = np.array(ends) - 0.1 * sums * min(1, 0.5 / np.linalg.norm(sums))
    np.testing.assert_allclose(np.unique(kernel(model)), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "callback",
    [lambda: QuantizedTraining("ternary"), lambda: WeightSharing(2), prune],
    ids=["quantized", "shared", "pruned"],
)
def test_an_optimizer_that_does_not_know_raises_or_is_told(callback):
    model = dense()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0, callbacks=[callback()])
    second = keras.Model(model.inputs, keras.layers.Dense(3)(model.outputs[0]))
    second.compile(keras.optimizers.Adam(0.01), "mse")
    weights = second.get_weights()
    with pytest.raises(RuntimeError, match="'a/kernel' is kept compressed"):
        second.fit(X, Y[:, :3], verbose=0)
    if keras.backend.backend() != "tensorflow":
        # On JAX Keras takes the weights out of a model while it trains, and loses them where that
        # fails; an eager step has changed them by then.
        second.set_weights(weights)
    second.compile(keras.optimizers.Adam(0.01), "mse")
    before, values = kernel(model), len(np.unique(kernel(model)))
    second.fit(X, Y[:, :3], epochs=20, verbose=0, callbacks=[callback()])
    assert np.any(kernel(model) != before)
    assert len(np.unique(kernel(model))) == values
    # And back.
    before = kernel(model)
    model.fit(X, Y, epochs=20, verbose=0, callbacks=[callback()])
    assert np.any(kernel(model) != before)
    tfcomp.release(second)
    second.fit(X, Y[:, :3], verbose=0)
    assert len(np.unique(kernel(model))) > values


@pytest.mark.tensorflow
class TestSeveralOptimizers:
    def model(self):
        import tensorflow as tf

        class Pair(keras.Model):
            def __init__(self):
                super().__init__()
                self.generator = keras.Sequential([keras.Input((20,)), keras.layers.Dense(10)])
                self.critic = keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)])

            def compile(self, generator_optimizer, critic_optimizer):
                super().compile()
                self.generator_optimizer = generator_optimizer
                self.critic_optimizer = critic_optimizer

            def call(self, inputs):
                return self.critic(self.generator(inputs))

            def train_step(self, data):
                x, y = data
                for part, optimizer, sign in (
                    (self.critic, self.critic_optimizer, 1),
                    (self.generator, self.generator_optimizer, -1),
                ):
                    with tf.GradientTape() as tape:
                        real, made = self.critic(y), self.critic(self.generator(x))
                        loss = sign * tf.reduce_mean(tf.nn.softplus(made) + tf.nn.softplus(-real))
                    variables = part.trainable_variables
                    optimizer.apply(tape.gradient(loss, variables), variables)
                return {"loss": loss}

        keras.utils.set_random_seed(1)
        model = Pair()
        model.compile(keras.optimizers.Adam(0.01), keras.optimizers.Adam(0.01))
        return model

    def test_the_default_optimizer_never_steps(self):
        model = self.model()
        with pytest.raises(RuntimeError, match="optimizer="):
            model.fit(X, Y, verbose=0, callbacks=[prune()])

    def test_each_part_by_its_own(self):
        model = self.model()
        generator = model.generator.layers[0]
        schedule = PolynomialDecay(0, 0.5, begin_step=0, end_step=10, frequency=2)
        history = model.fit(
            X,
            Y,
            batch_size=8,
            epochs=4,
            verbose=0,
            callbacks=[
                GradualPruning(schedule, targets=generator, optimizer="generator_optimizer"),
                QuantizedTraining(
                    "binary", targets=model.critic.layers[0], optimizer=model.critic_optimizer
                ),
            ],
        )
        assert np.mean(generator.kernel.numpy() == 0) == 0.5
        assert set(np.unique(model.critic.layers[0].kernel.numpy())) == {-1, 1}
        assert history.history["sparsity"][-1] == 0.5
        tfcomp.release(model)
        assert not {"apply", "tfcomp_state"} & set(vars(model.generator_optimizer))

    def test_no_optimizer_of_that_name(self):
        with pytest.raises(ValueError, match="the name of an optimizer of model"):
            self.model().fit(X, Y, verbose=0, callbacks=[prune(optimizer="g")])


def test_several_optimizers_behind_one(monkeypatch):
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((20,)), keras.layers.Dense(10, name="a"), keras.layers.Dense(10, name="b")]
    )
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.01))
    optimizers["a/.*"] = keras.optimizers.Adam(0.01)
    model.compile(keras.optimizers.MultiOptimizer(optimizers), "mse")
    before = kernel(model, "b")
    model.fit(X, Y, epochs=2, verbose=0, callbacks=[QuantizedTraining("binary"), prune()])
    for name in "ab":
        assert set(np.unique(kernel(model, name))) == {-1, 0, 1}
        assert np.mean(kernel(model, name) == 0) == 0.5
    assert np.any(np.sign(before) != np.sign(kernel(model, "b")))
    tfcomp.release(model)
    for optimizer in (model.optimizer, *model.optimizer.optimizers):
        assert not {"apply", "save_own_variables", "tfcomp_state"} & set(vars(optimizer))


def test_an_optimizer_that_does_nothing_is_named():
    class Idle(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = keras.layers.Dense(10)

        def call(self, x):
            return self.a(x)

        def train_step(self, *arguments):
            if keras.backend.backend() == "jax":
                state, (x, _) = arguments
                return {"loss": keras.ops.mean(x)}, state
            return {"loss": keras.ops.mean(arguments[0][0])}

    model = Idle()
    model.compile("adam", "mse")
    model(X)
    with pytest.warns(UserWarning, match="'adam.*' did no step in this epoch"):
        model.fit(X, Y, verbose=0, callbacks=[prune()])


def rows(model, epochs=3):
    """A training loop of one's own."""
    for epoch in range(epochs):
        for begin in range(0, len(X), 8):
            yield epoch, model.train_on_batch(X[begin : begin + 8], Y[begin : begin + 8])


class TestOwnLoops:
    def callback(self):
        return GradualPruning(PolynomialDecay(0, 0.75, begin_step=0, end_step=8, frequency=2))

    def model(self):
        model = dense()
        model.compile("adam", "mse")
        return model

    def check(self, model):
        assert np.mean(kernel(model) == 0) == 0.75
        before = kernel(model)
        model.train_on_batch(X, Y)
        assert np.mean(kernel(model) == 0) == 0.75
        assert np.any(kernel(model) != before)

    def test_callback_list(self):
        model = self.model()
        callbacks = keras.callbacks.CallbackList([self.callback()], model=model)
        callbacks.on_train_begin()
        for epoch in range(3):
            callbacks.on_epoch_begin(epoch)
            for step, begin in enumerate(range(0, len(X), 8)):
                callbacks.on_train_batch_begin(step)
                model.train_on_batch(X[begin : begin + 8], Y[begin : begin + 8])
                callbacks.on_train_batch_end(step)
            callbacks.on_epoch_end(epoch)
        callbacks.on_train_end()
        self.check(model)

    def test_as_tfmot_has_it(self):
        """Its loops call `on_train_begin`, `on_train_batch_begin` and `on_epoch_end` alone."""
        model, callback = self.model(), self.callback()
        callback.set_model(model)
        callback.on_train_begin()
        for epoch in range(3):
            for begin in range(0, len(X), 8):
                callback.on_train_batch_begin(batch=-1)
                model.train_on_batch(X[begin : begin + 8], Y[begin : begin + 8])
            callback.on_epoch_end(epoch)
        callback.on_train_end()
        self.check(model)

    def test_by_hand(self):
        model, callback = self.model(), self.callback()
        callback.set_model(model)
        for step in range(12):
            model.train_on_batch(X[:8], Y[:8])
            callback.on_train_batch_end(step)
        self.check(model)


def test_a_model_that_its_first_step_builds():
    class Unbuilt(keras.Model):
        def __init__(self):
            super().__init__()
            self.a = keras.layers.Dense(10)

        def call(self, x):
            return self.a(x)

    model = Unbuilt()
    model.compile("adam", "mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.build((None, 20))
    model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=[prune()])
    assert np.mean(keras.ops.convert_to_numpy(model.a.kernel) == 0) == 0.5


@pytest.mark.parametrize("callback", [prune, lambda: QuantizedTraining("binary")])
def test_averages_are_compressed_whenever_they_are_looked_at(callback):
    model = dense()
    model.compile(keras.optimizers.Adam(0.05, use_ema=True, ema_momentum=0.8), "mse")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            seen.append(kernel(self.model))

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(None)

    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    model.fit(
        X,
        Y,
        batch_size=8,
        epochs=3,
        shuffle=False,
        verbose=0,
        validation_data=(X, Y),
        callbacks=[callback(), swap, Look()],
    )
    averages = [value for value in seen if value is not None]
    assert len(averages) == 3
    for value in (*averages, kernel(model)):
        if callback is prune:
            assert np.mean(value == 0) == 0.5
        else:
            assert set(np.unique(value)) == {-1, 1}


def test_the_average_of_latent_weights_is_that_of_the_latent_ones():
    """Straight through, with SGD: latent weights and their average worked out by hand."""
    model = dense()
    model.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.8), "mse")
    latent = kernel(model)
    average = np.zeros_like(latent)
    for step in range(4):
        batch = slice(8 * step, 8 * step + 8)
        shown = np.where(latent >= 0, 1, -1)
        x, y = X[batch], Y[batch]
        gradient = 2 / y.size * x.T @ (x @ shown - y)
        latent = latent - np.float32(0.05) * gradient
        average = latent if not step else 0.8 * average + 0.2 * latent
        latent = np.clip(latent, -1, 1)
    model.fit(X, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[QuantizedTraining("binary")])
    clear = np.abs(average) > 1e-4
    assert clear.mean() > 0.95
    np.testing.assert_array_equal(kernel(model)[clear], np.sign(average)[clear])


def test_callbacks_can_be_copied_after_use():
    callback = prune()
    model = dense()
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0, callbacks=[callback])
    again = copy.deepcopy(callback)
    other = dense()
    other.compile("adam", "mse")
    other.fit(X, Y, verbose=0, callbacks=[again])
    assert np.mean(kernel(other) == 0) == 0.5


def test_frozen_targets_are_named():
    model = dense()
    model.get_layer("a").trainable = False
    model.compile("adam", "mse")
    with pytest.warns(UserWarning, match="a/kernel do not train"):
        prune(targets="a").set_model(model)


@pytest.mark.parametrize("scale", [False, True])
def test_weights_that_their_layer_makes_signs_of_are_not_pruned(scale):
    layer = tfcomp.layers.BinaryDense(10, input_quantizer=None, scale=scale, name="a")
    model = keras.Sequential([keras.Input((20,)), layer])
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="makes another value of zero"):
        model.fit(X, Y, verbose=0, callbacks=[prune(targets="a")])


def test_weights_that_their_layer_makes_ternary_are_pruned():
    model = keras.Sequential([keras.Input((20,)), tfcomp.layers.TernaryDense(10, name="a")])
    model.compile("adam", "mse")
    model.fit(X, Y, verbose=0, callbacks=[prune(0.9, targets="a")])
    used = keras.ops.convert_to_numpy(model.layers[0](np.eye(20, dtype="float32")))
    assert np.mean(used - keras.ops.convert_to_numpy(model.layers[0].bias) == 0) >= 0.9


def stacked():
    """Two models of the same layers, each compiled."""
    first = dense()
    first.compile("adam", "mse")
    second = keras.Model(first.inputs, keras.layers.Dense(3, name="b")(first.outputs[0]))
    second.compile("adam", "mse")
    return first, second


def test_two_models_of_the_same_layers_take_turns():
    first, second = stacked()
    first.fit(X, Y, verbose=0, callbacks=[prune(0.5)])
    second.fit(X, Y[:, :3], verbose=0, callbacks=[prune(0.75, targets="a")])
    assert np.mean(kernel(first) == 0) == 0.75
    zeros = kernel(first) == 0
    before = kernel(first)
    first.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(kernel(first) == 0, zeros)
    assert np.any(kernel(first) != before)


def test_state_in_a_file_belongs_to_its_variable(tmp_path):
    def make():
        keras.utils.set_random_seed(1)
        layers = [keras.layers.Dense(20, name=name) for name in "ab"]
        model = keras.Sequential([keras.Input((20,)), *layers])
        model.compile("adam", "mse")
        return model

    def callbacks(names):
        return [prune({"a": 0.5, "b": 0.75}[name], targets=name) for name in names]

    model = make()
    model.fit(X, X, verbose=0, callbacks=callbacks("ab"))
    model.save_weights(tmp_path / "m.weights.h5")
    again = make()
    for callback in callbacks("ba"):
        callback.set_model(again)
    again.load_weights(tmp_path / "m.weights.h5")
    again.fit(X, X, verbose=0)
    for name in "ab":
        np.testing.assert_array_equal(kernel(again, name) == 0, kernel(model, name) == 0)


def test_a_projection_that_fails_leaves_nothing():
    class Failing(tfcomp.projections.Mask):
        def init(self, value):
            if value.shape == (10, 3):
                raise ZeroDivisionError
            return super().init(value)

    class Callback(tfcomp.callbacks.ProjectionCallback):
        def make_projection(self, target):
            return Failing()

    _, model = stacked()
    with pytest.raises(ZeroDivisionError):
        model.fit(X, Y[:, :3], verbose=0, callbacks=[Callback()])
    assert all(variable.constraint is None for variable in model.variables)
    assert not {"apply", "tfcomp_state"} & set(vars(model.optimizer))
    model.fit(X, Y[:, :3], verbose=0)


def test_released_within_a_run():
    class Release(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                tfcomp.release(self.model)

    model = dense()
    model.compile("adam", "mse")
    schedule = PolynomialDecay(0, 0.75, begin_step=0, end_step=8, frequency=2)
    model.fit(
        X, Y, batch_size=8, epochs=3, verbose=0, callbacks=[GradualPruning(schedule), Release()]
    )
    assert np.mean(kernel(model) == 0) < 0.1
    assert not {"apply", "tfcomp_state"} & set(vars(model.optimizer))


def test_variables_from_a_generator():
    model = dense()
    model.compile("sgd", "mse")
    prune().set_model(model)
    before = kernel(model)
    gradients = [keras.ops.ones((20, 10))]
    model.optimizer.apply(gradients, (v for v in model.trainable_variables))
    np.testing.assert_allclose(kernel(model), before - 0.01, rtol=1e-5)


def test_a_part_of_several_optimizers_is_released():
    if not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("this Keras has no MultiOptimizer")
    _, model = stacked()
    optimizers = keras.optimizers.OptimizerMap(keras.optimizers.SGD(0.01))
    optimizers["a/.*"] = keras.optimizers.Adam(0.01)
    model.compile(keras.optimizers.MultiOptimizer(optimizers), "mse")
    model.fit(X, Y[:, :3], verbose=0, callbacks=[prune()])
    tfcomp.release(model, "a")
    assert "save_own_variables" in vars(model.optimizer)
    tfcomp.release(model)
    assert "save_own_variables" not in vars(model.optimizer)
