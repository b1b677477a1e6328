"""Batch normalizations become part of the product before them, and compute what they did."""

import json

import keras
import numpy as np
import pytest
from latency_plans import always, drawn, exported, later_is_faster, random_weights, stored, units_of

import tfcomp

tf = pytest.importorskip("tensorflow")

from tfcomp.exporters.latency.flow import layer_flow  # noqa: E402
from tfcomp.exporters.latency.norms import Folded, Norm, Scaled  # noqa: E402
from tfcomp.model.final_weights import FinalWeights  # noqa: E402

pytestmark = pytest.mark.tensorflow
K, T = keras.layers, tfcomp.layers


@pytest.fixture(autouse=True)
def whatever_it_takes(monkeypatch):
    later_is_faster(monkeypatch)


def with_norm(shape, layer):
    layers = [keras.Input(shape), layer, K.BatchNormalization()]
    return random_weights(keras.Sequential(layers))


def test_by_hand():
    """3 x - 1, then gamma 2, beta 1, mean 5, variance 3.75 + 0.25: (3x - 1 - 5) / 2 * 2 + 1."""
    model = keras.Sequential([keras.Input((1,)), K.Dense(1), K.BatchNormalization(epsilon=0.25)])
    for variable, value in zip(model.variables, (3, -1, 2, 1, 5, 3.75), strict=True):
        variable.assign(np.full(variable.shape, value))
    ((unit,), left, flow, final) = units_of(model)
    (folded,) = unit.candidates
    assert [array.tolist() for array in folded.arrays] == [[[3]], [-5]] and not left
    norm = Norm(flow[unit.numbers[1]], final)
    assert (norm.factor.tolist(), norm.shift.tolist()) == ([1], [-4])


PRODUCTS = {
    "dense": (lambda: K.Dense(5), (6,)),
    "dense of sequences": (lambda: K.Dense(5, use_bias=False), (4, 6)),
    "conv1d": (lambda: K.Conv1D(5, 3, padding="causal", dilation_rate=2), (9, 4)),
    "conv2d": (lambda: K.Conv2D(6, 3, 2, "same", use_bias=False), (7, 6, 4)),
    "groups": (lambda: K.Conv2D(6, 3, groups=2), (7, 6, 4)),
    "conv3d": (lambda: K.Conv3D(3, 2, use_bias=False), (4, 5, 6, 2)),
    "depthwise 1d": (lambda: K.DepthwiseConv1D(3, depth_multiplier=2), (9, 4)),
    "depthwise 2d": (lambda: K.DepthwiseConv2D(3, depth_multiplier=3, use_bias=False), (6, 7, 2)),
    "separable 1d": (lambda: K.SeparableConv1D(5, 3), (9, 4)),
    "separable 2d": (lambda: K.SeparableConv2D(5, 3, use_bias=False), (6, 7, 3)),
    "transposed 1d": (lambda: K.Conv1DTranspose(5, 3, 2), (6, 4)),
    "transposed 2d": (lambda: K.Conv2DTranspose(5, 3, 2, "same", use_bias=False), (4, 5, 3)),
    "transposed 3d": (lambda: K.Conv3DTranspose(2, 2), (3, 4, 2, 3)),
    "ternary": (lambda: T.TernaryConv2D(5, 3), (7, 6, 4)),
    "ternary depthwise": (
        lambda: T.QuantizedDepthwiseConv2D(3, depthwise_quantizer="ternary"),
        (7, 6, 4),
    ),
}


def normalized(x, layer, axis=-1):
    """Batch normalization at inference, written out."""
    shape = [1] * x.ndim
    shape[axis] = -1
    gamma, beta, mean, variance = (
        np.asarray(w, np.float64).reshape(shape) for w in layer.get_weights()
    )
    return gamma * (x - mean) / np.sqrt(variance + layer.epsilon) + beta


@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name):
    make, shape = PRODUCTS[name]
    layer, norm = make(), K.BatchNormalization()
    model = random_weights(keras.Sequential([keras.Input(shape), layer, norm]))
    ((unit,), left, *_) = units_of(model)
    assert unit.layers == [layer, norm] and not left
    folded = unit.candidates[0]
    assert isinstance(folded, Folded)
    x = drawn(3, *shape)
    expected = normalized(np.asarray(layer(x), np.float64), norm)
    found = folded.compute(tf.constant(x), [tf.constant(array) for array in folded.arrays])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


def test_a_norm_without_scale_and_center():
    norm = K.BatchNormalization(scale=False, center=False)
    model = random_weights(keras.Sequential([keras.Input((6,)), K.Dense(5), norm]))
    ((unit,), *_) = units_of(model)
    mean, variance = (np.asarray(v) for v in (norm.moving_mean, norm.moving_variance))
    factor = 1 / np.sqrt(variance + 1e-3)
    kernel, bias = model.layers[0].get_weights()
    np.testing.assert_allclose(unit.candidates[0].arrays[0], kernel * factor, rtol=1e-6)
    np.testing.assert_allclose(
        unit.candidates[0].arrays[1], (bias - mean) * factor, rtol=1e-5, atol=1e-6
    )


def test_channels_first():
    layer = K.Conv2D(5, 3, data_format="channels_first", use_bias=False)
    inputs = keras.Input((4, 7, 6))
    model = random_weights(keras.Model(inputs, K.BatchNormalization(axis=1)(layer(inputs))))
    ((unit,), *_) = units_of(model)
    folded = unit.candidates[0]
    kernel, gamma, *_, variance = map(np.asarray, model.get_weights())
    factor = gamma / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(folded.arrays[0], kernel * factor, rtol=1e-6)
    # Channels last, which every machine computes.
    x = drawn(2, 4, 7, 6)
    try:
        found = folded.compute(tf.constant(x), [tf.constant(array) for array in folded.arrays])
    except tf.errors.OpError:
        pytest.skip("TensorFlow has no kernel for channels_first here")
    by_last = keras.ops.conv(x.transpose(0, 2, 3, 1), kernel, 1, "valid", "channels_last")
    expected = normalized(np.asarray(by_last), model.layers[-1]).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def kernels_of(units):
    return {unit.path: [c.name for c in unit.candidates] for unit in units}


def test_what_is_not_folded():
    """Other readers, activations, other axes, what multiplies nothing: the norm stays by itself."""
    inputs = keras.Input((8, 8, 4))
    read = K.Conv2D(4, 3, padding="same", name="read")(inputs)
    first = K.BatchNormalization(name="first")(read)
    active = K.Conv2D(4, 3, padding="same", activation="relu", name="active")(
        K.Add()([read, first])
    )
    second = K.BatchNormalization(name="second")(active)
    other = K.Conv2D(8, 3, padding="same", name="other")(second)
    third = K.BatchNormalization(axis=2, name="third")(other)
    last = K.BatchNormalization(name="last")(K.MaxPooling2D()(third))
    model = random_weights(keras.Model(inputs, last))
    units, _, _, _ = units_of(model)
    alone = {name: ["one product and sum"] for name in ("first", "second", "third", "last")}
    assert alone.items() <= kernels_of(units).items()
    assert not any("folded" in names for names in kernels_of(units).values())
    for unit in units:
        if unit.path in alone:
            x = unit.draw(2)
            (candidate,) = unit.candidates
            found = candidate.compute(x, [tf.constant(array) for array in candidate.arrays])
            expected = normalized(x.numpy(), unit.layers[0], unit.layers[0].axis)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_an_output_of_the_model_is_another_reader():
    inputs = keras.Input((6,))
    x = K.Dense(5, name="dense")(inputs)
    model = keras.Model(inputs, [x, K.BatchNormalization(name="norm")(x)])
    units, *_ = units_of(model)
    assert kernels_of(units) == {"norm": ["one product and sum"]}


class Training(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense, self.norm = K.Dense(5), K.BatchNormalization()

    def call(self, x):
        return self.norm(self.dense(x), training=True)


def test_norms_that_train_are_left_alone(tmp_path):
    model = Training()
    x = drawn(8, 6)
    model(x)
    final = FinalWeights(model)
    flow = layer_flow(model, [tf.TensorSpec((None, 6))], final.scope)
    assert model.norm not in [seen.layer for seen in flow.values()]
    assert all(seen.following is None for seen in flow.values())
    signature = [tf.TensorSpec((None, 6))]
    y, _ = exported(model, tmp_path / "m", x, input_signature=signature)
    expected = np.asarray(x @ model.dense.get_weights()[0])
    np.testing.assert_allclose(np.mean(y, axis=0), 0, atol=1e-5)
    assert expected.shape == y.shape


def test_what_another_endpoint_changes_is_not_folded(tmp_path):
    model = random_weights(
        keras.Sequential([keras.Input((6,)), K.Dense(5), K.BatchNormalization()])
    )

    @tf.function(input_signature=[tf.TensorSpec((None, 6))])
    def adapt(x):
        return model(x, training=True)

    done = tfcomp.export(
        model, tmp_path / "m", verbose=0, optimize="latency", signatures={"adapt": adapt}
    )
    assert not [row for row in done.kernels["serve"] if "folded" in row.kernel]
    assert "tf.function" in dict(done.kernels["adapt"].left_out)["adapt"]
    served, x = tf.saved_model.load(str(tmp_path / "m")), drawn(16, 6) + 3
    before = served.serve(x).numpy()
    for _ in range(3):
        served.adapt(x)
    assert np.abs(served.serve(x).numpy() - before).max() > 1e-3


def test_masks_reach_what_comes_behind(tmp_path):
    words = keras.Input((5,), dtype="int32")
    x = K.Embedding(9, 8, mask_zero=True)(words)
    x = K.BatchNormalization()(K.Dense(6, use_bias=False)(x))
    model = random_weights(keras.Model(words, K.LSTM(3)(x)))
    data = np.array([[1, 2, 3, 0, 0], [4, 5, 6, 7, 8]], "int32")
    y, _ = exported(model, tmp_path / "m", data)
    np.testing.assert_allclose(y, model(data), atol=1e-5)


class Block(keras.layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv = K.Conv2D(4, 3, padding="same", use_bias=False, name="conv")
        self.norm = K.BatchNormalization(name="norm")

    def build(self, shape):
        self.conv.build(shape)
        self.norm.build(shape)

    def call(self, x):
        return keras.ops.relu(self.norm(self.conv(x)))


def everything():
    """Blocks, a nested model that is called twice, a shared convolution, a norm called twice."""
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), K.DepthwiseConv2D(3, padding="same"), K.BatchNormalization()],
        name="inner",
    )
    inputs = keras.Input((8, 8, 3))
    x = K.BatchNormalization(name="one")(K.Conv2D(4, 3, padding="same", name="first")(inputs))
    x = inner(K.ReLU()(inner(x)))
    x = Block(name="block")(x)
    shared = K.Conv2D(4, 1, name="shared")
    x = K.BatchNormalization(name="two")(shared(x))
    y = K.BatchNormalization(name="three")(shared(x))
    x = K.Add()([x, y])
    model = keras.Model(inputs, K.Dense(3)(K.GlobalAveragePooling2D()(x)))
    return random_weights(model)


def test_blocks_nested_and_shared_layers(tmp_path):
    model, x = everything(), drawn(5, 8, 8, 3)
    expected = np.asarray(model(x))
    y, done = exported(model, tmp_path / "m", x)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    folded = [row.path for row in done.kernels["serve"] if row.kernel == "norm folded"]
    assert folded == [
        "first ... one",
        *2 * [folded[1]],
        "block/conv ... block/norm",
        "shared ... two",
        "shared ... three",
    ]
    assert folded[1].startswith("inner/")
    stored = json.loads((tmp_path / "m" / "assets.extra" / "kernels.json").read_text())["serve"]
    assert [row["path"] for row in stored["kernels"] if row["kernel"] == "norm folded"] == folded
    # Batches of sizes that were not named read the same kernels, and nothing else is left.
    definition = tf.saved_model.load(str(tmp_path / "m")).serve.concrete_functions[0].graph
    definition = definition.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    assert {"Conv2D", "DepthwiseConv2dNative"} <= {node.op for node in nodes}
    assert not {"Rsqrt", "Case", "StatelessCase"} & {node.op for node in nodes}


def test_endpoints_share_what_is_folded(tmp_path):
    model, x = with_norm((None, 6), K.Dense(500)), drawn(3, 4, 6)
    specs = {name: [tf.TensorSpec((None, size, 6))] for name, size in (("serve", 4), ("one", 1))}
    y, done = exported(model, tmp_path / "m", x, signatures=specs)
    served = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(served.one(x[:, :1]), y[:, :1], rtol=1e-4, atol=1e-4)
    assert all("norm folded" in {row.kernel for row in table} for table in done.kernels.values())
    large = [v for v in served.weights if v.shape.num_elements() >= 3000]
    assert len(done.kernels) == 2 and [tuple(v.shape) for v in large] == [(6, 500)]


class Standardized(K.Dense):
    """The kernel's scale makes no difference to it."""

    def call(self, inputs):
        return super().call(inputs) / keras.ops.std(self.kernel)


def test_layers_of_a_class_of_its_own_are_not_folded():
    for layer in (Standardized(5), type("Mine", (K.Dense,), {})(5)):
        units, *_ = units_of(with_norm((6,), layer))
        (unit,) = units
        assert [c.name for c in unit.candidates] == ["one product and sum"]


@pytest.mark.parametrize("buckets", [7, 5])
def test_kernels_that_are_computed_are_not_folded(tmp_path, buckets):
    """Not even where there are as many buckets as outputs."""
    model, x = with_norm((6,), T.HashedDense(5, buckets=buckets)), drawn(3, 6)
    found, _ = exported(model, tmp_path / "m", x, batch_sizes=(1, 8))
    np.testing.assert_allclose(found, model(x), rtol=1e-4, atol=1e-5)
    units, *_ = units_of(model)
    assert kernels_of(units) == {model.layers[1].path: ["one product and sum"]}


def test_compressed_kernels_stay_small(tmp_path):
    """Values of four levels take two bits each, whatever the norm multiplies them by."""
    conv = K.Conv2D(256, 3, use_bias=False)
    model = random_weights(
        keras.Sequential([keras.Input((9, 9, 64)), conv, K.BatchNormalization()])
    )
    rng = np.random.default_rng(0)
    conv.kernel.assign(rng.choice(np.float32([-0.3, -0.1, 0, 0.2]), conv.kernel.shape))
    y, done = exported(model, tmp_path / "m", x := drawn(2, 9, 9, 64))
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-4)
    assert "norm folded" in {row.kernel for row in done.kernels["serve"]}
    count = int(np.prod(conv.kernel.shape))
    assert done.weight_bytes == 4 * count + 4 * 4 * 256
    small = tfcomp.export(model, tmp_path / "s", verbose=0)
    assert done.file_bytes < small.file_bytes + 8_000 < count


def test_pruned_kernels_and_their_norm():
    """Zeros are left out, and the norm comes behind."""
    conv = K.Conv2D(64, 1)
    model = random_weights(
        keras.Sequential([keras.Input((4, 5, 96)), conv, K.BatchNormalization()])
    )
    kernel = np.zeros((96, 64), "float32")
    kernel[:10] = drawn(10, 64)
    conv.kernel.assign(kernel[None, None])
    ((unit,), *_) = units_of(model)
    assert unit.candidates[0].name == "norm folded" and len(unit.candidates) > 2
    x = unit.draw(2)
    expected = normalized(np.asarray(conv(x)), model.layers[-1])
    for candidate in unit.candidates[1:]:
        if "inputs" in candidate.name:
            # What is multiplied is what is added up: nothing comes behind but the sum.
            assert isinstance(candidate, Scaled)
            assert candidate.arrays[-1].shape == (64,)
        if not candidate.is_static or "samples" in candidate.name or "inputs" in candidate.name:
            found = candidate.compute(x, [tf.constant(array) for array in candidate.arrays])
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_norm_of_pruned_kernels_is_multiplied_on_loading(tmp_path, monkeypatch, shuffled):
    """Four values take two bits each, in any order of the outputs, whatever the norm is."""
    dense = K.Dense(512, use_bias=False)
    model = random_weights(keras.Sequential([keras.Input((512,)), dense, K.BatchNormalization()]))
    rng = np.random.default_rng(1)
    order = rng.permutation(512) if shuffled else np.arange(512)
    kernel = np.zeros((512, 512), "float32")
    for begin in range(0, 512, 64):
        rows = rng.permutation(512)[:50]
        part = rng.choice(np.float32([-0.3, -0.1, 0.1, 0.2]), (50, 64))
        kernel[np.ix_(rows, order[begin : begin + 64])] = part
    dense.kernel.assign(kernel)
    always(monkeypatch, "shared inputs")
    y, done = exported(model, tmp_path / "m", x := drawn(3, 512), batch_sizes=(4,))
    np.testing.assert_allclose(y, model(x), rtol=1e-4, atol=1e-4)
    assert {row.kernel.split(",")[0] for row in done.kernels["serve"]} >= {"shared inputs"}
    # Nor are they stored as the 25,600 products, of which no two are alike.
    assert stored(tmp_path / "m") < 40_000


def test_statistics_that_are_no_numbers():
    model = keras.Sequential([keras.Input((6,)), K.Dense(5), K.BatchNormalization(name="norm")])
    model.layers[-1].moving_variance.assign(np.full(5, -1.0))
    _, left, _, _ = units_of(model)
    reasons = {each.path.split("/")[-1]: each.reason for each in left}
    assert reasons["norm"].startswith("its statistics")
