"""Decomposing a model in one call."""

import warnings

import keras
import numpy as np
import pytest

import tfcomp

layers = keras.layers


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def batch(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomized(model):
    """Biases and all else away from zero and one."""
    rng = np.random.default_rng(1)
    model.set_weights([np.abs(w) + rng.uniform(0.1, 0.5, w.shape) for w in model.get_weights()])
    return model


def one(layer, *shape):
    model = keras.Sequential([keras.Input(shape), layer])
    layer.bias.assign(batch(*layer.bias.shape))
    return model


CONVOLUTIONS = [
    (layers.Conv1D, {"filters": 6, "kernel_size": 3, "padding": "causal"}, (9, 4)),
    (layers.Conv1D, {"filters": 6, "kernel_size": 4, "strides": 3, "padding": "same"}, (11, 4)),
    (layers.Conv2D, {"filters": 6, "kernel_size": 3}, (7, 6, 4)),
    (layers.Conv2D, {"filters": 6, "kernel_size": (3, 2), "strides": (2, 3)}, (9, 8, 4)),
    (
        layers.Conv2D,
        {"filters": 6, "kernel_size": (3, 5), "strides": 2, "padding": "same"},
        (8, 9, 4),
    ),
    (
        layers.Conv2D,
        {"filters": 6, "kernel_size": 3, "dilation_rate": (2, 3), "padding": "same"},
        (9, 8, 4),
    ),
    (layers.Conv2D, {"filters": 6, "kernel_size": 1, "strides": 2}, (8, 8, 4)),
    (layers.Conv2D, {"filters": 6, "kernel_size": 3, "groups": 2, "strides": 2}, (8, 7, 4)),
    (layers.Conv3D, {"filters": 6, "kernel_size": (2, 3, 2), "padding": "same"}, (4, 5, 6, 4)),
]


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker"])
@pytest.mark.parametrize(("cls", "arguments", "shape"), CONVOLUTIONS)
def test_full_rank_computes_the_same(cls, arguments, shape, method, monkeypatch):
    layer = cls(**arguments, activation="tanh", name="conv")
    model = one(layer, *shape)
    x = batch(5, *shape)
    # Whether it becomes smaller is not what this is about.
    monkeypatch.setattr("tfcomp.methods.low_rank.decompose._Plan.numbers", lambda *_: [0])
    done = tfcomp.decompose(model, energy=1.0, method=method, verbose=0)
    new = done.model.get_layer("conv")
    assert isinstance(new, keras.Sequential) and {type(part) for part in new.layers} == {cls}
    np.testing.assert_allclose(numpy(done.model(x)), numpy(model(x)), rtol=1e-4, atol=1e-5)
    assert done[0].energy == pytest.approx(1)
    assert sum(int(np.prod(part.kernel.shape)) for part in new.layers) == done[0].after
    fit = tfcomp.decompose(model, 1.0, None, method, x, verbose=0)
    np.testing.assert_allclose(numpy(fit.model(x)), numpy(model(x)), rtol=1e-3, atol=1e-4)
    assert fit[0].error < 1e-6


def low_rank(rows, columns, rank, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns)) / rank


def network():
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(8, name="deep")], name="inner")
    shared = layers.Dense(8, activation="relu", name="shared")
    image, x = keras.Input((6, 6, 3), name="image"), keras.Input((5, 12), name="x")
    y = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(image)
    y = layers.Conv2D(8, (3, 3), strides=2, use_bias=False, name="strided")(y)
    y = layers.GlobalAveragePooling2D()(layers.BatchNormalization(name="norm")(y))
    z = layers.TimeDistributed(layers.Dense(12, name="step"), name="steps")(x)
    z = layers.GlobalAveragePooling1D()(shared(z) + shared(x))
    model = randomized(keras.Model([image, x], layers.Dense(4, name="out")(inner(z) * y)))
    model.get_layer("conv").kernel.assign(low_rank(27, 8, 2).reshape(3, 3, 3, 8))
    for layer in (shared, inner.get_layer("deep")):
        layer.kernel.assign(low_rank(*layer.kernel.shape, 2))
    return model


def images():
    return [batch(6, 6, 6, 3), batch(6, 5, 12, seed=1)]


def test_functional_nested_shared(tmp_path):
    model = network()
    before, expected = [w.copy() for w in model.get_weights()], numpy(model(images()))
    done = tfcomp.decompose(model, energy=0.999999, verbose=0)
    small = done.model
    assert {row.path: row.rank for row in done} == {
        "conv/kernel": 2,
        "shared/kernel": 2,
        "inner/deep/kernel": 2,
    }
    for path in ("strided/kernel", "steps/step/kernel", "out/kernel"):
        with pytest.raises(KeyError, match=r"it was left out: at rank .* it would have"):
            done[path]
    assert done["conv/kernel"][1:5] == ("svd", 2, 27 * 8, 2 * (27 + 8))
    assert [layer.name for layer in small.layers] == [layer.name for layer in model.layers]
    np.testing.assert_allclose(numpy(small(images())), expected, rtol=1e-3, atol=1e-4)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert type(small.get_layer("inner").get_layer("deep")) is keras.Sequential
    # Nothing of ours is needed to read the file.
    small.save(tmp_path / "m.keras")
    assert "tfcomp" not in small.to_json()
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded(images())), numpy(small(images())))
    small.save_weights(tmp_path / "m.weights.h5")
    loaded.load_weights(tmp_path / "m.weights.h5")
    again = tfcomp.decompose(small, energy=0.999999, targets={"conv_basis": {"rank": 1}}, verbose=0)
    assert again["conv/conv_basis/kernel"].rank == 1
    assert len(again) == 1


def test_compiled_and_trained_on():
    model = network()
    model.compile(keras.optimizers.SGD(0.25), "mse")
    small = tfcomp.decompose(model, energy=0.999999, verbose=0).model
    assert float(small.optimizer.learning_rate) == 0.25
    before = small.get_weights()
    small.fit(images(), np.ones((6, 4)), verbose=0)
    assert np.mean([np.any(a != b) for a, b in zip(before, small.get_weights())]) > 0.8


def dense(rank=None):
    model = keras.Sequential(
        [
            keras.Input((20,)),
            layers.Dense(24, activation="relu", name="a"),
            layers.Dense(24, activation="relu", name="b"),
            layers.Dense(6, name="c"),
        ]
    )
    for index, layer in enumerate(model.layers):
        layer.bias.assign(batch(*layer.bias.shape, seed=index))
        if rank:
            layer.kernel.assign(low_rank(*layer.kernel.shape, rank, seed=index))
    return model


def test_against_numpy():
    model = dense()
    done = tfcomp.decompose(model, rank=3, verbose=0)
    x = batch(7, 20)
    y = x.astype("float64")
    for layer in model.layers:
        u, s, v = np.linalg.svd(numpy(layer.kernel).astype("float64"), full_matrices=False)
        y = y @ (u[:, :3] * s[:3]) @ v[:3] + numpy(layer.bias)
        y = y if layer.name == "c" else np.maximum(y, 0)
        share = np.sum(s[:3] ** 2) / np.sum(s**2)
        assert done[f"{layer.name}/kernel"].energy == pytest.approx(share, rel=1e-5)
    np.testing.assert_allclose(numpy(done.model(x)), y, rtol=1e-4, atol=1e-5)


def test_ranks_and_rules():
    model = dense()
    full = {"a": 20, "b": 24, "c": 6}

    def ranks(**arguments):
        done = tfcomp.decompose(model, verbose=0, **arguments)
        return {row.path.split("/")[0]: row.rank for row in done}

    assert ranks(rank=2) == {"a": 2, "b": 2, "c": 2}
    assert ranks(rank=0.25) == {name: round(side / 4) for name, side in full.items()}
    assert ranks(energy=0.3, rank={"a": 4, "c": None}).keys() == {"a", "b"}
    assert ranks(energy=0.3, rank={"a": 4})["a"] == 4
    assert ranks(rank={"a": 4}, targets={"b": None, "c": {"rank": 1}}) == {"a": 4, "c": 1}
    assert ranks(rank=2, targets={"a": {"energy": 1e-3}}) == {"a": 1, "b": 2, "c": 2}
    assert ranks(rank=2, targets=["b"]) == {"b": 2}
    squares = {n: np.linalg.svd(numpy(model.get_layer(n).kernel))[1] ** 2 for n in full}
    for energy in (0.2, 0.5):
        for name, rank in ranks(energy=energy).items():
            kept = np.cumsum(squares[name]) / np.sum(squares[name])
            assert kept[rank - 1] >= energy and (rank == 1 or kept[rank - 2] < energy)


def test_methods_and_pairs_of_ranks():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 8)),
            layers.Conv2D(12, 3, name="a"),
            layers.Conv2D(12, 3, name="b"),
            layers.Conv2D(12, 1, name="c"),
        ]
    )
    done = tfcomp.decompose(
        model,
        rank={"a": (3, 5), "b": 6, "c": 2},
        method="tucker",
        targets={"b": {"method": "spatial"}},
        verbose=0,
    )
    assert [(row.method, row.rank, row.after) for row in done] == [
        ("tucker", (3, 5), 8 * 3 + 9 * 15 + 5 * 12),
        ("spatial", 6, 3 * 12 * 6 + 3 * 6 * 12),
        ("svd", 2, 2 * (12 + 12)),
    ]
    assert [part.name for part in done.model.get_layer("a").layers] == [
        "a_reduce",
        "a_core",
        "a_expand",
    ]
    sizes = [part.kernel_size for part in done.model.get_layer("b").layers]
    assert sizes == [(3, 1), (1, 3)]
    weights = sum(int(np.prod(w.shape)) for w in done.model.weights if w.name == "kernel")
    assert weights == sum(row.after for row in done)


def test_data_correct_what_was_lost():
    """Correlated inputs, on which another subspace matters than the one of the largest weights."""
    model = dense()
    mixing = low_rank(20, 20, 5, seed=9) + 0.05 * batch(20, 20, seed=8)
    x = (batch(400, 20, seed=7) @ mixing + 0.5).astype("float32")
    test = (batch(100, 20, seed=6) @ mixing + 0.5).astype("float32")
    plain = tfcomp.decompose(model, rank=4, verbose=0)
    before = [w.copy() for w in model.get_weights()]
    fitted = tfcomp.decompose(model, rank=4, data=(x, None), verbose=0)
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    expected = numpy(model(test))
    errors = [np.mean((numpy(done.model(test)) - expected) ** 2) for done in (plain, fitted)]
    assert errors[1] < 0.2 * errors[0]
    # The error of the first layer, on the samples themselves.
    layer = model.get_layer("a")
    y = x.astype("float64") @ numpy(layer.kernel)
    first = fitted.model.get_layer("a").layers
    found = x.astype("float64") @ numpy(first[0].kernel) @ numpy(first[1].kernel)
    found += numpy(first[1].bias) - numpy(layer.bias)
    error = np.sum((y - found) ** 2) / np.sum(y**2)
    assert fitted["a/kernel"].error == pytest.approx(error, rel=1e-2)
    centred = y - y.mean(axis=0)
    left = np.sum(np.linalg.svd(centred, compute_uv=False)[4:] ** 2)
    assert fitted["a/kernel"].error == pytest.approx(left / np.sum(y**2), rel=1e-2)


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker"])
def test_data_correct_convolutions(method):
    model = randomized(
        keras.Sequential(
            [
                keras.Input((10, 10, 3)),
                layers.Conv2D(8, 3, activation="relu", name="a"),
                layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="b"),
                layers.BatchNormalization(),
            ]
        )
    )
    for layer in (model.get_layer("a"), model.get_layer("b")):
        layer.kernel.assign(batch(*layer.kernel.shape) / 4)
    x = np.cumsum(np.cumsum(batch(40, 10, 10, 3), axis=1), axis=2) / 10
    expected = numpy(model(x))
    # Too many for some, and then left out.
    rank = {"svd": 3, "spatial": 4, "tucker": (2, 4)}[method]
    errors = []
    for data in (None, x):
        done = tfcomp.decompose(model, 0.9, rank, method, data, verbose=0)
        assert len(done) == 2
        errors.append(np.mean((numpy(done.model(x)) - expected) ** 2))
    assert errors[1] < 0.7 * errors[0]
    assert all(0 < row.error < 1 for row in done) and "Error" in str(done)


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense, self.alone = layers.Dense(16, name="dense"), layers.Dense(2, name="alone")

    def build(self, shape):
        self.dense.build(shape)
        self.alone.build((*shape[:-1], 16))

    def call(self, x):
        return self.alone(keras.ops.relu(self.dense(x)))

    def compute_output_shape(self, shape):
        return (*shape[:-1], 2)


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = layers.Conv2D(16, 3, name="conv")
        self.block = Block(name="block")

    def call(self, x):
        return self.block(keras.ops.mean(self.conv(x), axis=(1, 2)))


@pytest.mark.parametrize("data", [False, True])
def test_subclassed_models_in_place(data, tmp_path):
    model, x = Subclassed(), batch(8, 6, 6, 4)
    model(x[:2])
    model.conv.kernel.assign(low_rank(36, 16, 2).reshape(3, 3, 4, 16))
    model.block.dense.kernel.assign(low_rank(16, 16, 3))
    expected = numpy(model(x))
    done = tfcomp.decompose(model, energy=0.999999, data=x if data else None, verbose=0)
    assert done.model is model and [row.rank for row in done] == [2, 3]
    assert type(model.conv) is keras.Sequential and type(model.block.dense) is keras.Sequential
    np.testing.assert_allclose(numpy(model(x)), expected, rtol=1e-3, atol=1e-4)
    # Images of another size, as before.
    assert model(batch(3, 9, 7, 4)).shape == (3, 2)
    model.compile("sgd", "mse")
    model.fit(x, np.ones((8, 2)), verbose=0)
    model.save(tmp_path / "m.keras")
    names = {"Subclassed": Subclassed, "Block": Block}
    loaded = keras.models.load_model(tmp_path / "m.keras", custom_objects=names)
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))


def test_in_a_layer_of_ours_and_of_another_model(tmp_path):
    x = keras.Input((None, None, 24))
    model = keras.Model(x, tfcomp.layers.FireModule(8, 24, name="fire")(x))
    data = batch(4, 5, 5, 24)
    done = tfcomp.decompose(model, 0.3, None, "spatial", data, verbose=0)
    assert "fire/block/expand3x3/kernel" in done
    done.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded(data)), numpy(done.model(data)))
    assert loaded(batch(2, 8, 6, 24)).shape == (2, 8, 6, 48)


def test_masks_go_through():
    words = keras.Input((6,), dtype="int32")
    x = layers.Embedding(10, 16, mask_zero=True)(words)
    x = layers.Dense(16, name="dense")(x)
    model = keras.Model(words, layers.LSTM(4)(x))
    data = np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 7, 8, 9]])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*mask.*", category=UserWarning)
        small = tfcomp.decompose(model, rank=4, data=data, verbose=0).model
        y = numpy(small(data))
    # As far as words go, and no farther.
    padded = np.array([[1, 2, 3]])
    parts = [small.layers[1], *small.get_layer("dense").layers, small.layers[-1]]
    x = padded
    for layer in parts:
        x = layer(x)
    np.testing.assert_allclose(y[:1], numpy(x), rtol=1e-5)


def test_settings_are_kept():
    layer = layers.Conv2D(
        16,
        3,
        kernel_regularizer="l2",
        bias_constraint="non_neg",
        activity_regularizer="l1",
        activation=lambda x: 2 * x,
        dtype="mixed_bfloat16",
        trainable=False,
        name="conv",
    )
    model = keras.Sequential([keras.Input((8, 8, 16)), layer])
    done = tfcomp.decompose(model, rank=2, targets=["conv"], verbose=0)
    first, last = done.model.get_layer("conv").layers
    assert not first.use_bias and last.use_bias and last.bias_constraint is not None
    assert type(first.kernel_regularizer) is type(last.kernel_regularizer) is keras.regularizers.L2
    assert first.activity_regularizer is None and last.activity_regularizer is not None
    assert first.activation is keras.activations.linear and last.activation is layer.activation
    assert first.dtype_policy.name == last.dtype_policy.name == "mixed_bfloat16"
    assert not done.model.trainable_variables
    # Below the layer's own path.
    assert [v.path for v in done.model.variables] == [
        f"{model.name}/conv/conv_basis/kernel",
        f"{model.name}/conv/conv_combine/kernel",
        f"{model.name}/conv/conv_combine/bias",
    ]


def test_what_is_left_out_and_why():
    class Mine(layers.Dense):
        pass

    model = keras.Sequential(
        [
            keras.Input((6, 8)),
            layers.LSTM(8, return_sequences=True, name="lstm"),
            layers.Dense(16, kernel_constraint="non_neg", name="bound"),
            Mine(16, name="mine"),
            layers.Dense(16, name="lora"),
            layers.Dense(16, name="plain"),
            layers.Dense(16, name="frozen"),
        ]
    )
    model.get_layer("lora").enable_lora(2)
    model.get_layer("frozen").trainable = False
    done = tfcomp.decompose(model, rank=2, verbose=0)
    assert [row.path for row in done] == ["plain/kernel"]
    reasons = dict(done.left_out)
    assert "LSTM" in reasons["lstm/lstm_cell/kernel"]
    assert "constraint" in reasons["bound/kernel"] and "Mine" in reasons["mine/kernel"]
    # LoRA freezes the kernel, too.
    assert "frozen" in reasons["lora/kernel"] and "frozen" in reasons["frozen/kernel"]
    for name, reason in (("bound", "constraint"), ("mine", "Mine"), ("lora", "LoRA")):
        with pytest.raises(ValueError, match=f"argument `targets`.*{reason}"):
            tfcomp.decompose(model, rank=2, targets=[name], verbose=0)
    with pytest.raises(ValueError, match="at rank 15 it would have 480 numbers, not 256"):
        tfcomp.decompose(model, rank={"plain": 15}, verbose=0)


def macs_of(model):
    return sum(tfcomp.summary(model, print_table=False).macs.values())


def test_a_budget_of_macs_by_hand():
    """20 x 30 and 30 x 40 of each rank: near the best product of energies, by trying all."""
    model = keras.Sequential(
        [keras.Input((20,)), layers.Dense(30, name="a"), layers.Dense(40, name="b")]
    )
    # All singular values alike: the energy is the share of the rank, of 20 and of 30.
    for layer, size in ((model.layers[0], 20), (model.layers[1], 30)):
        matrix = np.linalg.qr(batch(layer.kernel.shape[1], size))[0].T
        layer.kernel.assign(matrix)
    for budget in (900, 500, 300):
        done = tfcomp.decompose(model, macs=budget, verbose=0)
        ranks = [done[path].rank if path in done else 0 for path in ("a/kernel", "b/kernel")]
        # Rank 0 is the layer as it is.
        kept = {(a, b): (a / 20 or 1) * (b / 30 or 1) for a in range(21) for b in range(31)}
        cost = {(a, b): (50 * a or 600) + (70 * b or 1200) for a, b in kept}
        assert macs_of(done.model) == cost[tuple(ranks)] <= budget
        best = max(kept[pair] for pair in kept if cost[pair] <= budget)
        assert kept[tuple(ranks)] > 0.9 * best
    least = tfcomp.decompose(model, macs=120, verbose=0)
    assert [row.rank for row in least] == [1, 1]
    with pytest.raises(ValueError, match=r"argument `macs`.*of rank 1 the model has 120"):
        tfcomp.decompose(model, macs=119, verbose=0)


@pytest.mark.parametrize("method", ["svd", "spatial", "tucker"])
def test_budgets_of_convolutions(method):
    """What the new model multiplies is what the budget said, with strides and padding, too."""
    x = keras.Input((12, 13, 8))
    y = layers.Conv2D(24, 3, padding="same", activation="relu", name="a")(x)
    y = layers.Conv2D(24, (3, 5), strides=(2, 3), name="b")(y)
    y = layers.Conv2D(32, 3, strides=2, padding="same", groups=2, name="c")(y)
    model = keras.Model(x, layers.Dense(10, name="out")(layers.Flatten()(y)))
    whole = macs_of(model)
    data = batch(24, 12, 13, 8)
    done = tfcomp.decompose(model, macs=0.4, method=method, data=data, verbose=0)
    assert 0.3 * whole < macs_of(done.model) <= 0.4 * whole
    assert np.isfinite(numpy(done.model(data))).all()
    # Those that have a rank of their own keep it.
    done = tfcomp.decompose(model, rank={"a": 2}, macs=0.5, method=method, verbose=0)
    assert done["a/kernel"].rank in (2, (2, 2)) and macs_of(done.model) <= 0.5 * whole


def test_spatial_and_channel_factors_and_pruning_together(tmp_path):
    """Each saves its third of what is asked for, and what comes out is plain Keras."""
    x = keras.Input((12, 12, 3))
    y = layers.Conv2D(16, 3, padding="same", activation="relu", name="a")(x)
    y = layers.Conv2D(24, 3, padding="same", activation="relu", name="b")(y)
    y = layers.Conv2D(24, 3, padding="same", activation="relu", name="c")(y)
    model = keras.Model(x, layers.Dense(4, name="out")(layers.GlobalAveragePooling2D()(y)))
    data, each, counts = batch(32, 12, 12, 3), 0.4 ** (1 / 3), [macs_of(model)]
    done = tfcomp.decompose(model, macs=each, method="spatial", data=data, verbose=0)
    counts.append(macs_of(done.model))
    done = tfcomp.decompose(done.model, macs=each, data=data, verbose=0)
    counts.append(macs_of(done.model))
    done = tfcomp.prune_channels(done.model, macs=each, data=data, verbose=0)
    counts.append(macs_of(done.model))
    assert all(0.85 * each * b < a <= each * b for a, b in zip(counts[1:], counts))
    done.model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(numpy(loaded(data)), numpy(done.model(data)))


def test_layers_that_a_budget_spares():
    """All that is lost by the first layer would be more than what is lost by the second."""
    model = keras.Sequential(
        [keras.Input((16,)), layers.Dense(16, name="whole"), layers.Dense(64, name="low")]
    )
    model.get_layer("whole").kernel.assign(np.linalg.qr(batch(16, 16))[0])
    model.get_layer("low").kernel.assign(low_rank(16, 64, 2))
    done = tfcomp.decompose(model, macs=0.5, verbose=0)
    assert [row.path for row in done] == ["low/kernel"] and done[0].rank == 2
    assert "as it is" in dict(done.left_out)["whole/kernel"]
    assert macs_of(done.model) == 256 + 2 * 80


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"damping": -1}, "damping"),
        ({"macs": 0}, "macs"),
        ({"macs": 0.5, "rank": 2}, "macs"),
        ({"macs": "few"}, "macs"),
        ({"energy": 0}, "energy"),
        ({"energy": 1.5}, "energy"),
        ({"energy": "most"}, "energy"),
        ({"rank": 0}, "rank"),
        ({"rank": -0.5}, "rank"),
        ({"rank": True}, "rank"),
        ({"rank": (2, 2)}, "rank"),
        ({"rank": {"a": 2}, "targets": ["a"]}, "rank"),
        ({"rank": {"z": 2}}, "targets"),
        ({"method": "cp"}, "method"),
        ({"targets": {"a": {"ranks": 2}}}, "targets"),
        ({"batch_size": 0, "data": np.ones((4, 20))}, "batch_size"),
        ({"verbose": 3}, "verbose"),
    ],
)
def test_bad_arguments(arguments, name):
    with pytest.raises(ValueError, match=f"argument `{name}`"):
        tfcomp.decompose(dense(), **{"verbose": 0, **arguments})


def test_data_that_are_not_finite():
    with pytest.raises(ValueError, match="a/kernel contain NaN"):
        tfcomp.decompose(dense(), rank=2, data=np.full((4, 20), np.nan), verbose=0)
