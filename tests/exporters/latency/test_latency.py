"""Exports for latency compute what the model computes, whichever kernels are chosen."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

import tfcomp

tf = pytest.importorskip("tensorflow")

import few_bits  # noqa: E402
from file_kernels import settled  # noqa: E402
from latency_plans import always, later_is_faster, units_of  # noqa: E402

from tfcomp.exporters.latency import plan as plans  # noqa: E402
from tfcomp.exporters.latency import trial  # noqa: E402
from tfcomp.exporters.latency.binary import chain_of, sign_product  # noqa: E402
from tfcomp.exporters.latency.product import product_of  # noqa: E402
from tfcomp.model.choice import Unsuited  # noqa: E402
from tfcomp.model.final_weights import FinalWeights  # noqa: E402

pytestmark = pytest.mark.tensorflow
K, T = keras.layers, tfcomp.layers


@pytest.fixture
def always_kernels(monkeypatch):
    """Kernels are chosen wherever there are any, however fast they are."""
    always(monkeypatch, "")


def images(model, batch, seed=1):
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).standard_normal(shape).astype("float32")


def computed(model, batch=3):
    """What kernels make of a batch, unit by unit, beside the layers."""
    units, _, _, final = units_of(model)
    values = {id(v): tf.constant(final.value(v)) for v in model.variables}
    pairs = []
    for unit in units:
        x = unit.draw(batch)
        expected = unit.by_keras(final.scope, values)(x).numpy()
        for candidate in unit.candidates:
            try:
                found = candidate.compute(x, [tf.constant(a) for a in candidate.arrays])
            except Unsuited:
                continue
            pairs.append((candidate.name, found.numpy(), expected))
    return pairs


CHAINS = {
    "norm": lambda: [T.BinaryConv2D(20, 3), K.BatchNormalization()],
    "zero padding": lambda: [
        T.BinaryConv2D(20, 3, padding="same", pad_value=0),
        K.BatchNormalization(),
    ],
    "minus padding": lambda: [
        T.BinaryConv2D(70, 3, padding="same", pad_value=-1, strides=2),
        K.BatchNormalization(),
    ],
    "pool, norm": lambda: [
        T.BinaryConv2D(8, 3, padding="same"),
        K.MaxPooling2D(3, 2, padding="same"),
        K.BatchNormalization(),
    ],
    "norm, pool": lambda: [
        T.BinaryConv2D(8, 3, scale=True),
        K.BatchNormalization(),
        K.MaxPooling2D(),
    ],
    "bias, activations": lambda: [
        T.BinaryConv2D(8, 3, bias_initializer="random_normal", activation="hard_tanh"),
        K.LeakyReLU(),
        K.Dropout(0.5),
        K.PReLU(shared_axes=(1, 2), alpha_initializer="ones"),
    ],
    "dilation": lambda: [T.BinaryConv2D(8, 2, dilation_rate=2), K.BatchNormalization()],
    "norm of features": lambda: [T.BinaryConv2D(5, 3), K.Flatten(), K.BatchNormalization()],
}


@pytest.mark.parametrize("name", CHAINS)
def test_two_layers_of_signs_are_one_unit_and_exact(name):
    keras.utils.set_random_seed(1)
    between = CHAINS[name]()
    last = [T.BinaryDense(7)]
    if not any(isinstance(layer, K.Flatten) for layer in between):
        last = [K.Flatten(), *last]
    model = settled(keras.Sequential([keras.Input((9, 8, 66)), *between, *last]))
    units, _, _, _ = units_of(model)
    passed = [layer for layer in [*between, *last] if not isinstance(layer, K.Dropout)]
    assert [len(unit.layers) for unit in units] == [len(passed)]
    ((kernel, found, expected),) = computed(model)
    assert kernel == "xnor, 2 layers" and len(np.unique(expected)) > 3
    np.testing.assert_array_equal(found, expected)


APART = {
    "softmax over channels": lambda: [K.Softmax()],
    "layer norm": lambda: [K.LayerNormalization()],
    "neither up nor down": lambda: [K.Activation(lambda x: x * x - 20)],
    "mean pooling": lambda: [K.AveragePooling2D(2)],
    "neighbours": lambda: [K.DepthwiseConv2D(3, padding="same")],
    "a map of scales": lambda: [T.BinaryConv2D(8, 3, input_scale=True)],
}


@pytest.mark.parametrize("name", APART)
def test_layers_that_are_no_limits_keep_signs_apart(name):
    keras.utils.set_random_seed(2)
    layers = [T.BinaryConv2D(8, 3), *APART[name](), K.Flatten(), T.BinaryDense(7)]
    model = keras.Sequential([keras.Input((9, 8, 10)), *layers])
    units, _, _, _ = units_of(model)
    assert all(len(unit.candidates) == 1 for unit in units if "xnor" in unit.candidates[0].name)
    for kernel, found, expected in computed(model):
        assert kernel in ("xnor", "xnor, 2 layers")
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    # A layer that is apart is computed by itself.
    assert sum(len(unit.layers) for unit in units) == (3 if name == "a map of scales" else 2)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: T.BinaryDense(70, scale=True, input_scale=True, activation="relu"),
        lambda: T.BinaryConv1D(10, 3, padding="causal", input_scale=True),
        lambda: T.BinaryConv2D(10, 3, groups=2, scale=True, padding="same"),
        lambda: T.BinaryConv2D(12, 3, groups=2, strides=2, input_scale=True),
        lambda: T.BinaryConv3D(6, 2, padding="same"),
        lambda: T.BinaryConv2D(130, 3, bias_initializer="normal", activation="relu"),
        lambda: T.BinaryConv2D(8, 3, groups=2, scale=True, bias_initializer="normal"),
        lambda: T.BinaryDense(70, bias_initializer="normal"),
        lambda: T.BinaryDense(70, bias_initializer="normal", input_scale=True),
    ],
)
def test_single_binary_layers(layer):
    keras.utils.set_random_seed(3)
    layer = layer()
    shape = {"BinaryDense": (5, 66), "BinaryConv1D": (9, 66), "BinaryConv3D": (4, 4, 4, 66)}
    model = keras.Sequential([keras.Input(shape.get(type(layer).__name__, (7, 6, 66))), layer])
    ((kernel, found, expected),) = computed(model)
    assert kernel == "xnor"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_a_branch_ends_a_chain():
    inputs = keras.Input((6, 6, 64))
    x = T.BinaryConv2D(64, 3, padding="same")(inputs)
    y = T.BinaryConv2D(64, 3, padding="same")(x)
    model = keras.Model(inputs, K.Add()([x, y]))
    units, _, _, _ = units_of(model)
    assert [len(unit.layers) for unit in units] == [1, 1]


def pruned(layer, shape, size, share, seed=0):
    """A model of one layer of which `size` neighbouring outputs keep the same inputs."""
    model = keras.Sequential([keras.Input(shape), layer])
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(layer.kernel.shape).astype("float32")
    matrix = value.reshape(-1, value.shape[-1])
    for begin in range(0, matrix.shape[1], size):
        rows = rng.permutation(len(matrix))[int(share * len(matrix)) :]
        matrix[rows, begin : begin + size] = 0
    layer.kernel.assign(value)
    return model


@pytest.mark.parametrize(
    "layer,shape",
    [
        (lambda: K.Dense(64, activation="relu", bias_initializer="normal"), (128,)),
        (lambda: K.Dense(64), (5, 128)),
        (lambda: K.Conv2D(64, 1), (4, 5, 96)),
        (lambda: K.Conv2D(64, 3, padding="same", strides=2, use_bias=False), (7, 6, 32)),
        (lambda: K.Conv1D(64, 3, padding="causal", dilation_rate=2), (9, 32)),
    ],
)
@pytest.mark.parametrize("size", [1, 16])
def test_pruned_matrices(layer, shape, size):
    found = computed(pruned(layer(), shape, size, 0.1), batch=1 if size == 1 else 2)
    names = {name.split(",")[0] for name, _, _ in found}
    assert ("shared inputs" in names) == (size == 16)
    assert "gathered by samples" in names
    for _, outputs, expected in found:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def in_vectors(weight, size, share, seed=0):
    """Prunes a weight so that `size` outputs, anywhere, keep the same inputs."""
    rng = np.random.default_rng(seed)
    value = rng.standard_normal(weight.shape).astype("float32") / 4
    matrix = value.reshape(-1, value.shape[-1])
    order = rng.permutation(matrix.shape[1])
    for begin in range(0, len(order), size):
        rows = rng.permutation(len(matrix))[int(share * len(matrix)) :]
        matrix[np.ix_(rows, order[begin : begin + size])] = 0
    weight.assign(value)


@pytest.mark.parametrize(
    "layer,shape",
    [
        (lambda: K.Dense(72, activation="relu", bias_initializer="normal"), (128,)),
        (lambda: K.Conv2D(64, 1), (4, 5, 96)),
        (lambda: K.Conv2D(64, 3, padding="same", strides=2), (7, 6, 32)),
        (lambda: K.Conv1D(64, 3, padding="causal", dilation_rate=2), (9, 32)),
    ],
)
def test_vectors_in_any_order(layer, shape):
    layer = layer()
    model = keras.Sequential([keras.Input(shape), layer])
    in_vectors(layer.kernel, 8, 0.2)
    found = {name.split(",")[0]: rest for name, *rest in computed(model, batch=2)}
    np.testing.assert_allclose(*found["shared inputs"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("pruned", [("kernel",), ("recurrent_kernel",), "both ways"])
def test_recurrent_layers(sequences, pruned):
    layer = K.LSTM(32, return_sequences=sequences, use_bias=pruned != ("kernel",))
    layer = K.Bidirectional(layer) if pruned == "both ways" else layer
    model = keras.Sequential([keras.Input((6, 40)), layer])
    both = [layer.forward_layer, layer.backward_layer] if pruned == "both ways" else [layer]
    cells = [one.cell for one in both]
    for cell in cells:
        for weight in (cell.kernel, cell.recurrent_kernel):
            if pruned == "both ways" or weight.name in pruned:
                in_vectors(weight, 16, 0.2)
    found = computed(model, batch=3)
    assert [name for name, _, _ in found] == ["shared inputs, LSTM"] * len(cells)
    for _, outputs, expected in found:
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)


def test_recurrent_layers_that_no_kernel_computes_say_why():
    inputs = keras.Input((6, 40))
    x = K.LSTM(32, return_sequences=True, name="unpruned")(inputs)
    x = K.GRU(8, return_sequences=True, name="gru")(x)
    x = K.LSTM(8, stateful=False, name="none")(x)
    _, left, _, _ = units_of(keras.Model(inputs, x))
    reasons = {reason.path: reason.reason for reason in left}
    assert set(reasons) == {"unpruned", "gru", "none"}
    assert "LSTM" in reasons["gru"] and "same inputs" in reasons["unpruned"]
    inputs = keras.Input((6, 40))
    masked = keras.Model(inputs, K.LSTM(32)(K.Masking()(inputs)))
    for model in (masked, keras.Sequential([keras.Input((6, 40)), K.Masking(), K.LSTM(32)])):
        in_vectors(model.layers[-1].cell.kernel, 16, 0.2)
        _, left, _, _ = units_of(model)
        assert ["masks" in reason.reason for reason in left] == [True]


def test_an_lstm_between_others(always_kernels, tmp_path):
    """Its kernel takes its place in a whole model, and calls after it are still found."""
    inputs = keras.Input((6, 40))
    x = K.Dense(64, activation="relu")(inputs)
    x = K.LSTM(32, return_sequences=True)(x)
    x = K.GRU(16)(x)
    model = keras.Model(inputs, K.Dense(128)(K.Dense(64, activation="tanh")(x)))
    for weight in (model.layers[1].kernel, model.layers[2].cell.kernel, model.layers[5].kernel):
        in_vectors(weight, 16, 0.2)
    result = tfcomp.export(model, tmp_path / "m", optimize="latency", verbose=0)
    kernels = {row.path: row.kernel for row in result.kernels["serve"]}
    assert "LSTM" in kernels[model.layers[2].path]
    assert kernels[model.layers[5].path] != "Keras"
    x, loaded = images(model, 1), tf.saved_model.load(tmp_path / "m")
    expected = model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.serve(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: T.HORQDense(70, order=2, use_bias=True, bias_initializer="normal"),
        lambda: T.HORQDense(5, order=3, activation="relu"),
        lambda: T.HORQConv2D(10, 3, padding="same", strides=2, pad_value=0.5),
        lambda: T.HORQConv2D(12, (3, 2), groups=2, order=3, padding="same"),
        lambda: T.HORQConv1D(6, 3, padding="causal", dilation_rate=2, order=1),
        lambda: T.HORQConv3D(6, 2),
    ],
)
@pytest.mark.parametrize("batch", [1, 3])
def test_residual_signs(layer, batch):
    keras.utils.set_random_seed(5)
    layer = layer()
    shape = {"HORQDense": (66,), "HORQConv1D": (9, 66), "HORQConv3D": (4, 4, 4, 66)}
    model = keras.Sequential([keras.Input(shape.get(type(layer).__name__, (7, 6, 66))), layer])
    ((kernel, found, expected),) = computed(model, batch)
    assert kernel == f"xnor, {layer.order} terms"
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6 * np.abs(expected).max())


def test_residual_signs_of_other_weights_or_scales_are_left():
    inputs = keras.Input((66,))
    x = T.HORQDense(8, weight_order=2, name="weights")(inputs)
    x = T.HORQDense(8, input_quantizer="int8", name="int8")(x)
    units, left, _, _ = units_of(keras.Model(inputs, x))
    reasons = {each.path: each.reason for each in left}
    assert set(reasons) == {"weights"} and "its weights are not signs" in reasons["weights"]
    # Whether inputs have the scales that a kernel takes is known when it is tried.
    assert [unit.path for unit in units] == ["int8"]
    assert computed(keras.Model(inputs, x)) == []


LOW_BIT = {
    "trained ternary": (lambda: T.TrainedTernaryDense(64), "2 bits, two scales"),
    "dorefa": (lambda: T.DoReFaDense(64, weight_bits=4, activation_bits=3), "4 bits"),
    "dorefa, 2 bits": (lambda: T.DoReFaDense(64, weight_bits=2), "2 bits"),
    "ternary of signs": (
        lambda: T.QuantizedDense(64, kernel_quantizer="ternary", input_quantizer="binary"),
        "2 bits",
    ),
    "binary weights": (lambda: T.BinaryDense(64, input_quantizer=None, scale=True), "1 bit"),
    "convolution": (
        lambda: T.DoReFaConv2D(64, 3, weight_bits=3, pad_value=1, activation="relu"),
        "4 bits",
    ),
}


@pytest.mark.parametrize("name", LOW_BIT)
def test_layers_of_few_bits(name):
    make, kernel = LOW_BIT[name]
    layer = make()
    shape = (3, 3, 32) if name == "convolution" else (128,)
    model = keras.Sequential([keras.Input(shape), layer])
    if name == "trained ternary":
        for scale, value in zip(layer.kernel_trained_scales.trainable_variables, (0.37, 0.9)):
            scale.assign(value)
    found = [rest for chosen, *rest in computed(model, batch=2) if kernel in chosen]
    ((outputs, expected),) = found
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_powers_of_two():
    layer = K.Dense(64)
    model = keras.Sequential([keras.Input((128,)), layer])
    codes = np.random.default_rng(0).integers(-3, 4, (128, 64))
    layer.kernel.assign(np.where(codes, np.sign(codes) * 2.0 ** (2 * np.abs(codes)), 0))
    ((name, outputs, expected),) = computed(model, batch=2)
    assert "powers of two" in name
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-3)


def test_few_bits():
    layer = K.Dense(64)
    model = keras.Sequential([keras.Input((128,)), layer])
    codes = np.random.default_rng(0).integers(-7, 8, (128, 64)).astype("float32")
    layer.kernel.assign(codes * np.float32(0.03))
    ((name, outputs, expected),) = computed(model, batch=2)
    assert name == "4 bits"
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [T.BinaryDepthwiseConv2D, T.BinarySeparableConv2D])
def test_depthwise_signs_are_left_to_keras(kind):
    sizes = (4, 3) if kind is T.BinarySeparableConv2D else (3,)
    units, left, _, _ = units_of(keras.Sequential([keras.Input((8, 8, 4)), kind(*sizes)]))
    assert not units
    (reason,) = left
    assert "too few products" in reason.reason


def test_what_no_kernel_computes_says_why():
    inputs = keras.Input((8, 8, 4))
    x = K.Conv2D(64, 3, dtype="mixed_float16")(inputs)
    x = K.Conv2DTranspose(4, 3)(x)
    model = keras.Model(inputs, K.Dense(64)(x))
    _, left, _, _ = units_of(model)
    reasons = {reason.path: reason.reason for reason in left}
    assert len(reasons) == 3
    assert any("float16" in reason for reason in reasons.values())
    assert any("no kernel of Dense or Conv" in reason for reason in reasons.values())


def test_a_chain_stops_where_products_are_none():
    model = keras.Sequential([keras.Input((64,)), T.BinaryDense(64), T.BinaryDense(5)])
    _, _, flow, final = units_of(model)
    (first, second) = flow
    products = {n: (p, sign_product(p)) for n in flow for p in [product_of(flow[n], final)]}
    links, numbers = chain_of(first, flow, products)
    assert len(links) == 2 and numbers == [first, second]
    del products[second]
    assert len(chain_of(first, flow, products)[0]) == 1


@pytest.fixture
def binary_net():
    keras.utils.set_random_seed(4)
    inner = keras.Sequential(
        [
            keras.Input((6, 6, 8)),
            T.BinaryConv2D(16, 3, padding="same", name="one"),
            K.MaxPooling2D(),
            K.BatchNormalization(),
        ],
        name="inner",
    )
    inputs = keras.Input((6, 6, 3), name="image")
    x = K.BatchNormalization()(K.Conv2D(8, 3, padding="same")(inputs))
    x = K.Flatten()(inner(x))
    model = keras.Model({"image": inputs}, {"y": T.BinaryDense(4, name="two")(x)})
    settled(inner)
    return settled(model)


LOADED = """
import json, sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
signature = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
data = np.load(sys.argv[2])
found = {}
for name in data:
    x = tf.constant(data[name])
    found[name] = served.serve({"image": x})["y"].numpy().tolist()
    assert signature(image=x)["y"].numpy().tolist() == found[name]
assert "tfcomp" not in sys.modules
json.dump(found, open(sys.argv[3], "w"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("batch_sizes", [(1,), (2, 8, 20)])
def test_an_export_in_a_fresh_process(tmp_path, binary_net, always_kernels, batch_sizes):
    result = tfcomp.export(
        binary_net, tmp_path / "m", optimize="latency", batch_sizes=batch_sizes, verbose=0
    )
    table = result.kernels["serve"]
    chosen = {(row.batch, row.kernel) for row in table if "one" in row.path}
    assert chosen == {(size, "xnor, 2 layers") for size in batch_sizes}
    assert "xnor, 2 layers" in repr(table)
    data = {
        f"n{n}": np.random.default_rng(n).standard_normal((n, 6, 6, 3)).astype("float32")
        for n in (1, 2, 3, 8, 11, 20)
    }
    np.savez(tmp_path / "x.npz", **data)
    arguments = [tmp_path / "m", tmp_path / "x.npz", tmp_path / "y.json"]
    subprocess.run([sys.executable, "-c", LOADED, *map(str, arguments)], check=True)
    found = json.loads((tmp_path / "y.json").read_text())
    for name, x in data.items():
        expected = binary_net.predict({"image": x}, verbose=0)["y"]
        np.testing.assert_array_equal(found[name], expected)


LOADED_ALONE = """
import sys
import numpy as np, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
data = np.load(sys.argv[2])
np.savez(sys.argv[3], **{name: served.serve(data[name]).numpy() for name in data})
assert "tfcomp" not in sys.modules
"""


@pytest.mark.slow
def test_few_bits_and_sums_of_signs_in_a_fresh_process(tmp_path, always_kernels):
    model = few_bits.network()
    result = tfcomp.export(
        model,
        tmp_path / "m",
        optimize="latency",
        batch_sizes=(1, 3, 8),
        search_seconds=1e4,
        verbose=0,
    )
    table = [row for row in result.kernels["serve"] if row.batch == 1]
    chosen = {row.path.split("/")[-1]: row.kernel for row in table}
    assert chosen["horq_conv"] == "xnor, 2 terms"
    names = ("ternary", "powers", "dorefa", "horq")
    assert tuple(chosen[name] for name in names) == few_bits.KERNELS
    eight = {row.path: row for row in result.kernels["serve"] if row.batch == 8}
    assert "too many samples" in eight[model.get_layer("powers").path].why
    data = {f"n{n}": images(model, n, n) for n in (1, 2, 3, 5, 8, 11)}
    np.savez(tmp_path / "x.npz", **data)
    arguments = [tmp_path / "m", tmp_path / "x.npz", tmp_path / "y.npz"]
    subprocess.run([sys.executable, "-c", LOADED_ALONE, *map(str, arguments)], check=True)
    found = np.load(tmp_path / "y.npz")
    for name, x in data.items():
        expected = model.predict(x, verbose=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_pruned_layers_in_parts_and_whole(tmp_path, always_kernels):
    model = pruned(K.Dense(64, activation="relu"), (128,), 16, 0.1)
    tfcomp.export(model, tmp_path / "m", optimize="latency", batch_sizes=(1, 32), verbose=0)
    served = tf.saved_model.load(str(tmp_path / "m"))
    for batch in (1, 2, 5, 9, 17):
        x = images(model, batch)
        np.testing.assert_allclose(served.serve(x), model.predict(x, verbose=0), atol=1e-4)


def test_kernels_by_warm_times_alone_are_a_way_of_their_own(two_dense, monkeypatch):
    """Cold times decide for one kernel, warm ones for another: both are compared as a whole."""
    final = FinalWeights(two_dense)
    units, _, _, _ = units_of(two_dense)
    values = {id(v): tf.constant(final.value(v)) for v in two_dense.variables}
    trials = [trial.Trial(unit, final.scope, values, {}) for unit in units]

    def timed(calls, *_):
        warm, cold = np.ones((2, len(calls)))
        warm[1], cold[2] = 0.5, 0.1
        return np.stack([warm, cold])

    monkeypatch.setattr(trial, "warm_and_cold", timed)
    ways = plans._ways(trials, 1, None)
    places = [
        {unit.candidates.index(candidate) for unit, candidate in chosen} for _, chosen in ways
    ]
    assert [part for part, _ in ways] == [1, 1] and places == [{1}, {0}]
    # What was chosen for one sample is compared for larger batches, too.
    one = ways[0][1]
    assert plans._ways(trials, 8, one)[-1] == (1, one)


def test_samples_one_after_the_other(tmp_path, two_dense, always_kernels, monkeypatch):
    """The last way, which is the fastest here, for batches of four and more."""
    later_is_faster(monkeypatch)
    done = tfcomp.export(
        two_dense, tmp_path / "m", optimize="latency", batch_sizes=(1, 8), verbose=0
    )
    loaded = tf.saved_model.load(tmp_path / "m")
    for size in (1, 2, 4, 8, 9, 20):
        x = images(two_dense, size)
        np.testing.assert_allclose(loaded.serve(x), two_dense(x), rtol=1e-4, atol=1e-4)
    kernels = {
        batch: [row.kernel for row in done.kernels["serve"] if row.batch == batch][:-1]
        for batch in (1, 8)
    }
    assert kernels[1] == kernels[8] and "Keras" not in kernels[1]


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 4, 11])
def test_a_fixed_batch_size_leaves_nothing_to_choose(tmp_path, two_dense, always_kernels, size):
    """What it has is for that size: 8 samples in a part and 3 after it, at most."""
    signature = [tf.TensorSpec((size, *two_dense.input_shape[1:]), "float32")]
    path, x = tmp_path / "m", images(two_dense, size)
    result = tfcomp.export(
        two_dense, path, optimize="latency", input_signature=signature, verbose=0
    )
    assert {row.batch for row in result.kernels["serve"]} == {size} and not result.left_out
    assert any(row.kernel != "Keras" for row in result.kernels["serve"])
    loaded = tf.saved_model.load(path)
    found = loaded.serve(x)
    np.testing.assert_allclose(found, two_dense(x), rtol=1e-5, atol=1e-5)
    (output,) = loaded.signatures["serving_default"].structured_outputs.values()
    assert output.shape == found.shape
    graph = loaded.signatures["serving_default"].graph.as_graph_def()
    assert not [f for f in graph.library.function if any("Case" in n.op for n in f.node_def)]


def test_a_model_of_a_fixed_batch_size(tmp_path, always_kernels):
    """Its layers take no other: kernels that need parts are none for it."""

    class Whole(keras.layers.Layer):
        def call(self, x):
            return keras.ops.reshape(x, (12, 2, 64))

    model = keras.Sequential([keras.Input(batch_shape=(12, 128)), K.Dense(128), Whole()])
    in_vectors(model.layers[0].kernel, 16, 0.2)
    x, path = images(model, 12), tmp_path / "m"
    signature = [tf.TensorSpec((12, 128), "float32")]
    result = tfcomp.export(model, path, optimize="latency", input_signature=signature, verbose=0)
    kernels = result.kernels["serve"]
    assert [row.kernel for row in kernels] == ["shared inputs, 16 outputs", "kernels"]
    assert any("samples depend on each other" in each.reason for each in kernels.left_out)
    loaded = tf.saved_model.load(path)
    np.testing.assert_allclose(loaded.serve(x), model(x), rtol=1e-5, atol=1e-5)


def test_inputs_of_different_batch_sizes(tmp_path):
    inputs = [keras.Input((4,)) for _ in range(2)]
    model = keras.Model(inputs, [K.Dense(2)(x) for x in inputs])
    signature = [[tf.TensorSpec((size, 4)) for size in (None, 2)]]
    with pytest.raises(ValueError, match=r"`input_signature`.*the same for all inputs"):
        tfcomp.export(
            model, tmp_path / "m", optimize="latency", input_signature=signature, verbose=0
        )


def test_the_table_is_stored_with_the_folder(tmp_path):
    model = pruned(K.Dense(64), (128,), 16, 0.1)
    result = tfcomp.export(model, tmp_path / "m", optimize="latency", verbose=0)
    stored = json.loads((tmp_path / "m" / "assets.extra" / "kernels.json").read_text())["serve"]
    found = result.kernels["serve"]
    assert [row["kernel"] for row in stored["kernels"]] == [row.kernel for row in found]
    assert stored["seconds"] == found.seconds > 0
    assert f"{found.seconds:.1f} seconds" in repr(found)


@pytest.fixture
def two_dense():
    model = keras.Sequential([keras.Input((128,)), K.Dense(128), K.Dense(128), K.Dense(3)])
    for layer in model.layers[:2]:
        in_vectors(layer.kernel, 16, 0.2)
    return model


def test_the_table_says_why_a_kernel_was_not_chosen(tmp_path, two_dense, monkeypatch):
    kept = trial._check

    def check(found, expected):
        # As if one of the kernels computed something else.
        kept(found + 1e-3 * (found.shape == (1, 128) and seen.append(0) is None), expected)

    seen = []
    monkeypatch.setattr(trial, "_check", check)
    result = tfcomp.export(two_dense, tmp_path / "m", optimize="latency", verbose=0)
    first = result.kernels["serve"][0]
    assert first.kernel == "Keras" and seen
    assert {"shared inputs, 16 outputs", "gathered", "few bits"} <= set(first.others)
    assert "its outputs differ by 1.0e-03 of" in first.others["gathered"]
    assert "two scales" in first.others["few bits"]
    assert "few bits: its values" in first.why
    (small,) = result.kernels["serve"].left_out
    assert small.path == two_dense.layers[2].path and "it is small" in small.reason


def test_slower_kernels_say_by_how_much(tmp_path, two_dense, monkeypatch):
    kept = trial.Trial._measured

    def measured(self, batch):
        seconds, refused = kept(self, batch)
        of_each = 5e-4 * np.arange(1, seconds.shape[1] + 1)
        return np.where(np.isinf(seconds), np.inf, of_each), refused

    monkeypatch.setattr(trial.Trial, "_measured", measured)
    result = tfcomp.export(two_dense, tmp_path / "m", optimize="latency", verbose=0)
    first = result.kernels["serve"][0]
    assert first.kernel == "Keras" and first.keras_milliseconds == 0.5
    assert first.others["shared inputs, 16 outputs"] == "slower: 1.000 ms"


def test_layers_of_the_same_shapes_are_timed_once(tmp_path, two_dense, monkeypatch):
    timed, kept = [], trial.warm_and_cold
    monkeypatch.setattr(trial, "warm_and_cold", lambda *args: timed.append(0) or kept(*args))
    result = tfcomp.export(two_dense, tmp_path / "m", optimize="latency", verbose=0)
    first, second, _ = result.kernels["serve"]
    assert len(timed) == 1 and first.keras_milliseconds == second.keras_milliseconds
    assert first.path != second.path


def test_kernels_are_tried_for_so_many_seconds(tmp_path, two_dense):
    result = tfcomp.export(
        two_dense, tmp_path / "m", optimize="latency", search_seconds=0, verbose=0
    )
    kernels = result.kernels["serve"]
    assert [row.path for row in kernels] == ["(whole model)"] and kernels[0].kernel == "Keras"
    late = [each.path for each in kernels.left_out if "0 seconds were used up" in each.reason]
    assert sorted(late) == sorted(layer.path for layer in two_dense.layers[:2])
    x = images(two_dense, 3)
    loaded = tf.saved_model.load(tmp_path / "m")
    np.testing.assert_allclose(loaded.serve(x), two_dense(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"optimize": "speed"}, "`optimize`.*'size' or 'latency'"),
        ({"optimize": "latency", "batch_sizes": ()}, "`batch_sizes`"),
        ({"optimize": "latency", "batch_sizes": (0,)}, "`batch_sizes`.*>= 1"),
        ({"optimize": "latency", "batch_sizes": ("1",)}, "`batch_sizes`"),
        ({"optimize": "latency", "search_seconds": -1}, "`search_seconds`.*>= 0"),
        ({"optimize": "latency", "format": "torch"}, "`optimize`.*'size' with format='torch'"),
        (
            {"optimize": "latency", "input_signature": [tf.TensorSpec((0, 4))]},
            "`input_signature`.*has to be free, or the same",
        ),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    model = keras.Sequential([keras.Input((4,)), K.Dense(2)])
    with pytest.raises(ValueError, match=message):
        tfcomp.export(model, tmp_path / "m", verbose=0, **arguments)
    assert not (tmp_path / "m").exists()


def test_a_size_that_is_not_known(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), K.Dense(2)])
    with pytest.raises(ValueError, match=r"`input_signature`.*give all sizes"):
        tfcomp.export(model, tmp_path / "m", optimize="latency", verbose=0)
