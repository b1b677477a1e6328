"""Shared weights with trained centroids, against a training loop written in numpy."""

import re

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.callbacks import GradualPruning, WeightSharing
from tfcomp.methods.deep_compression.kmeans import kmeans
from tfcomp.schedules import ConstantSparsity, PolynomialDecay

STEPS = 10


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS, 12)).astype("float32")
    return x, rng.normal(size=(STEPS, 7)).astype("float32")


def linear(optimizer):
    keras.utils.set_random_seed(2)
    model = keras.Sequential([keras.Input((12,)), keras.layers.Dense(7, use_bias=False)])
    weight = kernel(model).copy()
    weight[::3] = 0
    model.layers[0].kernel.assign(weight)
    model.compile(optimizer, "mse")
    return model


def kernel(model):
    return keras.ops.convert_to_numpy(model.layers[0].kernel.value)


def fit(model, data, *callbacks, **arguments):
    arguments = {"batch_size": 1, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(*data, callbacks=list(callbacks), **arguments)


class Look(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(kernel(self.model).copy())


class SGD:
    def __init__(self, rate, momentum):
        self.rate, self.momentum, self.velocity = rate, momentum, 0

    def step(self, gradient):
        self.velocity = self.momentum * self.velocity - self.rate * gradient
        return self.velocity


class Adam:
    def __init__(self, rate):
        self.rate, self.first, self.second, self.count = rate, 0, 0, 0

    def step(self, gradient):
        self.count += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        corrected = np.sqrt(1 - 0.999**self.count) / (1 - 0.9**self.count)
        return -self.rate * corrected * self.first / (np.sqrt(self.second) + 1e-7)


OPTIMIZERS = {
    "sgd": (lambda: keras.optimizers.SGD(0.01), lambda: SGD(0.01, 0)),
    "momentum": (lambda: keras.optimizers.SGD(0.01, 0.9), lambda: SGD(0.01, 0.9)),
    "adam": (lambda: keras.optimizers.Adam(0.01), lambda: Adam(0.01)),
}


def clusters_of(weight):
    """Which cluster each weight is in; -1 where it is zero."""
    values = np.unique(weight[weight != 0])
    return np.where(weight == 0, -1, np.searchsorted(values, weight))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_centroid_trains_as_a_variable_of_its_own(name, data):
    """Loss of a linear model in a vector of centroids, its gradient a sum over each cluster."""
    make, reference = OPTIMIZERS[name]
    # Seen before the first step by a run of a learning rate of zero.
    still = linear(keras.optimizers.SGD(0.0))
    fit(still, data, WeightSharing(bits=2))
    index = clusters_of(kernel(still))
    alive = kernel(still) != 0
    np.testing.assert_array_equal(alive, np.arange(12)[:, None] % 3 * np.ones(7) > 0)
    centroids = np.array([kernel(still)[index == k][0] for k in range(4)], np.float64)

    optimizer = reference()
    for row, wanted in zip(*(part.astype(np.float64) for part in data)):
        error = row @ np.where(alive, centroids[index], 0) - wanted
        gradient = 2 / len(wanted) * np.outer(row, error)
        centroids = centroids + optimizer.step(
            np.array([gradient[index == k].sum() for k in range(4)])
        )

    model = linear(make())
    look = Look()
    fit(model, data, WeightSharing(bits=2), look)
    expected = np.where(alive, centroids[index], 0)
    np.testing.assert_allclose(kernel(model), expected, rtol=2e-5, atol=1e-6)
    for seen in look.seen:
        assert len(np.unique(seen[alive])) <= 4 and not np.any(seen[~alive])
        np.testing.assert_array_equal(clusters_of(seen) >= 0, alive)


def test_gradient_of_a_centroid_by_finite_differences(data):
    """A step of plain SGD goes against the slope of the loss along each centroid."""
    model = linear(keras.optimizers.SGD(0.0))
    fit(model, data, WeightSharing(clusters=3))
    before = kernel(model)

    def loss(weight):
        return np.mean((data[0].astype(np.float64) @ weight - data[1]) ** 2)

    rate, width = 1e-2, 1e-5
    model.optimizer.learning_rate = rate
    fit(model, data, batch_size=STEPS)
    change = (kernel(model) - before).astype(np.float64)
    for value in np.unique(before[before != 0]):
        ray = width * (before == value)
        slope = (loss(before + ray) - loss(before - ray)) / (2 * width)
        np.testing.assert_allclose(change[before == value], -rate * slope, rtol=1e-3)


def test_clusters_are_those_of_k_means():
    """Assignments and centroids, each layer by its own number and initialisation."""
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            keras.layers.Conv2D(5, 3, name="conv"),
            keras.layers.Flatten(),
            keras.layers.Dense(4, name="out"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.0), "mse")
    before = [keras.ops.convert_to_numpy(model.get_layer(n).kernel) for n in ("conv", "out")]
    settings = {"conv": (before[0], 5, "density"), "out": (before[1], 8, "linear")}
    targets = {"conv": {"clusters": 5, "init": "density"}}
    history = model.fit(
        np.ones((2, 6, 6, 2)),
        np.ones((2, 4)),
        verbose=0,
        callbacks=[WeightSharing(bits=3, targets=targets)],
    )
    assert history.history["quantized"] == [1.0]
    for name, (old, number, init) in settings.items():
        centroids, index = kmeans(old, number, init)
        new = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        np.testing.assert_array_equal(new, centroids.astype("float32")[index])


def test_begins_at_its_step(data):
    model, look = linear(keras.optimizers.Adam(0.01)), Look()
    fit(model, data, WeightSharing(bits=1, begin_step=4), look)
    numbers = [len(np.unique(seen[seen != 0])) for seen in look.seen]
    assert min(numbers[:3]) > 50 and numbers[3:] == [2] * 7


def test_later_fit_trains_the_centroids_on(data):
    model = linear(keras.optimizers.Adam(0.01))
    fit(model, data, WeightSharing(bits=2))
    before = kernel(model)
    fit(model, data)
    model.compile(keras.optimizers.SGD(0.001), "mse")
    fit(model, data)
    assert np.all(kernel(model)[before != 0] != before[before != 0])
    np.testing.assert_array_equal(clusters_of(kernel(model)), clusters_of(before))
    tfcomp.release(model)
    fit(model, data)
    assert len(np.unique(kernel(model))) > 5


def test_a_new_callback_finds_the_clusters_of_a_file(data, tmp_path):
    model = linear(keras.optimizers.Adam(0.01))
    fit(model, data, WeightSharing(bits=2))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    fit(loaded, data, WeightSharing(bits=2))
    np.testing.assert_array_equal(clusters_of(kernel(loaded)), clusters_of(kernel(model)))
    assert np.any(kernel(loaded) != kernel(model))


@pytest.mark.parametrize("first", ["pruning", "sharing"])
def test_pruning_goes_on_in_shared_weights(first, data):
    """What is pruned leaves its cluster, whose value stays one."""
    schedule = PolynomialDecay(0.4, 0.8, begin_step=0, end_step=8, frequency=2)
    callbacks = [GradualPruning(schedule), WeightSharing(bits=2)]
    model, look = linear(keras.optimizers.Adam(0.01)), Look()
    fit(model, data, *callbacks[:: 1 if first == "pruning" else -1], look)
    weight = kernel(model)
    assert np.count_nonzero(weight == 0) == round(0.8 * weight.size)
    for seen, later in zip(look.seen, look.seen[1:]):
        assert len(np.unique(seen[seen != 0])) <= 4
        assert not np.any(later[seen == 0])


def test_the_gradient_of_a_pruned_member_does_not_count(data):
    """Pruned or not shared at all: the others move alike."""
    weights = {}
    for pruned_first in (True, False):
        model = linear(keras.optimizers.SGD(0.0))
        weight = np.where(np.arange(84).reshape(12, 7) % 2, 0.5, -0.25)
        model.layers[0].kernel.assign(weight)
        half = weight * (np.arange(12) < 6)[:, None]
        if pruned_first:
            model.layers[0].kernel.assign(half)
        fit(model, data, WeightSharing(bits=1))
        model.layers[0].kernel.assign(half)
        if not pruned_first:
            fit(model, data, tfcomp.callbacks.PreserveSparsity())
        model.optimizer.learning_rate = 0.01
        fit(model, data)
        weights[pruned_first] = kernel(model)
    assert not np.any(weights[True][6:]) and len(np.unique(weights[True])) == 3
    np.testing.assert_allclose(weights[True], weights[False], rtol=1e-5)


def test_averaged_weights_are_shared_too(data):
    optimizer = keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.9)
    model = linear(optimizer)
    fit(model, data, WeightSharing(bits=2))
    assert len(np.unique(kernel(model))) == 5


def test_any_pruning_then_sharing_in_one_model(data):
    model = linear(keras.optimizers.Adam(0.01))
    fit(model, data, GradualPruning(ConstantSparsity(0.75, begin_step=0)))
    zeros = kernel(model) == 0
    fit(model, data, WeightSharing(clusters=3, init="density"))
    np.testing.assert_array_equal(kernel(model) == 0, zeros)
    assert len(np.unique(kernel(model))) == 4


def test_bad_arguments_name_themselves(data):
    for arguments, name in [
        ({}, "bits"),
        ({"bits": 3, "clusters": 8}, "bits"),
        ({"bits": 0}, "bits"),
        ({"bits": 2.5}, "bits"),
        ({"clusters": True}, "clusters"),
        ({"clusters": 70000}, "clusters"),
        ({"bits": 2, "init": "kmeans++"}, "init"),
        ({"bits": 2, "begin_step": -1}, "begin_step"),
    ]:
        with pytest.raises(ValueError, match=f"argument `{name}`"):
            WeightSharing(**arguments)
    model = linear("sgd")
    with pytest.raises(ValueError, match="argument `bits`"):
        fit(model, data, WeightSharing(bits=2, targets={re.compile("dense"): {"bits": 20}}))
    model.layers[0].kernel.assign(np.zeros((12, 7)))
    with pytest.raises(ValueError, match=r"All of dense.* is zero"):
        fit(model, data, WeightSharing(bits=2))


def words(optimizer, embedded=True):
    """Sums of four vectors of 9 words; by a matrix product of counts where not embedded."""
    keras.utils.set_random_seed(3)
    if embedded:
        inputs = keras.Input((4,), dtype="int32")
        layer = keras.layers.Embedding(9, 5)
        outputs = keras.ops.sum(layer(inputs), axis=1)
    else:
        inputs, layer = keras.Input((9,)), keras.layers.Dense(5, use_bias=False)
        outputs = layer(inputs)
    model = keras.Model(inputs, outputs)
    table = np.random.default_rng(4).normal(size=(9, 5)).astype("float32")
    table[2, 1:] = 0
    layer.set_weights([table])
    model.compile(optimizer, "mse")
    return model


def texts(repeated):
    """Numbers of words, and how often each comes."""
    rng = np.random.default_rng(1)
    drawn = np.array([rng.choice(9, 4, replace=repeated) for _ in range(STEPS)])
    return drawn, np.array([np.bincount(text, minlength=9) for text in drawn], "float32")


@pytest.mark.parametrize(
    "make",
    [make for make, _ in OPTIMIZERS.values()]
    + [
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
        lambda: keras.optimizers.SGD(0.01, global_clipnorm=0.1),
        lambda: keras.optimizers.SGD(0.01, gradient_accumulation_steps=2),
        lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.8),
        lambda: keras.optimizers.Lamb(0.01),
    ],
    ids=[*OPTIMIZERS, "decay", "clipping", "accumulation", "average", "lamb"],
)
@pytest.mark.parametrize("begin_step", [0, 4])
def test_an_embedding_is_trained_as_a_kernel(make, begin_step, data):
    """Its gradient is rows, of which some come twice, on TensorFlow."""
    tables = []
    # Before sharing has begun, Keras squares by themselves the rows that come twice.
    for x, embedded in zip(texts(repeated=begin_step == 0), (True, False)):
        model = words(make(), embedded)
        fit(model, (x, data[1][:, :5]), WeightSharing(bits=2, begin_step=begin_step))
        tables.append(keras.ops.convert_to_numpy(model.trainable_weights[0].value))
    # What is zero when sharing begins is no cluster.
    assert len(np.unique(tables[0])) == (4 if begin_step else 5)
    np.testing.assert_allclose(*tables, rtol=1e-4, atol=1e-6)


@pytest.mark.tensorflow
def test_sparse_gradients_stay_sparse(data):
    model = words(keras.optimizers.SGD(0.01))
    seen = []

    def update_step(gradient, variable, rate):
        seen.append(gradient)
        type(model.optimizer).update_step(model.optimizer, gradient, variable, rate)

    model.optimizer.update_step = update_step
    fit(model, (texts(True)[0], data[1][:, :5]), WeightSharing(bits=2))
    # Four words, and a row for each of four centroids and zero.
    assert {tuple(gradient.values.shape) for gradient in seen} == {(4 + 5, 5)}
