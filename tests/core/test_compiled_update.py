"""The optimizer's update and the projections behind it, compiled together on TensorFlow."""

import keras
import numpy as np
import pytest
from killing import Kill, Killed

import tfcomp
from tfcomp.core import compiled as compiling

pytestmark = pytest.mark.tensorflow


class Unknown(keras.constraints.Constraint):
    """XLA cannot compile it."""

    def __call__(self, value):
        import tensorflow as tf

        return tf.ensure_shape(tf.numpy_function(lambda v: v, [value], tf.float32), value.shape)


@pytest.fixture
def small(monkeypatch):
    """Compiles small models, too."""
    monkeypatch.setattr(compiling, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(compiling, "LEAST_EACH", 1)


@pytest.fixture
def make_model():
    def make(optimizer=None, **arguments):
        keras.utils.set_random_seed(7)
        model = keras.Sequential(
            [keras.Input((6, 6, 2)), keras.layers.Flatten(), keras.layers.Dense(3, name="out")]
        )
        model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", **arguments)
        return model

    return make


def pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0.2, 0.9, begin_step=1, end_step=6, frequency=2)
    return tfcomp.callbacks.GradualPruning(schedule)


def compiled_parts(model, x, y):
    """How many functions in the train step XLA has to compile."""
    import tensorflow as tf

    step = tf.function(lambda x, y: model.train_step((x, y)))
    graph = step.get_concrete_function(tf.constant(x[:8]), tf.constant(y[:8])).graph
    definitions = graph.as_graph_def().library.function
    return sum("_XlaMustCompile" in definition.attr for definition in definitions)


def test_same_weights_compiled_or_not(make_model, fit, data, kernels, request):
    plain = make_model()
    fit(plain, [pruning()])
    assert compiled_parts(plain, *data) == 0
    request.getfixturevalue("small")
    compiled = make_model()
    fit(compiled, [pruning()])
    assert compiled_parts(compiled, *data) == 1
    for path, kernel in kernels(plain).items():
        np.testing.assert_array_equal(kernel == 0, kernels(compiled)[path] == 0)
        np.testing.assert_allclose(kernels(compiled)[path], kernel, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("least", "compiled"), [(109, 1), (110, 0)])
def test_many_small_variables_are_not_compiled(least, compiled, make_model, data, monkeypatch):
    """XLA takes its time for each variable: 219 weights in a kernel and a bias."""
    monkeypatch.setattr(compiling, "LEAST_WEIGHTS", 216)
    monkeypatch.setattr(compiling, "LEAST_EACH", least)
    model = make_model()
    pruning().set_model(model)
    assert compiled_parts(model, *data) == compiled


@pytest.mark.parametrize(
    "arguments",
    [
        {"jit_compile": True},
        {"optimizer": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=2)},
        {
            "optimizer": lambda: keras.optimizers.SGD(0.05, momentum=0.9, global_clipnorm=1.0),
            "policy": "mixed_float16",
            "steps_per_execution": 4,
        },
    ],
    ids=["jit", "accumulation", "mixed_float16"],
)
def test_killed_and_resumed_is_bit_identical(arguments, small, make_model, fit, data, tmp_path):
    arguments = dict(arguments)
    keras.config.set_dtype_policy(arguments.pop("policy", "float32"))
    make_optimizer = arguments.pop("optimizer", lambda: None)

    def make():
        return make_model(make_optimizer(), **arguments)

    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path)

    unbroken = make()
    fit(unbroken, [pruning()])
    with pytest.raises(Killed):
        fit(make(), [backup(), pruning(), Kill()])
    resumed = make()
    fit(resumed, [backup(), pruning()])
    assert compiled_parts(resumed, *data) > 0
    for a, b in zip(unbroken.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_latent_weights_and_sparse_gradients(small):
    """Embeddings have gradients that are not tensors."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((6,), dtype="int32"), keras.layers.Embedding(11, 4), keras.layers.Flatten()]
    )
    model.compile("adam", "mse")
    x, y = np.arange(48).reshape(8, 6) % 11, np.ones((8, 24))
    callback = tfcomp.callbacks.QuantizedTraining("binary")
    model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback])
    assert compiled_parts(model, x, y) == 1
    for target in tfcomp.targets.find(model):
        assert set(np.unique(target.variable.numpy())) == {-1, 1}


def test_what_xla_may_not_know_stays_as_it_is(small, fit, data):
    def model(constraint=None, optimizer="sgd"):
        model = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                keras.layers.Flatten(),
                keras.layers.Dense(3, kernel_constraint=constraint),
            ]
        )
        model.compile(optimizer, "mse")
        return model

    class OwnSGD(keras.optimizers.SGD):
        pass

    for made in (model(Unknown()), model(optimizer=OwnSGD(0.01))):
        fit(made, [pruning()], epochs=2)
        assert compiled_parts(made, *data) == 0
        assert np.mean(made.layers[-1].kernel.numpy() == 0) == pytest.approx(0.9, abs=0.01)
    own = model()
    quantizer = keras.ops.sign
    fit(own, [tfcomp.callbacks.QuantizedTraining(quantizer)], epochs=1)
    assert compiled_parts(own, *data) == 0


def test_large_model_is_compiled(data):
    model = keras.Sequential(
        [keras.Input((1024,)), keras.layers.Dense(1024), keras.layers.Dense(3)]
    )
    model.compile("adam", "mse")
    x, y = np.ones((8, 1024), "float32"), np.ones((8, 3))
    model.fit(x, y, verbose=0, callbacks=[pruning()])
    assert compiled_parts(model, x, y) == 1
