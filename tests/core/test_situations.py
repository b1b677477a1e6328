"""What users do with callbacks, each to the end: exactly compressed."""

import copy
import warnings

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import (
    GradualPruning,
    IncrementalQuantization,
    OnceCompressed,
    QuantizedTraining,
    WeightSharing,
)
from tfcomp.schedules import ConstantSparsity, PolynomialDecay

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 12)).astype("float32")
Y = RNG.normal(size=(48, 4)).astype("float32")


def numpy(variable):
    return np.array(keras.ops.convert_to_numpy(variable))


def rising(end, sparsity=0.75):
    return PolynomialDecay(0, sparsity, begin_step=0, end_step=end, frequency=3)


def kernels(model):
    return [numpy(target.variable) for target in tfcomp.targets.find(model, [lambda *_: True])]


def sparsities(model):
    return {float(np.mean(kernel == 0)) for kernel in kernels(model)}


def perceptron(outputs=4, **arguments):
    return keras.Sequential(
        [
            keras.Input((12,)),
            keras.layers.Dense(16, "relu", name="hidden"),
            keras.layers.Dense(outputs, name="out", **arguments),
        ]
    )


@pytest.mark.tensorflow
def test_dcgan():
    """As on keras.io: two optimizers, a `compile` of its own, no `call`."""
    import tensorflow as tf

    layers = keras.layers
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(1, activation="sigmoid"),
        ],
        name="discriminator",
    )
    generator = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(64),
            layers.Reshape((4, 4, 4)),
            layers.Conv2DTranspose(4, 4, strides=2, padding="same"),
            layers.LeakyReLU(negative_slope=0.2),
            layers.Conv2D(1, 5, padding="same", activation="sigmoid"),
        ],
        name="generator",
    )

    class GAN(keras.Model):
        def __init__(self):
            super().__init__()
            self.discriminator, self.generator = discriminator, generator
            self.seed_generator = keras.random.SeedGenerator(1337)

        def compile(self, d_optimizer, g_optimizer, loss_fn):
            super().compile()
            self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
            self.loss_fn = loss_fn

        def train_step(self, real):
            size = tf.shape(real)[0]
            noise = keras.random.normal((size, 6), seed=self.seed_generator)
            images = tf.concat([self.generator(noise), real], axis=0)
            labels = tf.concat([tf.ones((size, 1)), tf.zeros((size, 1))], axis=0)
            with tf.GradientTape() as tape:
                d_loss = self.loss_fn(labels, self.discriminator(images))
            gradients = tape.gradient(d_loss, self.discriminator.trainable_weights)
            self.d_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_weights))
            with tf.GradientTape() as tape:
                fooled = self.discriminator(self.generator(noise))
                g_loss = self.loss_fn(tf.zeros((size, 1)), fooled)
            gradients = tape.gradient(g_loss, self.generator.trainable_weights)
            self.g_optimizer.apply_gradients(zip(gradients, self.generator.trainable_weights))
            return {"d_loss": d_loss, "g_loss": g_loss}

    gan = GAN()
    gan.compile(
        keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3), keras.losses.BinaryCrossentropy()
    )
    before = [numpy(weight) for weight in gan.weights]
    history = gan.fit(
        RNG.uniform(size=(32, 8, 8, 1)).astype("float32"),
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[
            GradualPruning(rising(9), targets="generator", optimizer="g_optimizer"),
            QuantizedTraining("binary", targets="discriminator", optimizer="d_optimizer"),
        ],
    )
    assert sparsities(generator) == {0.75}
    assert history.history["sparsity"][-1] == 0.75
    for kernel in kernels(discriminator):
        assert set(np.unique(kernel)) == {-1, 1}
    trained = [np.any(numpy(w) != b) for w, b in zip(gan.weights, before) if w.trainable]
    assert all(trained)


@pytest.mark.tensorflow
def test_vae():
    """A `train_step` and no `call`."""
    import tensorflow as tf

    class Sampling(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.seed_generator = keras.random.SeedGenerator(1337)

        def call(self, inputs):
            mean, log_var = inputs
            noise = keras.random.normal(keras.ops.shape(mean), seed=self.seed_generator)
            return mean + keras.ops.exp(0.5 * log_var) * noise

    image = keras.Input((12,))
    hidden = keras.layers.Dense(16, "relu")(image)
    mean, log_var = keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)
    encoder = keras.Model(image, [mean, log_var, Sampling()([mean, log_var])])
    decoder = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(16, "relu"), keras.layers.Dense(12)]
    )

    class VAE(keras.Model):
        def __init__(self):
            super().__init__()
            self.encoder, self.decoder = encoder, decoder

        def train_step(self, data):
            with tf.GradientTape() as tape:
                mean, log_var, z = self.encoder(data)
                loss = tf.reduce_mean((data - self.decoder(z)) ** 2)
                loss -= 0.5 * tf.reduce_mean(1 + log_var - mean**2 - tf.exp(log_var))
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
            return {"loss": loss}

    vae = VAE()
    vae.compile(keras.optimizers.Adam())
    vae.fit(
        X,
        batch_size=8,
        epochs=4,
        verbose=0,
        callbacks=[GradualPruning(rising(12)), IncrementalQuantization()],
    )
    for kernel in kernels(vae):
        assert np.mean(kernel == 0) >= 0.75
        assert np.all(np.isin(np.frexp(kernel)[0], [-0.5, 0, 0.5]))


def test_dqn():
    """`train_on_batch`, and a target network that gets the weights now and then."""
    keras.utils.set_random_seed(1)
    model, target = perceptron(), perceptron()
    model.compile("adam", "mse")
    target.set_weights(model.get_weights())
    before = kernels(model)
    pruning = GradualPruning(rising(12))
    pruning.set_model(model)
    pruning.on_train_begin()
    for step in range(16):
        states, others = X[RNG.integers(0, 48, size=(2, 8))]
        wanted = Y[:8] + 0.9 * np.max(target.predict_on_batch(others), axis=1, keepdims=True)
        model.train_on_batch(states, wanted)
        pruning.on_train_batch_end(step)
        if step % 5 == 0:
            target.set_weights(model.get_weights())
    pruning.on_train_end()
    assert pruning.is_complete
    assert sparsities(model) == {0.75}
    assert all(np.any(a[a != 0] != b[a != 0]) for a, b in zip(kernels(model), before))
    assert all(variable.constraint is None for variable in target.variables)
    target.set_weights(model.get_weights())
    assert sparsities(target) == {0.75}


@pytest.mark.parametrize(
    "make",
    [
        lambda: GradualPruning(rising(12)),
        lambda: IncrementalQuantization(),
        lambda: WeightSharing(2, begin_step=8),
    ],
    ids=["pruned", "powers of two", "shared"],
)
def test_tuner_search(make, tmp_path):
    """As KerasTuner has it: copies of callbacks, the best epoch kept, the best model rebuilt."""

    class SaveBestEpoch(keras.callbacks.Callback):
        def __init__(self, path):
            super().__init__()
            self.path, self.best = path, np.inf

        def on_epoch_end(self, epoch, logs=None):
            # The first epochs are best, before anything is compressed.
            if epoch < self.best:
                self.best = epoch
                self.model.save_weights(self.path)

    def build(rate):
        model = perceptron()
        model.compile(keras.optimizers.Adam(rate), "mse")
        return model

    compression = make()
    paths = []
    for trial, rate in enumerate((1e-2, 1e-3)):
        paths.append(tmp_path / f"{trial}.weights.h5")
        model, copied = build(rate), copy.deepcopy(compression)
        kept = copy.deepcopy(OnceCompressed(SaveBestEpoch(paths[-1])))
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            model.fit(X, Y, batch_size=8, epochs=4, verbose=0, callbacks=[copied, kept])
        assert copied.is_complete and not compression.is_complete
    for path in paths:
        best = build(1e-3)
        best.load_weights(path)
        for kernel in kernels(best):
            if isinstance(compression, GradualPruning):
                assert np.mean(kernel == 0) == 0.75
            elif isinstance(compression, WeightSharing):
                assert len(np.unique(kernel)) <= 4
            else:
                assert np.all(np.isin(np.frexp(kernel)[0], [-0.5, 0, 0.5]))


@pytest.mark.parametrize(
    "make",
    [lambda: GradualPruning(ConstantSparsity(0.75, begin_step=0)), lambda: WeightSharing(2)],
    ids=["pruned", "shared"],
)
def test_transfer_in_two_stages(make):
    """A head on a frozen body; then all of it, compiled anew; and frozen once more."""
    keras.utils.set_random_seed(1)
    body, inputs = perceptron(8), keras.Input((12,))
    head = keras.layers.Dense(4, name="head")
    model = keras.Model(inputs, head(body(inputs, training=False)))
    callback = make()

    def stage(trainable, callbacks):
        body.trainable = trainable
        model.compile(keras.optimizers.Adam(1e-3), "mse")
        before = kernels(body), kernels(model)[-1]
        model.fit(X, Y, batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        moved = [np.any(a != b) for a, b in zip(kernels(body), before[0])]
        assert np.any(kernels(model)[-1] != before[1])
        return moved

    def check(some):
        for kernel in some:
            if isinstance(callback, WeightSharing):
                assert len(np.unique(kernel)) == 4
            else:
                assert np.mean(kernel == 0) == 0.75

    assert stage(False, [callback]) == [False, False]
    check([numpy(head.kernel)])
    assert 0 in sparsities(body)
    assert stage(True, [callback]) == [True, True]
    check(kernels(model))
    assert stage(False, []) == [False, False]
    assert stage(True, []) == [True, True]
    check(kernels(model))
