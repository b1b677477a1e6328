"""`tfcomp.distill`: what becomes of teacher and student, and what is refused before it begins."""

import warnings

import keras
import numpy as np
import pytest
from distilling import data, layers, network, same, taught, values
from fixtures import CALLBACKS
from sklearn.ensemble import RandomForestClassifier

import tfcomp
from tfcomp import keras_private
from tfcomp.methods.distillation.soft_targets import SoftTargets

PRUNING = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)


def test_the_teacher_stays_bit_for_bit():
    teacher = network(12, "teacher")
    teacher.fit(*data(), verbose=0)
    teacher.layers[0].trainable = False
    before, flags = values(teacher), [v.trainable for v in teacher.variables]
    student = network(5, "student", seed=4)
    start = values(student)
    pruning = tfcomp.callbacks.GradualPruning(PRUNING)
    done = taught(teacher, student, hints=["hidden"], callbacks=[pruning], validation_data=data())
    assert same(values(teacher), before)
    assert [v.trainable for v in teacher.variables] == flags
    assert teacher.trainable and not teacher.layers[0].trainable
    assert done.model is student and not same(values(student), start)
    assert [row.path for row in done] == ["teacher", "student"] and "teacher" in repr(done)


def test_the_teacher_stays_where_training_breaks_off():
    teacher, student = network(12, "teacher"), network(5, "student", seed=4)
    before = values(teacher)

    def broken(y, outputs):
        raise RuntimeError("broken off")

    student.compile("adam", broken)
    with pytest.raises(RuntimeError, match="broken off"):
        taught(teacher, student)
    assert same(values(teacher), before) and teacher.trainable


def test_the_loss_is_what_it_is_said_to_be():
    """One batch, no dropout: `w S + (1 - w) (D + h H)` and regularization, by numpy."""
    x, y = data()
    teacher, student = network(8, seed=5), network(8, seed=4, kernel_regularizer="l2")
    teacher.get_layer("drop").rate = student.get_layer("drop").rate = 0.0
    get = lambda model, name: keras.Model(model.inputs, model.get_layer(name).output)  # noqa: E731
    numpy = keras.ops.convert_to_numpy
    t, s = numpy(teacher(x, training=False)), numpy(student(x, training=True))
    t, s = t.astype("float64"), s.astype("float64")
    hidden = [numpy(get(m, "hidden")(x)) for m in (teacher, student)]

    def log_softmax(z):
        return z - np.log(np.exp(z).sum(-1, keepdims=True))

    own = -log_softmax(s)[np.arange(48), y].mean()
    p, q = log_softmax(t / 4), log_softmax(s / 4)
    soft = 16 * (np.exp(p) * (p - q)).sum(-1).mean()
    hint = np.mean((hidden[0] - hidden[1]) ** 2)
    added = 0.01 * np.sum(numpy(student.get_layer("hidden").kernel.value) ** 2)
    history = taught(
        teacher, student, epochs=1, batch_size=48, temperature=4, student_loss_weight=0.3,
        hints=["hidden"], hint_weight=0.7,
    ).history  # fmt: skip
    assert history["student_loss"][0] == pytest.approx(own, rel=1e-4)
    assert history["distillation_loss"][0] == pytest.approx(soft + 0.7 * hint, rel=1e-4)
    expected = 0.3 * own + 0.7 * (soft + 0.7 * hint) + added
    assert history["loss"][0] == pytest.approx(expected, rel=1e-4)


def test_statistics_move_once_for_each_batch():
    """Keras itself runs the student twice where there are hints, and in `evaluate`, too."""
    x, y = data()
    student = network(5, "student", seed=4)
    hidden = keras.Model(student.inputs, student.get_layer("hidden").output)(x)
    mean = keras.ops.convert_to_numpy(hidden).mean(0)
    taught(None, student, epochs=1, batch_size=48, hints=["hidden"], validation_data=(x, y))
    moved = keras.ops.convert_to_numpy(student.get_layer("norm").moving_mean.value)
    np.testing.assert_allclose(moved, 0.01 * mean, rtol=1e-3, atol=1e-6)


def test_hints_of_fewer_channels_lead_to_the_teachers():
    student = network(5, "student", seed=4)
    weights = len(student.variables)
    done = taught(None, student, epochs=12, student_loss_weight=0.0, hints={"hidden": "hidden"})
    losses = done.history["distillation_loss"]
    assert losses[-1] < losses[0] and len(student.variables) == weights


def test_schedules_are_followed():
    schedule = tfcomp.schedules.PiecewiseLinear
    done = taught(
        temperature=schedule([0, 4], [8, 2]),
        student_loss_weight=schedule([0, 3], [0, 1]),
        epochs=3,
        hints=["norm"],
        student=network(12, "student", seed=4),
        hint_weight=schedule([3, 6], [1, 0]),
    )
    # Three batches an epoch; the last begins at steps 2, 5 and 8.
    assert done.history["temperature"] == pytest.approx([5, 2, 2])
    assert done.history["student_loss_weight"] == pytest.approx([2 / 3, 1, 1])
    assert done.history["hint_weight"] == pytest.approx([1, 1 / 3, 0])


def test_a_scheduled_number_does_what_the_number_does():
    constant = tfcomp.schedules.PiecewiseLinear([0], [0.25])
    plain = taught(temperature=5, student_loss_weight=0.25)
    scheduled = taught(
        temperature=tfcomp.schedules.PiecewiseLinear([0], [5]), student_loss_weight=constant
    )
    for a, b in zip(values(plain.model), values(scheduled.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_student_of_other_layers_is_made_of_the_teacher(tmp_path):
    teacher = network(12, "teacher")
    rules = {layers.Dense: tfcomp.layers.BinaryDense, "out": None}
    done = tfcomp.distill(teacher, data=data(), epochs=1, rules=rules, verbose=0)
    assert type(done.model.get_layer("hidden")) is tfcomp.layers.BinaryDense
    assert done.model.optimizer is not None and not done.model.optimizer.iterations.value
    done.model.save(tmp_path / "student.keras")
    loaded = keras.models.load_model(tmp_path / "student.keras")
    x, _ = data()
    expected = done.model.predict(x, verbose=0)
    np.testing.assert_allclose(loaded.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    tfcomp.save(done.model, tmp_path / "student.tfc")
    archived = tfcomp.load(tmp_path / "student.tfc")
    np.testing.assert_allclose(archived.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-6)
    assert done["student"].coded_bytes < done["teacher"].coded_bytes


def test_a_pruned_copy_stays_pruned_under_its_own_paths(tmp_path):
    pruning = tfcomp.callbacks.GradualPruning(PRUNING, targets={"out": None})
    teacher = network(12, "teacher")
    before = values(teacher)
    done = tfcomp.distill(teacher, None, data(), 2, callbacks=[pruning], verbose=0)
    assert set(done.history) >= {"sparsity", "sparsity/hidden/kernel"}
    assert not any("out/kernel" in name for name in done.history) and same(values(teacher), before)
    kernel = done.model.get_layer("hidden").kernel
    zeros = keras.ops.convert_to_numpy(kernel.value) == 0
    assert zeros.mean() == 0.5
    done.model.save_weights(tmp_path / "student.weights.h5")
    done.model.fit(*data(), verbose=0)
    assert (keras.ops.convert_to_numpy(kernel.value) == 0).tolist() == zeros.tolist()
    tfcomp.release(done.model)
    assert kernel.constraint is None


def test_a_student_that_is_sparse_already():
    """Twice: what the first distillation leaves is a student like that, too."""
    teacher, student = network(12, "teacher"), network(5, "student", seed=4)
    student.fit(*data(), verbose=0, callbacks=[tfcomp.callbacks.GradualPruning(PRUNING)])
    kernel = student.get_layer("hidden").kernel
    zeros = keras.ops.convert_to_numpy(kernel.value) == 0
    for _ in range(2):
        with pytest.raises(ValueError, match=r"argument `callbacks`.*tfcomp\.release"):
            taught(teacher, student)
        taught(teacher, student, callbacks=[tfcomp.callbacks.PreserveSparsity()])
        now = keras.ops.convert_to_numpy(kernel.value)
        assert zeros.mean() == 0.5 and ((now == 0) == zeros).all()
    tfcomp.release(student)
    taught(teacher, student)
    assert (keras.ops.convert_to_numpy(kernel.value) != 0).all()


@pytest.mark.tensorflow
def test_a_student_is_exported_without_its_teacher(tmp_path):
    import tensorflow as tf

    rules = {layers.Dense: tfcomp.layers.BinaryDense, "out": None}
    student = tfcomp.swap_layers(network(5, "student", seed=4), rules)
    taught(None, student)
    tfcomp.export(student, tmp_path / "student", verbose=0)
    serve = tf.saved_model.load(tmp_path / "student").signatures["serving_default"]
    (found,) = serve(tf.constant(data()[0])).values()
    np.testing.assert_allclose(found, student.predict(data()[0], verbose=0), rtol=1e-5, atol=1e-6)
    with open(tmp_path / "student" / "saved_model.pb", "rb") as graph:
        assert b"teacher" not in graph.read()


def test_a_forest_teaches():
    x, y = data()
    forest = RandomForestClassifier(10, random_state=0).fit(x, y)
    for activation in (None, "softmax"):
        student = network(8, "student", activation=activation, seed=4)
        done = taught(
            forest, student, epochs=25, temperature=1.0, student_loss_weight=0.0,
            validation_data=(x, y),
        )  # fmt: skip
        assert done.history["val_accuracy"][-1] > 0.6
        assert done.history["distillation_loss"][-1] < done.history["distillation_loss"][0]
        assert [row.path for row in done] == ["student"]


def certain(scale=500):
    """A network whose softmax underflows."""
    model = network(12, activation="softmax")
    kernel = model.get_layer("out").kernel
    kernel.assign(scale * kernel.value)
    return model


def taught_by_zeros():
    """Dict from a name to a teacher, and to whether it gives probabilities of exactly 0."""
    x, y = data()
    return {
        "forest": (RandomForestClassifier(10, random_state=0).fit(x, y), True),
        "underflow": (certain(), True),
        "softmax": (certain(1), False),
        "logits": (network(12), False),
    }


@pytest.mark.parametrize("name", ["forest", "underflow", "softmax", "logits"])
def test_a_temperature_that_softens_no_zeros_is_warned_of(name, monkeypatch):
    monkeypatch.setattr(keras_private.Distiller, "fit", lambda *args, **words: None)
    teacher, zeros = taught_by_zeros()[name]
    falling, low = tfcomp.schedules.PiecewiseLinear([0, 9], [4, 1]), 1.0
    cases = [({}, zeros), ({"temperature": falling}, zeros), ({"temperature": low}, False)]
    cases += [({"distillation_loss": "mse"}, False)]
    x, _ = data()
    munge = tfcomp.distillation.Munge(x)
    cases += [({"source": munge}, zeros), ({"source": munge, "given": None, "samples": 5}, zeros)]
    for words, expected in cases:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            student = network(5, "student", seed=4)
            given = words.pop("given", data())
            tfcomp.distill(teacher, student, given, verbose=0, **words)
        said = [each for each in caught if "`temperature`" in str(each.message)]
        assert len(said) == expected, (words, said)
        for each in said:
            assert "exactly 0" in str(each.message) and "`temperature=1.0`" in str(each.message)
            assert each.filename == __file__


def test_a_student_that_is_certain_has_finite_losses_and_gradients():
    student = certain()
    start = values(student)
    done = taught(None, student, epochs=1, temperature=20.0, student_loss_weight=0.0)
    assert np.isfinite(done.history["loss"]).all()
    assert all(np.isfinite(value).all() for value in values(student))
    assert not same(values(student), start)


class Subclassed(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.hidden, self.norm = layers.Dense(units, "relu"), layers.BatchNormalization()
        self.out = layers.Dense(3)

    def call(self, x, training=None):
        return self.out(self.norm(self.hidden(x), training=training))


def test_subclassed_models():
    x, _ = data()
    teacher, student = Subclassed(12), Subclassed(5)
    teacher(x)
    student.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = values(teacher)
    pruning = tfcomp.callbacks.GradualPruning(PRUNING)
    done = taught(teacher, student, callbacks=[pruning])
    assert same(values(teacher), before)
    assert sum("kernel" in name for name in done.history) == 2
    assert np.mean(keras.ops.convert_to_numpy(student.hidden.kernel.value) == 0) == 0.5
    with pytest.raises(ValueError, match="subclassed"):
        taught(teacher, _compiled(Subclassed(5)), hints=["hidden"])


def _compiled(model):
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def channel_pruning():
    schedule = tfcomp.schedules.PolynomialDecay(0, 0.5, begin_step=2, end_step=13, frequency=3)
    return tfcomp.callbacks.ChannelPruning(schedule)


@pytest.mark.slow
@pytest.mark.parametrize("make", [*CALLBACKS, channel_pruning], ids=lambda make: make.__name__)
def test_every_callback(make):
    callback, teacher = make(), network(12, "teacher")
    before = values(teacher)
    done = taught(teacher, epochs=5, callbacks=[callback])
    assert same(values(teacher), before)
    word = callback.measures
    assert word in done.history and not any("teacher" in name for name in done.history)
    # It stays when the student trains by itself.
    attached = [v for v in done.model.variables if v.constraint is not None]
    assert attached
    done.model.fit(*data(), verbose=0)


def test_regression():
    x, _ = data()
    target = x[:, :1] * 2
    teacher, student = network(12, outputs=1), network(5, outputs=1, seed=4)
    for model in (teacher, student):
        model.compile("adam", "mse")
    done = taught(teacher, student, (x, target), distillation_loss="mse")
    assert np.isfinite(done.history["loss"]).all()
    with pytest.raises(ValueError, match="there is one output"):
        taught(teacher, student, (x, target))


def test_batches_and_inputs_without_labels():
    x, y = data()
    batches = [(x[i : i + 16], y[i : i + 16]) for i in (0, 16, 32)]
    done = taught(given=iter(batches))
    assert len(done.history["loss"]) == 2
    alone = network(5, "student", seed=4)
    alone.compile("adam")
    assert len(taught(student=alone, given=x, student_loss_weight=0).history["loss"]) == 2


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    student = network(5, "student", seed=4)
    keras.config.set_dtype_policy("float32")
    done = taught(None, student, hints=["hidden"], epochs=3)
    assert student.get_layer("hidden").compute_dtype == "float16"
    assert np.isfinite(done.history["loss"]).all()


@pytest.mark.parametrize("name", ["own", "plain"])
def test_no_default_target_is_a_teachers(name):
    teacher, student = network(12, "teacher"), network(5, "student", seed=4)
    kind = keras.distillation.Distiller if name == "plain" else keras_private.Distiller
    distiller = kind(teacher, student, [SoftTargets(2.0)])
    # As nobody should, but anybody may.
    teacher.trainable = True
    distiller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    kernels = ["hidden/kernel", "out/kernel"]
    assert [t.path for t in tfcomp.targets.find(distiller)] == kernels
    assert [t.path for t in tfcomp.targets.find(distiller, layers.Dense)] == kernels
    assert [t.path for t in tfcomp.targets.find(distiller, "hidden")] == kernels[:1]
    named = tfcomp.targets.find(distiller, ["teacher/hidden", teacher.get_layer("out")])
    assert sorted(t.path for t in named) == ["teacher/hidden/kernel", "teacher/out/kernel"]
    left = dict(tfcomp.targets.not_default(distiller))
    assert left["teacher/hidden/kernel"] == "it is not the student's"
    distiller.fit(*data(), verbose=0, callbacks=[tfcomp.callbacks.GradualPruning(PRUNING)])
    zeros = [
        np.mean(keras.ops.convert_to_numpy(m.get_layer("hidden").kernel.value) == 0)
        for m in (teacher, student)
    ]
    assert zeros == [0, 0.5]


def test_a_code_of_the_teacher_keeps_its_beta():
    def coder():
        return keras.Sequential([keras.Input((6,)), tfcomp.layers.HashCode(4)])

    teacher, student = coder(), coder()
    student.compile("adam", "mse")
    x, _ = data()
    continuation = tfcomp.callbacks.HashContinuation()
    taught(
        teacher, student, (x, np.ones((48, 4), "float32")), distillation_loss="mse",
        callbacks=[continuation],
    )  # fmt: skip
    assert float(student.layers[0].beta) == np.inf and float(teacher.layers[0].beta) == 1


def wrong():
    """Dict from a name to the arguments, and to the one that is refused."""
    x, y = data()
    teacher = network(12, "teacher")
    loose, inside = network(5), keras.Sequential([teacher])
    loose.compile("adam")
    inside.compile("adam", "mse")
    munge, forest = tfcomp.distillation.Munge, RandomForestClassifier
    return {
        "outputs": ({"student": network(5, outputs=4)}, "student"),
        "labels": ({"given": x}, "data"),
        "no data": ({"given": ()}, "data"),
        "weights": ({"given": (x, y, np.ones(48))}, "data"),
        "teacher": ({"teacher": object()}, "teacher"),
        "classes": ({"teacher": forest(3).fit(x, y + 1)}, "teacher"),
        "sigmoid": ({"student": network(5, activation="sigmoid")}, "student"),
        "no loss": ({"student": loose}, "student_loss_weight"),
        "itself": ({"teacher": teacher, "student": teacher}, "student"),
        "inside": ({"teacher": teacher, "student": inside}, "student"),
        "no model": ({"student": 3}, "student"),
        "hint": ({"hints": ["hiden"]}, "hints"),
        "hint as a string": ({"hints": "hidden"}, "hints"),
        "no layers": ({"teacher": forest(3).fit(x, y), "hints": ["hidden"]}, "hints"),
        "rules": ({"rules": {...: None}}, "rules"),
        "epochs": ({"epochs": 0}, "epochs"),
        "verbose": ({"verbose": 3}, "verbose"),
        "source": ({"source": 3}, "source"),
        "share": ({"source": munge(x), "share": 1.5}, "share"),
        "other inputs": ({"source": munge(x[:, :4])}, "source"),
        "samples": ({"samples": 0}, "samples"),
    }


@pytest.mark.parametrize("name", list(wrong()))
def test_what_is_refused(name, monkeypatch):
    def fit(*args, **kwargs):
        raise AssertionError("it has begun")

    arguments, argument = wrong()[name]
    monkeypatch.setattr(keras_private.Distiller, "fit", fit)
    with pytest.raises(ValueError, match=f"argument `{argument}`"):
        taught(**arguments)


def test_no_student_and_no_way_to_one():
    with pytest.raises(ValueError, match="argument `student`"):
        tfcomp.distill(network(12), None, data())
    distiller = keras.distillation.Distiller(network(12), network(5), [SoftTargets(2.0)])
    distiller.compile("adam", "mse")
    with pytest.raises(ValueError, match="argument `student`"):
        taught(student=distiller)
    uncompiled = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    with pytest.raises(ValueError, match="compile"):
        tfcomp.distill(network(12), uncompiled, data())
