"""The GAN's losses by numpy, whose weights they reach, and what becomes of it in files."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.distillation import ConditionalGAN, SampleImages, compression_score, table_gan

layers = keras.layers


def data():
    rng = np.random.default_rng(0)
    return rng.normal([5, -3], [2, 1], (24, 2)).astype("float32"), np.arange(24) % 3


def small(**arguments):
    """Two models of one dense layer each, without random numbers but for the noise."""
    keras.utils.set_random_seed(2)
    generator = keras.Sequential([keras.Input((4 + 3,)), layers.Dense(2)])
    rows = keras.Input((2,))
    judge = keras.Model(rows, [layers.Dense(1)(rows), layers.Dense(3)(rows)])
    gan = ConditionalGAN(generator, judge, **arguments)
    gan.compile(keras.optimizers.SGD(0.1))
    return gan


def numpy(tensor):
    return np.array(keras.ops.convert_to_numpy(tensor), "float64")


def test_losses():
    x, y = data()
    gan = small(label_smoothing=0.1)
    weights = [numpy(v.value) for v in gan.generator.weights + gan.discriminator.weights]
    keras.utils.set_random_seed(9)
    gan.noise = keras.random.SeedGenerator(3)
    noise = numpy(keras.random.normal((24, 4), seed=keras.random.SeedGenerator(3)))
    logs = gan.train_on_batch(x, y, return_dict=True)
    fakes = np.concatenate([noise, np.eye(3)[y]], 1) @ weights[0] + weights[1]

    def judgement(rows, real):
        truth = (rows @ weights[2] + weights[3])[:, 0]
        kinds = rows @ weights[4] + weights[5]
        kinds = kinds - np.log(np.exp(kinds).sum(1, keepdims=True))
        sigmoid = 1 / (1 + np.exp(-truth))
        told = real * np.log(sigmoid) + (1 - real) * np.log(1 - sigmoid)
        return -told.mean() - kinds[np.arange(24), y].mean()

    critical, creative = judgement(x, 0.9) + judgement(fakes, 0), judgement(fakes, 1)
    assert logs["discriminator_loss"] == pytest.approx(critical, rel=1e-4)
    assert logs["generator_loss"] == pytest.approx(creative, rel=1e-4)
    # The discriminator's last bias moves by the gradient of its own loss alone.
    shown = [rows @ weights[4] + weights[5] for rows in (x, fakes)]
    shown = [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in shown]
    gradient = sum((p - np.eye(3)[y]).mean(0) for p in shown)
    moved = numpy(gan.discriminator.weights[3].value) - weights[5]
    np.testing.assert_allclose(moved, -0.1 * gradient, rtol=1e-3, atol=1e-6)
    # And the generator's by that of its own.
    truth = (fakes @ weights[2] + weights[3])[:, 0]
    through = -(1 / (1 + np.exp(truth)))[:, None] * weights[2].T
    through = through + (shown[1] - np.eye(3)[y]) @ weights[4].T
    moved = numpy(gan.generator.weights[1].value) - weights[1]
    np.testing.assert_allclose(moved, -0.1 * through.mean(0), rtol=1e-3, atol=1e-6)


def test_diversity():
    """`usual / apart`, added to the generator's loss alone."""
    x, y = data()
    plain, diverse = small(), small(diversity=0.5)
    for gan in (plain, diverse):
        gan.noise = keras.random.SeedGenerator(3)
    weights = [numpy(v.value) for v in diverse.generator.weights]
    noise = numpy(keras.random.normal((48, 4), seed=keras.random.SeedGenerator(3)))
    fakes = np.concatenate([noise, np.eye(3)[np.tile(y, 2)]], 1) @ weights[0] + weights[1]
    apart, usual = abs(fakes[:24] - fakes[24:]).mean(), abs(x - np.roll(x, 1, 0)).mean()
    judge = [numpy(v.value) for v in diverse.discriminator.weights]
    logs = diverse.train_on_batch(x, y, return_dict=True)
    truth = (fakes[:24] @ judge[0] + judge[1])[:, 0]
    kinds = fakes[:24] @ judge[2] + judge[3]
    kinds = kinds - np.log(np.exp(kinds).sum(1, keepdims=True))
    creative = np.log1p(np.exp(-truth)).mean() - kinds[np.arange(24), y].mean()
    expected = creative + 0.5 * usual / (apart + 1e-3 * usual)
    assert logs["generator_loss"] == pytest.approx(expected, rel=1e-4)


def test_it_learns_a_table_of_any_scale():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 256)
    x = (rng.normal(size=(256, 2)) * [10, 0.1] + np.stack([100 + 60 * y, -y], 1)).astype("float32")
    keras.utils.set_random_seed(0)
    gan = table_gan(x, 2, latent=4, width=32, rate=2e-3)
    gan.fit(x, y, epochs=40, batch_size=64, verbose=0)
    labels = np.repeat([0, 1], 200)
    made = gan.sample(400, 0, labels)
    means = [made[labels == c].mean(0) for c in (0, 1)]
    wanted = np.array([[100, 0], [160, -1]])
    np.testing.assert_allclose((np.array(means) - wanted) / [30, 0.5], 0, atol=0.6)


def test_classes_are_drawn_as_often_as_they_were_seen():
    gan = small()
    x, _ = data()
    gan.fit(x, np.array([0] * 18 + [2] * 6), epochs=2, batch_size=8, verbose=0)
    assert numpy(gan.seen.value).tolist() == [36, 0, 12]
    gan.evaluate(x, np.zeros(24, int), verbose=0)
    assert numpy(gan.seen.value).tolist() == [36, 0, 12]
    one_hot = small()
    one_hot.fit(x, np.eye(3, dtype="float32")[np.arange(24) % 3], verbose=0)
    assert numpy(one_hot.seen.value).tolist() == [8, 8, 8]


def test_files_and_seeds(tmp_path):
    x = np.random.default_rng(0).random((16, 8, 8, 1), "float32")
    gan = tfcomp.distillation.image_gan((8, 8, 1), 4, latent=4, width=4, value_range=(-1, 1))
    gan.fit(x, np.arange(16) % 4, verbose=0)
    first = gan.sample(6, 1)
    np.testing.assert_array_equal(gan.sample(6, 1), first)
    assert not np.array_equal(gan.sample(6, 2), first)
    assert first.min() >= -1 and first.max() <= 1 and first.min() < 0
    gan.save(tmp_path / "gan.keras")
    loaded = keras.models.load_model(tmp_path / "gan.keras")
    np.testing.assert_allclose(loaded.sample(6, 1), first, rtol=1e-5, atol=1e-6)


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    gan = tfcomp.distillation.image_gan((4, 4, 1), 2, latent=2, width=2)
    x = np.random.default_rng(0).random((16, 4, 4, 1), "float32")
    logs = gan.fit(x, np.arange(16) % 2, verbose=0).history
    assert np.isfinite(logs["loss"]).all() and gan.sample(2).dtype == "float32"


def test_pictures(tmp_path):
    gan = tfcomp.distillation.image_gan((4, 8, 3), 2, latent=2, width=2)
    x = np.random.default_rng(0).random((4, 4, 8, 3), "float32")
    pictures = SampleImages(tmp_path / "pictures", columns=3, frequency=2, scale=5)
    gan.fit(x, np.arange(4) % 2, epochs=5, callbacks=[pictures], verbose=0)
    names = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert names == ["epoch_0002.png", "epoch_0004.png"]
    grid = pictures.picture()
    assert grid.shape == (2 * 4 * 5, 3 * 8 * 5, 3)
    second = gan.sample(6, 0, np.repeat([0, 1], 3))[4]
    np.testing.assert_array_equal(grid[20:40:5, 40:80:5], second)
    table = small()
    with pytest.raises(ValueError, match="argument `model`"):
        table.fit(*data(), verbose=0, callbacks=[SampleImages(tmp_path)])


class Noise:
    """A source of what has nothing to do with the data."""

    def __init__(self, scale):
        self.scale = scale

    def sample(self, count, seed=0):
        return np.full((count, 2), self.scale, "float32")


class Same:
    """A source of inputs like the data's."""

    def sample(self, count, seed=0):
        return np.random.default_rng(seed).normal(size=(count, 2)).astype("float32")


class Halves:
    """A teacher that knows it all."""

    def predict_proba(self, x):
        return np.eye(2)[(x[:, 0] > 0).astype(int)]


def test_compression_score():
    x = np.random.default_rng(1).normal(size=(64, 2)).astype("float32")
    held_out = x[:32], (x[:32, 0] > 0).astype(int)

    def make():
        model = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.1), "mse")
        return model

    good, bad = (
        compression_score(source, Halves(), make, x, held_out, epochs=8)
        for source in (Same(), Noise(3))
    )
    for found in (good, bad):
        assert found.score == found.fresh / found.real and found.teacher == 1
    assert good.real == bad.real > 0.9
    assert bad.score < 0.9 < good.score


def test_wrong_arguments(tmp_path):
    x, _ = data()
    image = tfcomp.distillation.image_gan
    generator, judge = small().generator, small().discriminator
    three = keras.Sequential([keras.Input((7,)), layers.Dense(3)])
    for make in (
        lambda: ConditionalGAN(generator, generator),
        lambda: ConditionalGAN(three, judge),
        lambda: ConditionalGAN(generator, judge, label_smoothing=1.0),
        lambda: ConditionalGAN(generator, judge, diversity=-1),
        lambda: image((8, 8), 3),
        lambda: image((8, 6, 1), 3),
        lambda: image((8, 8, 1), 1),
        lambda: table_gan(np.ones(3), 2),
        lambda: table_gan(np.array([[np.nan]]), 2),
        lambda: small().sample(3, 0, [0, 1]),
        lambda: small().sample(3, 0, [0, 1, 3]),
        lambda: SampleImages(tmp_path, columns=0),
        lambda: compression_score(None, Halves(), small, data(), data()),
        lambda: compression_score(Same(), Halves(), small, data(), x),
    ):
        with pytest.raises(ValueError, match="argument `"):
            make()
    with pytest.raises(ValueError, match="labels"):
        small().fit(x, verbose=0)
    with pytest.raises(ValueError, match="never trained"):
        small().sample(3)


def test_a_generator_of_other_classes_is_refused():
    x, _ = data()
    gan = small()
    gan.fit(x, np.arange(24) % 3, verbose=0)
    student = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
    student.compile("adam", "mse")
    with pytest.raises(ValueError, match="argument `source`"):
        tfcomp.distill(Halves(), student, (x, np.zeros(24)), source=gan, verbose=0)


def test_without_data():
    gan = small()
    x, _ = data()
    gan.fit(x, (x[:, 0] > 5).astype(int), verbose=0)

    class Threes:
        def predict_proba(self, x):
            return np.eye(3)[(x[:, 0] > 5).astype(int)]

    student = keras.Sequential([keras.Input((2,)), layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    student.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    done = tfcomp.distill(Threes(), student, None, 3, source=gan, samples=40, verbose=0)
    assert len(done.history["accuracy"]) == 3
    with pytest.raises(ValueError, match="argument `samples`"):
        tfcomp.distill(Threes(), student, None, source=gan, verbose=0)
    with pytest.raises(ValueError, match="argument `data`"):
        tfcomp.distill(Threes(), student, None, verbose=0)
