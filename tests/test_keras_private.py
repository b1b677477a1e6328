"""Each private name of Keras and TensorFlow does what `keras_private` says it does."""

import ast
import copy
import inspect
import io
import os
import pathlib
import tempfile
import zipfile

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp import keras_private

# Where they were seen. One that is gone from a later version is to be written anew.
SEEN_IN = "Keras 3.13 to 3.15, TensorFlow 2.20 and 2.21"

PACKAGE = pathlib.Path(tfcomp.__file__).parent


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable.value)


def _functional():
    x = keras.Input((3,))
    return keras.Model(x, keras.layers.Dense(2)(x))


class _Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)

    def call(self, x):
        return self.dense(x)


def sublayers():
    layer = keras.layers.Bidirectional(keras.layers.LSTM(2))
    inner = keras_private.sublayers(layer)
    assert [type(part) for part in inner] == [keras.layers.LSTM, keras.layers.LSTM]
    assert keras_private.sublayers(inner[0]) == [inner[0].cell]


def stored_kernel():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    layer.enable_lora(1)
    assert keras_private.stored_kernel(layer) is layer.weights[0]
    assert keras_private.stored_kernel(keras.layers.Flatten()) is None


def mask_of():
    words = keras.ops.convert_to_tensor([[1, 0]])
    found = keras_private.mask_of(keras.layers.Embedding(3, 2, mask_zero=True)(words))
    assert keras.ops.convert_to_numpy(found).tolist() == [[True, False]]
    assert keras_private.mask_of(words) is None


def stored_embeddings():
    layer = keras.layers.Embedding(3, 2)
    layer.build()
    layer.enable_lora(1)
    assert keras_private.stored_embeddings(layer) is layer.weights[0]


def takes_training():
    assert keras_private.takes_training(keras.layers.Dropout(0.5))
    assert not keras_private.takes_training(keras.layers.Flatten())


def attention_projections():
    x = keras.Input((4, 6))
    for layer in (keras.layers.MultiHeadAttention(2, 3), keras.layers.GroupQueryAttention(3, 4, 2)):
        layer(x, x)
        found = keras_private.attention_projections(layer)
        assert set(found) == {"query", "key", "value", "output"}
        assert found["query"].kernel.shape == (6, layer.get_config().get("num_heads", 4), 3)


def answering_operations():
    x, seen = keras.Input((3,)), []

    def answer(operation, args, kwargs):
        seen.append((type(operation).__name__, args))
        return operation.compute_output_spec(*args, **kwargs)

    with keras_private.answering_operations(answer):
        assert keras.ops.exp(x).shape == (None, 3)
        with keras_private.answering_operations(None):
            keras.ops.log(x)
    assert seen == [("Exp", (x,))]
    made = keras_private.following(keras_private.producer(x))
    assert [type(operation).__name__ for operation in made] == ["Log"]
    assert keras.Operation.symbolic_call.__name__ == "symbolic_call"


def noticing_reads():
    variable, other, seen = keras.Variable([1.0, 2.0]), keras.Variable([0.0]), []
    with keras_private.noticing_reads(seen.append):
        assert keras.ops.convert_to_numpy(keras.ops.transpose(variable)).tolist() == [1, 2]
        with keras_private.noticing_reads(None):
            other.value  # noqa: B018
    assert seen and all(each is variable for each in seen)
    del seen[:]
    variable.value  # noqa: B018
    assert not seen


def run_graph():
    model, called = _functional(), []

    def call(operation, *args, **kwargs):
        called.append(operation)
        return args[0] + 1

    assert keras_private.run_graph(model, 1, call) == 2
    assert called == [model.layers[1]]


def forget_calls():
    model = _functional()
    keras_private.forget_calls(model.layers[0])
    assert not keras_private.following(model.layers[0])


def place_of():
    optimizer = keras.optimizers.SGD()
    variables = [keras.Variable([1.0]), keras.Variable([2.0])]
    optimizer.build(variables)
    assert keras_private.place_of(optimizer, variables[1]) == 1


def is_functional():
    assert keras_private.is_functional(_functional())
    assert keras_private.is_functional(keras.Sequential())
    assert not keras_private.is_functional(_Subclassed())


def was_called():
    model = _Subclassed()
    assert not keras_private.was_called(model)
    model(np.zeros((1, 3)))
    assert keras_private.was_called(model)


def input_signature():
    model = _Subclassed()
    model(np.zeros((4, 3)))
    for built in (model, _functional()):
        (spec,) = keras_private.input_signature(built)
        assert tuple(keras.tree.flatten(spec)[0].shape) == (None, 3)


def tensor_spec():
    if keras.backend.backend() == "tensorflow":
        spec = keras_private.tensor_spec(keras.InputSpec(shape=(None, 3), dtype="float16"))
        assert spec.shape.as_list() == [None, 3] and spec.dtype.name == "float16"


def home():
    class Own(keras.layers.MaxPooling2D):
        pass

    class Other(keras.layers.MaxPooling2D):
        def call(self, x):
            return x

    assert keras_private.home(Own()).startswith("layers.pooling.")
    assert keras_private.home(Other()) == ""
    x = keras.Input((3,))
    operations = [keras_private.producer(y) for y in (keras.ops.tanh(x), keras.ops.relu(x))]
    assert [keras_private.home(made) for made in operations] == ["ops.numpy", "ops.nn"]
    assert keras_private.home(_functional()) == "models.functional"
    assert keras_private.home(keras.Sequential()) == "models.sequential"


class _Named(keras.Model):
    """A functional model with a constructor of its own."""

    def __init__(self, units):
        x = keras.Input((3,))
        super().__init__(x, keras.layers.Dense(units)(x))


class _Sequence(keras.Sequential):
    pass


def is_remade_from_layers():
    models = [_functional(), keras.Sequential(), _Sequence(), _Named(2), _Subclassed()]
    found = [keras_private.is_remade_from_layers(model) for model in models]
    assert found == [True, True, True, False, False]


def trusting():
    config = keras.saving.serialize_keras_object(keras.layers.Lambda(lambda x: 2 * x))
    with pytest.raises(ValueError):
        keras.saving.deserialize_keras_object(copy.deepcopy(config))
    with keras_private.trusting():
        # Some versions have a safe mode of their own there.
        layer = keras.layers.Lambda.from_config(config["config"])
    assert float(layer(np.ones(1, "float32"))[0]) == 2


def compile_arguments():
    model, loss = _functional(), keras.losses.MeanSquaredError()
    model.compile("adam", loss, loss_weights=0.5)
    found = keras_private.compile_arguments(model)
    assert found["loss"] is loss and found["loss_weights"] == 0.5


def set_own_trainable():
    model = _functional()
    keras_private.set_own_trainable(model, False)
    assert not model.trainable and model.layers[1].trainable


def constructor_arguments():
    class Own(keras.layers.Layer):
        def __init__(self, size):
            super().__init__()
            self.size = size

    assert keras_private.constructor_arguments(Own(3)) == {"size": 3}
    assert keras_private.constructor_arguments(Own(object())) is None


def name_like():
    new, old = keras.layers.Dense(2, name="new"), keras.layers.Dense(2, name="old")
    outer = keras.Sequential([keras.Input((3,)), keras.Sequential([old], name="inner")])
    assert old.kernel.path.endswith("inner/old/kernel") and outer.built
    keras_private.name_like(new, old)
    new.build((None, 3))
    assert new.kernel.path == old.kernel.path.replace("/old/", "/new/")


def put_layer():
    model = _Subclassed()
    model(np.zeros((1, 3)))
    old, new = model.dense, keras.layers.Dense(5)
    new.build((None, 3))
    keras_private.put_layer(model, old, new)
    assert [id(v) for v in model.variables] == [id(v) for v in new.variables]
    model = keras.Sequential([keras.Input((3,)), old])
    keras_private.put_layer(model, old, new)
    keras_private.reconnect(model)
    assert model.layers == [new] and model.output_shape == (None, 5)


reconnect = put_layer


def put_operation():
    model = _functional()
    old, new = model.layers[1], keras.layers.Dense(2)
    new.build((None, 3))
    keras_private.put_operation(model, old, new)
    keras_private.put_layer(model, old, new)
    x = np.ones((1, 3), "float32")
    assert model.layers[1] is new and model.operations[1] is new
    wanted, found = (keras.ops.convert_to_numpy(part(x)) for part in (new, model))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def without_nodes():
    x = keras.Input((3,))
    product = keras.ops.expand_dims(x, 1)
    made = keras_private.producer(product)
    new = keras_private.without_nodes(made)
    assert keras_private.following(new) == [] and new is not made
    assert new(keras.Input((4,))).shape == (None, 1, 4)


def connected_like():
    model = _functional()
    dense = keras.layers.Dense(2)
    swapped = {id(model.layers[1]): dense}
    inputs = keras.Input((3,))
    new = keras_private.connected_like(model, inputs, lambda part: swapped.get(id(part), part))
    assert new.layers[1] is dense and new.name == model.name and new.input is inputs


def following():
    model = _functional()
    assert keras_private.following(model.layers[0]) == [model.layers[1]]


def producer():
    model = _functional()
    assert keras_private.producer(model.outputs[0]) is model.layers[1]


def origin():
    x, y = keras.Input((3, 4)), keras.Input((4, 5))
    product = keras.ops.matmul(x, x2=y)
    made = keras_private.origin(product)
    assert made.output is product and made.operation is keras_private.producer(product)
    assert any(part is x for part in (*made.args, *made.kwargs.values()))
    assert keras_private.origin(keras.KerasTensor((1, 3))) is None


Origin = origin


def forgetting_calls():
    model = _functional()
    first, dense = model.layers
    with keras_private.forgetting_calls(model.layers):
        keras.layers.ReLU()(dense(first.output))
        assert keras_private.following(first) == [dense, dense]
        assert len(keras_private.following(dense)) == 1
    assert keras_private.following(first) == [dense]
    assert keras_private.following(dense) == []


def layout():
    variable = keras.Variable(np.zeros(3))
    assert keras_private.layout(variable) is None
    # Other backends do not spread variables.
    assert keras.backend.backend() != "jax" or hasattr(variable, "_layout")


def assign_directly():
    variable = keras.Variable(np.zeros(3))
    with keras.StatelessScope() as scope:
        keras_private.assign_directly(variable, keras.ops.ones(3))
        assert scope.get_current_value(variable) is None
    assert _numpy(variable).tolist() == [1, 1, 1]


class _Reads(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=())

    def call(self, x):
        self.scope = keras_private.autocast_scope()
        with keras_private.without_autocast():
            self.stored = keras.ops.convert_to_tensor(self.scale).dtype
        self.cast = self.scope.maybe_cast(self.scale.value).dtype
        return x


def autocast_scope():
    layer = _Reads(dtype="mixed_float16")
    layer(np.zeros((1, 2), "float32"))
    standard = keras.backend.standardize_dtype
    assert (standard(layer.stored), standard(layer.cast)) == ("float32", "float16")
    assert keras_private.autocast_scope() is None


without_autocast = autocast_scope


def trainable_variables():
    optimizer, weight = keras.optimizers.Adam(), keras.Variable(np.zeros(3))
    optimizer.build([weight])
    (found,) = keras_private.trainable_variables(optimizer)
    assert found is weight


def untrack():
    optimizer, weight = keras.optimizers.SGD(), keras.Variable(np.zeros(3))
    optimizer.build([weight])
    before = len(optimizer.variables)
    added = optimizer.add_variable((2,), name="added")
    assert len(optimizer.variables) == before + 1
    keras_private.untrack(optimizer, added)
    assert len(optimizer.variables) == before


def batches():
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer = keras.optimizers.SGD(gradient_accumulation_steps=3)
    for _ in range(4):
        optimizer.apply([keras.ops.ones(2)], [weight])
    assert int(keras_private.batches(optimizer)) == 4 and int(optimizer.iterations) == 1


def moving_averages():
    weight = keras.Variable(np.zeros(2, "float32"))
    optimizer = keras.optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5)
    assert keras_private.moving_averages(optimizer) == {}
    for _ in range(2):
        optimizer.apply([keras.ops.ones(2)], [weight])
    # The first step's average is its value, -1; the second's is half of that and half of -2.
    (average,) = keras_private.moving_averages(optimizer).values()
    assert list(keras_private.moving_averages(optimizer)) == [id(weight)]
    assert _numpy(average).tolist() == [-1.5, -1.5]
    assert keras_private.moving_averages(keras.optimizers.SGD()) == {}


def is_model_file():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        store = keras_private.H5Store("model.weights.h5", archive=archive, mode="w")
        assert keras_private.is_model_file(store)
        store.close()
    store = keras_private.H5Store(io.BytesIO(), mode="w")
    assert not keras_private.is_model_file(store)
    store.close()


def is_backup():
    seen = []

    class Optimizer(keras.optimizers.SGD):
        def save_own_variables(self, store):
            seen.append(keras_private.is_backup(store))
            super().save_own_variables(store)

    with tempfile.TemporaryDirectory() as folder:
        model = _functional()
        model.compile(Optimizer(), "mse")
        backup = keras.callbacks.BackupAndRestore(os.path.join(folder, "backup"))
        model.fit(np.zeros((4, 3)), np.zeros((4, 2)), callbacks=[backup], verbose=0)
        assert seen and all(seen)
        seen.clear()
        model.save(os.path.join(folder, "model.keras"))
        model.save_weights(os.path.join(folder, "model.weights.h5"))
        assert seen and not any(seen)


def adamax_moments():
    optimizer, weight = keras.optimizers.Adamax(beta_1=0.5), keras.Variable(np.zeros(2))
    optimizer.apply([keras.ops.array([4.0, -2.0])], [weight])
    mean, largest = keras_private.adamax_moments(optimizer, weight)
    assert _numpy(mean).tolist() == [2, -1]
    assert _numpy(largest).tolist() == [4, 2]


class _Weights(keras_private.WeightStore):
    def __init__(self):
        self.groups = {}

    def make(self, path, metadata=None):
        return self.groups.setdefault(path, {})

    def get(self, path):
        return self.groups.get(path, {})

    def has_path(self, path):
        return any(group == path or group.startswith(path + "/") for group in self.groups)


def save_state():
    model, other, weights = _functional(), _functional(), _Weights()
    assets = keras_private.AssetStore("assets", mode="w")
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    try:
        keras_private.save_state(model, weights, assets, {id(model.optimizer)})
        assert not any("optimizer" in path for path in weights.groups)
        assert keras_private.load_state(other, weights, None, set()) == []
        for a, b in zip(model.weights, other.weights):
            assert np.array_equal(_numpy(a), _numpy(b))
        (group,) = [group for group in weights.groups.values() if group]
        group["0"] = np.zeros((7, 7))
        ((owner, error),) = keras_private.load_state(other, weights, None, set())
        assert owner is other.layers[1] and isinstance(error, Exception)
    finally:
        assets.close()


load_state = WeightStore = save_state


def asset_path():
    store = keras_private.AssetStore("assets", mode="w")
    try:
        path = keras_private.asset_path(store, "a/b")
        assert pathlib.Path(path) == pathlib.Path(store.working_dir).resolve() / "a" / "b"
        for outside in ("../b", "/b"):
            with pytest.raises(ValueError, match="leads out"):
                keras_private.asset_path(store, outside)
    finally:
        store.close()


AssetStore = asset_path


def H5Store():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        store = keras_private.H5Store("model.weights.h5", archive=archive, mode="w")
        store.make("layers/dense")["0"] = np.arange(3)
        store.close()
    with zipfile.ZipFile(file) as archive:
        keras_private.reject_zip_bomb(archive)
        store = keras_private.H5Store("model.weights.h5", archive=archive, mode="r")
        assert np.array(store.get("layers/dense")["0"]).tolist() == [0, 1, 2]
        names = []
        store.h5_file.visit(names.append)
        assert "layers/dense/vars" in names
        store.close()


def reject_zip_bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", bytes((1 << 28) + 1))
    with zipfile.ZipFile(file) as archive, pytest.raises(ValueError):
        keras_private.reject_zip_bomb(archive)


def model_to_json():
    model = _functional()
    model.compile("adam", "mse")
    config = keras_private.model_to_json(model)
    read = keras_private.model_from_json(config, {}, True, True)
    assert read.name == model.name and isinstance(read.optimizer, keras.optimizers.Adam)


model_from_json = model_to_json


def is_op_determinism_enabled():
    assert keras_private.is_op_determinism_enabled() is False


def owner_of():
    import tensorflow as tf

    variable = tf.Variable(1.0)
    function = tf.function(lambda: variable + 1).get_concrete_function()
    (captured,) = function.captured_inputs
    assert keras_private.owner_of(captured) is variable
    assert keras_private.owner_of(tf.constant(1.0)) is None


def unsaved_variable():
    import tensorflow as tf

    root = tf.Module()
    root.weight, root.state = (
        keras_private.unsaved_variable("w", [300], tf.float32),
        tf.Variable(2.0),
    )

    @tf.function(input_signature=[])
    def read():
        return tf.reduce_sum(root.weight) + root.state

    root.read = read
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(root, folder)
        names = [name for name, _ in tf.train.list_variables(f"{folder}/variables/variables")]
        assert [name for name in names if "VALUE" in name] == ["state/.ATTRIBUTES/VARIABLE_VALUE"]
        loaded = tf.saved_model.load(folder)
        assert isinstance(loaded.weight, tf.Variable) and loaded.weight.shape == [300]
        loaded.weight.assign(tf.ones([300]))
        assert loaded.read() == 302


def write_fingerprint():
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(tf.Module(), folder)
        path = pathlib.Path(folder) / "fingerprint.pb"
        before = path.read_bytes()
        path.unlink()
        keras_private.write_fingerprint(folder)
        assert len(path.read_bytes()) > len(before) // 2


def retraced():
    import tensorflow as tf

    calls = []
    function = tf.function(calls.append, input_signature=[tf.TensorSpec([])], jit_compile=True)
    for _ in range(2):
        function(1.0)
    other = keras_private.retraced(function)
    other(1.0)
    assert len(calls) == 2 and other.input_signature == function.input_signature
    assert other.function_spec.jit_compile


def array_batches():
    x = np.arange(5)
    found = list(keras_private.array_batches({"a": x, "b": x[:, None]}, 3))
    assert [batch["b"].shape for batch in found] == [(3, 1), (2, 1)]
    np.testing.assert_array_equal(np.concatenate([batch["a"] for batch in found]), x)


def frozen():
    import tensorflow as tf

    variable = tf.Variable([2.0, 3.0])

    @tf.function(input_signature=[tf.TensorSpec([])])
    def function(x):
        tf.sin(x)
        return x * variable

    found = keras_private.frozen(function.get_concrete_function())
    assert not found.captured_inputs
    assert "Sin" not in [op.type for op in found.graph.get_operations()]
    assert [t.name for t in found.outputs] == ["Identity:0"]
    np.testing.assert_array_equal(found(tf.constant(2.0))[0], [4, 6])


def _taught(**settings):
    """A distiller with a hint through a norm, its models, and data."""
    layers = keras.layers

    def make():
        return keras.Sequential(
            [
                keras.Input((3,)),
                layers.Dense(4, name="hidden", kernel_regularizer="l1"),
                layers.BatchNormalization(name="norm"),
                layers.Dropout(0.5),
                layers.Dense(2),
            ]
        )

    losses = [
        keras.distillation.LogitsDistillation(2.0, keras.losses.KLDivergence()),
        keras.distillation.FeatureDistillation("mse", "hidden", "hidden"),
    ]
    distiller = keras_private.Distiller(make(), make(), losses, **settings)
    distiller.compile("sgd", "mse")
    return (
        distiller,
        np.random.default_rng(0).normal(size=(8, 3)).astype("float32"),
        np.ones((8, 2)),
    )


def Distiller():
    distiller, x, y = _taught(student_loss_weight=0.0)
    norm, hidden = (distiller.student.get_layer(name) for name in ("norm", "hidden"))
    outputs = keras.ops.convert_to_numpy(hidden(x))
    added = 0.01 * np.abs(_numpy(hidden.kernel)).sum()
    logs = distiller.train_on_batch(x, y, return_dict=True)
    # The student was run once, and regularized.
    np.testing.assert_allclose(_numpy(norm.moving_mean), 0.01 * outputs.mean(0), rtol=1e-3)
    np.testing.assert_allclose(logs["loss"] - logs["total_loss"], added, rtol=1e-3)
    moved = _numpy(norm.moving_mean)
    distiller.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(_numpy(norm.moving_mean), moved)

    class Twice:
        def matched(self, y, outputs):
            return keras.losses.MeanSquaredError(), 2 * outputs

    distiller.student_loss_weight = 0.5
    distiller.compile("sgd", Twice())
    outputs = keras.ops.convert_to_numpy(distiller.student(x, training=False))
    expected = np.mean(outputs**2)
    logs = distiller.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["student_loss"], expected, rtol=1e-4)
    with tempfile.TemporaryDirectory() as folder:
        distiller.save(os.path.join(folder, "all.keras"))
        again = keras.models.load_model(os.path.join(folder, "all.keras"))
    np.testing.assert_array_equal(_numpy(again.student.get_layer("norm").moving_mean), moved)


def has_value():
    variable = keras.Variable(np.ones(2))
    assert keras_private.has_value(variable)
    layer = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((3,)), layer])

    def seen(y, outputs):
        found.append(keras_private.has_value(layer.kernel))
        return keras.ops.mean(outputs, -1)

    found = []
    model.compile("sgd", seen)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert found[-1] == (keras.backend.backend() != "jax") and keras_private.has_value(layer.kernel)


def Weight():
    weight = keras_private.Weight(0.0, trainable=False)
    assert weight > 0 and weight < 1
    distiller, x, y = _taught(student_loss_weight=weight)
    for value, name in (0.0, "distillation_loss"), (1.0, "student_loss"):
        weight.assign(value)
        distiller.reset_metrics()
        logs = distiller.train_on_batch(x, y, return_dict=True)
        np.testing.assert_allclose(logs["total_loss"], logs[name], rtol=1e-5)


def SavesSeeds():
    distiller, x, y = _taught()
    (drop,) = (
        layer for layer in distiller.student.layers if isinstance(layer, keras.layers.Dropout)
    )
    distiller.train_on_batch(x, y)
    distiller.jax_state_sync() if keras.backend.backend() == "jax" else None
    state = _numpy(drop.seed_generator.state).copy()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "all.weights.h5")
        distiller.save_weights(path)
        drop.seed_generator.state.assign(state + 5)
        distiller.load_weights(path)
    np.testing.assert_array_equal(_numpy(drop.seed_generator.state), state)


ALL = [
    name
    for name, thing in vars(keras_private).items()
    if not name.startswith("_")
    and callable(thing)
    and (inspect.isclass(thing) or thing.__module__ == keras_private.__name__)
    and name not in ("Any", "NamedTuple")
]


@pytest.mark.parametrize("name", ALL)
def test_private_name(name):
    needs_tensorflow = ("tensor_spec", "is_op_determinism_enabled", "owner_of")
    needs_tensorflow += ("unsaved_variable", "write_fingerprint", "retraced", "frozen")
    if name in needs_tensorflow and keras.backend.backend() != "tensorflow":
        pytest.skip("needs the TensorFlow backend")
    assert name in globals(), f"`keras_private.{name}` is not tried: write a function for it here"
    try:
        globals()[name]()
    except (AssertionError, AttributeError, ImportError, TypeError) as error:
        pytest.fail(
            f"`tfcomp.keras_private.{name}` no longer does what it says with Keras "
            f"{keras.__version__}. It was seen in {SEEN_IN}; write it anew. ({error!r})"
        )


_BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "object.__setattr__", "object.__delattr__"}


def _names(tree):
    """Yields line and name of everything with one underscore that code asks another object for."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _BY_NAME:
            name = str(getattr(node.args[1], "value", ""))
        else:
            continue
        if (
            name.startswith("_")
            and not name.startswith("__")
            and name.isidentifier()
            and name != "_"
        ):
            yield node.lineno, name


def _own(tree):
    """Names with an underscore that code defines or sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.attr if isinstance(node, ast.Attribute) else node.id
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("setattr__"):
            yield getattr(node.args[1], "value", "")


def _imports(tree):
    for node in ast.walk(tree):
        modules = [node.module] if isinstance(node, ast.ImportFrom) else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            if f"{module}.".startswith(("keras.src.", "tensorflow.python.")):
                yield node.lineno, module


def test_private_names_stand_in_one_file():
    trees = {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }
    private = {name for _, name in _names(trees.pop("keras_private.py"))}
    own = {name for tree in trees.values() for name in _own(tree)} - private
    # Of named tuples.
    own |= {"_asdict", "_fields", "_replace"}
    wrong = {
        f"{path}:{line}: {name}"
        for path, tree in trees.items()
        for line, name in [*_names(tree), *_imports(tree)]
        if name not in own
    }
    assert not wrong, "They belong in tfcomp/keras_private.py:\n" + "\n".join(sorted(wrong))
