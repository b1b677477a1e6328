"""Teachers and students with several inputs and outputs, by numpy."""

import keras
import numpy as np
import pytest
from distilling import data, layers, taught

import tfcomp
from tfcomp.methods.distillation.outputs import LossesOfOutputs, by_output

CROSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def forked(seed, activation=None, named=False, loss=CROSS):
    """A network with outputs of three classes, `first`, and of two, `second`."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((6,))
    # The order by name is not that by place.
    second = layers.Dense(3, activation=activation, name="second")(inputs)
    first = layers.Dense(2, name="first")(inputs)
    model = keras.Model(inputs, {"second": second, "first": first} if named else [second, first])
    model.compile("sgd", loss)
    return model


def log_softmax(model, name, temperature=1):
    layer = model.get_layer(name)
    kernel, bias = (keras.ops.convert_to_numpy(v.value).astype("float64") for v in layer.weights)
    z = (data()[0] @ kernel + bias) / temperature
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def labels():
    _, y = data()
    return {"second": y, "first": y % 2}


BY_PLACE = tuple(labels().values())
LOSSES = {
    "one": (CROSS, "kl_divergence", BY_PLACE),
    "lists": ([CROSS, CROSS], ["kl_divergence", "kl_divergence"], list(BY_PLACE)),
    "names": ({"second": CROSS, "first": CROSS}, {"second": "kld", "first": "kld"}, labels()),
    "own": ({"second": CROSS}, {"second": "kl_divergence"}, {"second": labels()["second"]}),
    "none": ([CROSS, None], ["kl_divergence", None], BY_PLACE),
}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("activation", [None, "softmax"])
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_several_outputs_are_added(name, activation, named):
    """One batch; a softmax in one output of the teacher changes nothing."""
    loss, between, y = LOSSES[name]
    if named:
        y = y if isinstance(y, dict) else labels()
        loss, between = (
            dict(zip(labels(), each)) if isinstance(each, list) else each
            for each in (loss, between)
        )
    teacher, student = forked(5, activation, named), forked(6, None, named, loss)
    own = soft = 0
    for each in ("second",) if name in ("own", "none") else ("second", "first"):
        own -= log_softmax(student, each)[np.arange(48), labels()[each]].mean()
        p, q = log_softmax(teacher, each, 4), log_softmax(student, each, 4)
        soft += 16 * (np.exp(p) * (p - q)).sum(-1).mean()
    found = taught(
        teacher, student, (data()[0], y), 1, batch_size=48, temperature=4, distillation_loss=between
    ).history
    assert found["student_loss"][0] == pytest.approx(own, rel=1e-4)
    assert found["distillation_loss"][0] == pytest.approx(soft, rel=1e-4)


def test_files_of_the_distilling_model(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(tmp_path / "all.keras")
    loss = {"second": CROSS, "first": None}
    student = forked(6, loss=loss)
    done = taught(forked(5), student, (data()[0], labels()), callbacks=[checkpoint])
    loaded = keras.models.load_model(tmp_path / "all.keras")
    # Of a distiller, Keras keeps no losses in a file.
    loaded.compile("sgd", LossesOfOutputs(loss, student.output_names))
    logs = loaded.evaluate(data()[0], BY_PLACE, return_dict=True, verbose=0)
    assert np.isfinite(logs["student_loss"])
    done.model.save(tmp_path / "student.keras")
    alone = keras.models.load_model(tmp_path / "student.keras")
    for a, b in zip(alone.predict(data()[0], verbose=0), done.model.predict(data()[0], verbose=0)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [list, tuple, dict])
def test_several_inputs(kind):
    def network(seed):
        keras.utils.set_random_seed(seed)
        inputs = [keras.Input((6,), name=name) for name in "ab"]
        outputs = layers.Dense(3)(layers.Concatenate()(inputs))
        model = keras.Model(inputs, outputs)
        model.compile("adam", CROSS)
        return model

    x, y = data()
    both = {"a": x, "b": -x} if kind is dict else kind([x, -x])
    done = taught(network(5), network(6), (both, y), validation_data=(both, y))
    assert done.history["val_loss"][-1] < done.history["val_loss"][0]


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        ({"distillation_loss": ["kl_divergence"]}, "distillation_loss"),
        ({"distillation_loss": {"third": "mse"}}, "distillation_loss"),
        ({"student": forked(6, loss=[CROSS])}, "loss"),
        ({"given": (data()[0], data()[1])}, "data"),
        ({"given": (data()[0], {"first": data()[1] % 2})}, "data"),
        ({"source": tfcomp.distillation.Munge(data()[0])}, "source"),
        ({"teacher": forked(5, "sigmoid")}, "teacher"),
    ],
)
def test_what_is_refused(words, argument):
    words = {"student": forked(6), "given": (data()[0], BY_PLACE), **words}
    start = words["student"].get_weights()
    with pytest.raises(ValueError, match=f"argument `{argument}`"):
        taught(words.pop("teacher", forked(5)), **words)
    for a, b in zip(start, words["student"].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_by_output():
    assert by_output("loss", {"b": 1}, [0, 0], ["a", "b"]) == [None, 1]
    assert by_output("loss", {"b": 1}, {"b": 0, "a": 0}) == [None, 1]
    assert by_output("loss", (1, None), [0, 0]) == [1, None]
