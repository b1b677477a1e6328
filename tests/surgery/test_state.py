"""swap_layers: a layer that is kept keeps everything it holds, weights or not."""

import importlib
import inspect
import pkgutil
import random

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.layers import QuantizedDense, TernaryDense

DENSE = keras.layers.Dense
X = np.random.default_rng(0).normal(size=(4, 6)).astype("float32")
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="takes strings, or TensorFlow's lookups"
)


def chain(*layers, like=X, perturbed=True):
    """A functional model of layers, with weights as if trained."""
    inputs = x = keras.Input(like.shape[1:], dtype=str(like.dtype).replace("object", "string"))
    for layer in layers:
        x = layer(x)
    model = keras.Model(inputs, x)
    generator = np.random.default_rng(1)
    for weight in model.weights if perturbed else []:
        if keras.backend.is_float_dtype(weight.dtype):
            weight.assign(weight + 0.1 * np.abs(generator.normal(size=weight.shape)))
    return model


numpy = keras.ops.convert_to_numpy


def outputs(model, data, training=False):
    if data.dtype == object:
        data = keras.ops.convert_to_tensor(data)
    random.seed(0)
    found = keras.tree.flatten(model(data, training=training))
    return [numpy(y.to_tensor() if hasattr(y, "to_tensor") else y) for y in found]


def assert_kept(model, data, training=False, rules=None):
    swapped = tfcomp.swap_layers(model, rules or {...: None})
    pairs = zip(outputs(model, data, training), outputs(swapped, data, training), strict=True)
    for a, b in pairs:
        np.testing.assert_array_equal(a, b)
    return swapped


def words(*rows):
    return np.array(rows, dtype=object)


NAMES = words(["m"], ["f"], ["x"], ["f"], ["two\nlines"], ["u v"])
TEXT = words(["a b c"], ["b c"], ["c d e f"])
NUMBERS = np.array([[3], [5], [5], [9]])
NOISE = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
WAVE = np.random.default_rng(0).normal(size=(2, 256)).astype("float32")
FACTOR = {"factor": 0.3}
# Name of a layer, its arguments, what it is adapted to or called on, whether it is adapted.
PREPROCESSING = [
    ("Normalization", {}, NOISE * 10 + 50, True),
    ("Normalization", {"axis": None, "invert": True}, NOISE * 10 + 50, True),
    ("Normalization", {"mean": 2.0, "variance": 3.0}, NOISE, False),
    ("Discretization", {"num_bins": 4}, NOISE, True),
    ("Discretization", {"bin_boundaries": [-0.3, 0.2], "output_mode": "multi_hot"}, NOISE, False),
    ("CategoryEncoding", {"num_tokens": 12, "output_mode": "multi_hot"}, NUMBERS, False),
    ("Hashing", {"num_bins": 7, "salt": [133, 137]}, NAMES, False),
    ("StringLookup", {}, NAMES, True),
    ("StringLookup", {"output_mode": "one_hot", "num_oov_indices": 2}, NAMES, True),
    ("StringLookup", {"output_mode": "tf_idf"}, NAMES, True),
    ("StringLookup", {"vocabulary": ["q", "f"], "mask_token": "m"}, NAMES, False),
    ("IntegerLookup", {"output_mode": "count"}, NUMBERS, True),
    ("TextVectorization", {}, TEXT, True),
    ("TextVectorization", {"output_mode": "tf_idf", "ngrams": 2}, TEXT, True),
    ("TextVectorization", {"standardize": lambda text: text}, TEXT, True),
    ("Rescaling", {"scale": 1 / 255, "offset": 0.1}, IMAGES, False),
    ("Resizing", {"height": 4, "width": 4}, IMAGES, False),
    ("CenterCrop", {"height": 4, "width": 4}, IMAGES, False),
    ("STFTSpectrogram", {"frame_length": 8, "frame_step": 4}, WAVE[..., None], False),
    ("MelSpectrogram", {"fft_length": 64, "num_mel_bins": 4, "sampling_rate": 999}, WAVE, False),
    ("AutoContrast", {}, IMAGES, False),
    ("Solarization", {}, IMAGES, False),
    ("AugMix", {}, IMAGES, False),
    ("CutMix", {}, IMAGES, False),
    ("MixUp", {}, IMAGES, False),
    ("RandAugment", {}, IMAGES, False),
    ("RandomBrightness", FACTOR, IMAGES, False),
    ("RandomColorDegeneration", FACTOR, IMAGES, False),
    ("RandomColorJitter", {"brightness_factor": 0.3, "hue_factor": 0.3}, IMAGES, False),
    ("RandomContrast", FACTOR, IMAGES, False),
    ("RandomCrop", {"height": 4, "width": 4}, IMAGES, False),
    ("RandomElasticTransform", {}, IMAGES, False),
    ("RandomErasing", {}, IMAGES, False),
    ("RandomFlip", {}, IMAGES, False),
    ("RandomGaussianBlur", {}, IMAGES, False),
    ("RandomGrayscale", FACTOR, IMAGES, False),
    ("RandomHue", FACTOR, IMAGES, False),
    ("RandomInvert", FACTOR, IMAGES, False),
    ("RandomPerspective", {}, IMAGES, False),
    ("RandomPosterization", {"factor": 4}, IMAGES, False),
    ("RandomRotation", FACTOR, IMAGES, False),
    ("RandomSaturation", FACTOR, IMAGES, False),
    ("RandomSharpness", FACTOR, IMAGES, False),
    ("RandomShear", {"x_factor": 0.3}, IMAGES, False),
    ("RandomTranslation", {"height_factor": 0.3, "width_factor": 0.3}, IMAGES, False),
    ("RandomZoom", {"height_factor": 0.3}, IMAGES, False),
]
# In models of their own below, or not made to be a layer of one: what takes boxes, and what is only
# eager in this version of Keras.
ELSEWHERE = {"HashedCrossing", "Pipeline", "MaxNumBoundingBoxes"}
EAGER = {"Equalization", "ContrastLimitedAdaptiveHistogramEqualization"}


def test_no_preprocessing_layer_is_forgotten():
    package = importlib.import_module("keras.src.layers.preprocessing")
    found = set()
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("_test"):
            for name, cls in vars(importlib.import_module(module.name)).items():
                if inspect.isclass(cls) and getattr(keras.layers, name, None) is cls:
                    found.add(name)
    found = {name for name in found if issubclass(getattr(keras.layers, name), keras.layers.Layer)}
    assert found - {name for name, *_ in PREPROCESSING} <= ELSEWHERE | EAGER | {"Layer"}


@pytest.mark.parametrize(("name", "arguments", "data", "adapted"), PREPROCESSING)
def test_preprocessing_layers(name, arguments, data, adapted):
    if keras.backend.backend() != "tensorflow" and (data.dtype == object or "Lookup" in name):
        pytest.skip("looks words up with TensorFlow")
    layer = getattr(keras.layers, name)(**arguments)
    if adapted:
        layer.adapt(keras.ops.convert_to_tensor(data) if data.dtype == object else data)
    model = chain(layer, like=data, perturbed=False)
    for training in (False, True):
        swapped = assert_kept(model, data, training)
    assert swapped.layers[-1] is not layer


@on_tensorflow
def test_pipelines_and_crossings():
    normalization = keras.layers.Normalization()
    normalization.adapt(IMAGES)
    pipeline = keras.layers.Pipeline([normalization, keras.layers.RandomFlip()])
    assert_kept(chain(pipeline, like=IMAGES, perturbed=False), IMAGES, True)
    a, b = keras.Input((1,), dtype="string"), keras.Input((1,), dtype="string")
    model = keras.Model([a, b], keras.layers.HashedCrossing(5)([a, b]))
    names = keras.ops.convert_to_tensor(NAMES)
    swapped = tfcomp.swap_layers(model, {...: None})
    np.testing.assert_array_equal(swapped([names, names]), model([names, names]))


def test_adapted_normalization_beside_a_swapped_layer(tmp_path):
    normalization = keras.layers.Normalization()
    normalization.adapt(X * 10 + 50)
    model = chain(normalization, DENSE(2), perturbed=False)
    swapped = assert_kept(model, X, rules={DENSE: QuantizedDense})
    swapped.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(outputs(loaded, X)[0], outputs(model, X)[0])


def test_normalization_whose_weights_were_set_after_it_computed_with_them():
    """Keras goes on with the means from before, as the swapped model must."""
    model = chain(keras.layers.Normalization(), DENSE(2), perturbed=False)
    model.set_weights([weight + 3 for weight in model.get_weights()])
    assert_kept(model, X)
    assert_kept(model, X, rules={DENSE: QuantizedDense})


def test_adapted_layer_of_a_model_that_is_not_built():
    normalization = keras.layers.Normalization()
    normalization.adapt(X * 10 + 50)
    swapped = tfcomp.swap_layers(keras.Sequential([normalization, DENSE(2)]), {...: None})
    np.testing.assert_array_equal(numpy(swapped.layers[0](X)), numpy(normalization(X)))


@pytest.mark.parametrize("mode", ["int8", "int4", "float8"])
def test_models_that_keras_quantized(mode):
    model = chain(DENSE(8, name="a"), DENSE(4, name="b"))
    model.quantize(mode)
    assert_kept(model, X)
    with pytest.raises(ValueError, match=f"'a' cannot be replaced: .*quantized to {mode}"):
        tfcomp.swap_layers(model, {DENSE: QuantizedDense})


@pytest.mark.parametrize("mode", [None, "int8"])
def test_lora_is_kept(mode):
    model = chain(DENSE(8, name="a"), DENSE(4, name="b"))
    if mode:
        model.quantize(mode)
    layer = model.get_layer("a")
    layer.enable_lora(2, lora_alpha=5)
    layer.lora_kernel_b.assign(np.ones((2, 8)))
    swapped = assert_kept(model, X).get_layer("a")
    assert swapped.lora_enabled and swapped.lora_alpha == 5
    np.testing.assert_array_equal(numpy(swapped.lora_kernel_a), numpy(layer.lora_kernel_a))
    assert len(swapped.trainable_weights) == len(layer.trainable_weights)


@keras.saving.register_keras_serializable("tests")
class Tied(keras.layers.Layer):
    """Computes with the weights of another layer."""

    def __init__(self, of, **kwargs):
        super().__init__(**kwargs)
        self.of = of

    def call(self, inputs):
        return keras.ops.matmul(inputs, keras.ops.transpose(self.of.kernel))

    def get_config(self):
        return {**super().get_config(), "of": keras.saving.serialize_keras_object(self.of)}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "of": keras.saving.deserialize_keras_object(config["of"])})


@pytest.mark.parametrize("rules", [{...: None}, {"kept": TernaryDense}, {"dense": TernaryDense}])
def test_tied_layers_stay_tied(rules):
    dense = DENSE(5, name="dense")
    model = chain(dense, DENSE(5, name="kept"), Tied(dense, name="tied"))
    swapped = tfcomp.swap_layers(model, rules)
    assert swapped.get_layer("tied").of is swapped.get_layer("dense") is not dense
    assert type(swapped.get_layer("dense")) is (TernaryDense if "dense" in rules else DENSE)
    assert len(swapped.weights) == len(model.weights)
    assert model.get_layer("tied").of is dense


def test_lambdas_and_functions_of_ones_own():
    three = 3.0

    def triple(x):
        return three * x

    class Sum(keras.regularizers.Regularizer):
        def __call__(self, x):
            return keras.ops.sum(x)

        def get_config(self):
            return {}

    steps = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    model = chain(
        keras.layers.Lambda(lambda x: keras.ops.exp(x) / three),
        keras.layers.TimeDistributed(keras.layers.Lambda(lambda x: keras.ops.sin(x) * three)),
        DENSE(6, activation=lambda x: keras.ops.relu(x) + three),
        DENSE(6, activation=triple, kernel_regularizer=Sum(), name="last"),
        like=steps,
    )
    assert_kept(model, steps)
    swapped = tfcomp.swap_layers(model, {DENSE: TernaryDense}).get_layer("last")
    assert swapped.activation is triple and isinstance(swapped.kernel_regularizer, Sum)


class Unnamed(keras.layers.Layer):
    """Weights without a name, and two of one name."""

    def build(self, shape):
        self.pair = [self.add_weight(shape=shape[-1:], name="w") for _ in range(2)]
        self.many = [self.add_weight(shape=shape[-1:]) for _ in range(12)]

    def call(self, x):
        for scale in (*self.pair, *self.many):
            x = scale * x + scale
        return x


def test_weights_without_a_name():
    model = chain(Unnamed(name="scales"), DENSE(2, name="out"))
    swapped = assert_kept(model, X, rules={"out": QuantizedDense})
    for a, b in zip(model.get_weights(), swapped.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_states_of_recurrent_layers_and_seeds():
    inputs = keras.Input(batch_shape=(2, 3, 6))
    lstm = keras.layers.LSTM(4, stateful=True)
    model = keras.Model(inputs, keras.layers.Dropout(0.5)(lstm(inputs)))
    data = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")
    model(data)
    states = [numpy(state) for state in lstm.states]
    swapped = tfcomp.swap_layers(model, {...: None})
    for before, old, new in zip(states, lstm.states, swapped.layers[1].states, strict=True):
        assert np.any(before != 0)
        np.testing.assert_array_equal(numpy(old), before)
        np.testing.assert_array_equal(numpy(new), before)
    if keras.backend.backend() != "torch":
        # There dropout takes no seed.
        np.testing.assert_array_equal(model(data, training=True), swapped(data, training=True))


def test_what_is_frozen_stays_frozen():
    inner = keras.Sequential([keras.Input((6,)), DENSE(6), keras.layers.BatchNormalization()])
    inner.trainable = False
    model = chain(inner, DENSE(3))
    model.layers[-1].bias.trainable = False
    swapped = assert_kept(model, X)
    assert not swapped.layers[1].trainable
    assert [v.path for v in swapped.trainable_variables] == [
        v.path for v in model.trainable_variables
    ]


def test_models_that_share_a_model():
    shared = keras.Sequential([DENSE(6, name="x"), DENSE(6, name="y")], name="shared")
    inputs = keras.Input((6,))
    outer = keras.Model(inputs, shared(shared(inputs)), name="outer")
    model = chain(outer, shared, DENSE(2))
    swapped = tfcomp.swap_layers(model, {"x": TernaryDense})
    assert swapped.get_layer("outer").layers[1] is swapped.get_layer("shared")
    assert type(swapped.get_layer("shared").layers[0]) is TernaryDense
    assert len(swapped.weights) == len(model.weights)


def test_wrappers_of_every_kind():
    layers = keras.layers
    model = chain(
        layers.TimeDistributed(DENSE(6)),
        layers.Bidirectional(
            layers.GRU(3, return_sequences=True),
            backward_layer=layers.LSTM(3, return_sequences=True, go_backwards=True),
        ),
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(4)]),
        layers.Reshape((2, 2)),
        layers.TimeDistributed(keras.Sequential([DENSE(3, name="in"), layers.UnitNormalization()])),
        like=np.zeros((2, 5, 6), "float32"),
    )
    data = np.random.default_rng(0).normal(size=(2, 5, 6)).astype("float32")
    swapped = assert_kept(model, data, rules={DENSE: QuantizedDense})
    assert type(swapped.layers[-1].layer.layers[0]) is QuantizedDense
    # Their configs have the new layers: nothing to remember.
    assert type(swapped.layers[-1]) is layers.TimeDistributed


def test_sparse_and_optional_inputs():
    optional = keras.Input((6,), optional=True, name="optional")
    sparse = keras.Input((6,), sparse=keras.backend.backend() != "torch", name="sparse")
    model = keras.Model([sparse, optional], [DENSE(2)(sparse), DENSE(2)(optional)])
    swapped = tfcomp.swap_layers(model, {...: None})
    assert [(t.name, t.sparse) for t in swapped.inputs] == [
        (t.name, t.sparse) for t in model.inputs
    ]
    assert [layer.optional for layer in swapped.layers if hasattr(layer, "optional")] == [
        layer.optional for layer in model.layers if hasattr(layer, "optional")
    ]


def test_compiled_with_a_loss_of_ones_own():
    def loss(true, predicted):
        return keras.ops.mean(keras.ops.abs(true - predicted))

    model = chain(DENSE(3))
    model.compile(keras.optimizers.Adam(0.25), loss=loss, metrics=[loss, keras.metrics.Mean()])
    swapped = assert_kept(model, X)
    assert swapped.loss is loss and float(swapped.optimizer.learning_rate) == 0.25
    assert swapped.optimizer is not model.optimizer


def test_models_of_ones_own_class():
    class Trained(keras.Model):
        def train_step(self, *arguments):
            return super().train_step(*arguments)

    inputs = keras.Input((6,))
    model = Trained(inputs, DENSE(2)(inputs))
    model.temperature = 0.5
    swapped = assert_kept(model, X)
    assert type(swapped) is Trained and swapped.temperature == 0.5


class Held(keras.layers.Layer):
    """Computes with something that no config, variable or file has."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.factor = 1.0

    def call(self, inputs):
        return inputs * self.factor


def test_settings_made_by_hand_are_copied():
    held = Held()
    model = chain(held, DENSE(2))
    held.factor = 4.0
    assert_kept(model, X)


def test_the_first_layer_that_differs_is_named():
    held = Held(name="held")
    model = chain(DENSE(6), held, DENSE(2), keras.layers.Softmax())
    held.factor = keras.ops.full((6,), 4.0)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"'held', a Held, which no rule covers.*a difference of"):
        tfcomp.swap_layers(model, {DENSE: TernaryDense})
    with pytest.raises(ValueError, match="'held'"):
        tfcomp.swap_layers(model, {DENSE: TernaryDense}, verify=X)
    tfcomp.swap_layers(model, {DENSE: TernaryDense}, verify=False)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_layers_that_differ_from_themselves_are_let_pass():
    class Noise(keras.layers.Layer):
        def call(self, inputs):
            return inputs + np.random.default_rng().normal()

    swapped = tfcomp.swap_layers(chain(Noise(), DENSE(2)), {DENSE: TernaryDense})
    assert [type(layer) for layer in swapped.layers[1:]] == [Noise, TernaryDense]


class Foreign(keras.layers.Layer):
    """Its config is wrong."""

    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)
        self.of = function

    def call(self, inputs):
        return inputs * 2 if self.of is None else self.of(inputs)

    def get_config(self):
        return {**super().get_config(), "depth": 2}


def test_layers_that_reject_their_config():
    assert_kept(chain(Foreign(None), DENSE(2)), X, rules={DENSE: QuantizedDense})
    # Nobody knows what this one was made with.
    model = chain(Foreign(keras.ops.sin, name="foreign"), DENSE(2))
    with pytest.raises(ValueError, match=r"'foreign', a Foreign, cannot be copied.*'depth'"):
        tfcomp.swap_layers(model, {DENSE: TernaryDense})
