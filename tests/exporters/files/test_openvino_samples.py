"""One OpenVINO file for all batch sizes, made of a model of one sample, against the model."""

import keras
import numpy as np
import pytest
from export_models import CentredBatch, Shares
from file_kernels import always, images, needs, settled

import tfcomp

tf = pytest.importorskip("tensorflow")
pytest.importorskip("openvino")

from tfcomp.exporters.compared import are_apart  # noqa: E402
from tfcomp.exporters.engines import RUNTIMES  # noqa: E402
from tfcomp.exporters.files.openvino_samples import one_at_once, sample_by_sample  # noqa: E402
from tfcomp.exporters.snapshot import Snapshot  # noqa: E402
from tfcomp.exporters.to_openvino import write_openvino  # noqa: E402
from tfcomp.exporters.verify_file import computing  # noqa: E402

pytestmark = [pytest.mark.tensorflow, needs("openvino")]
K, T = keras.layers, tfcomp.layers
FORMS = [sample_by_sample, one_at_once]


def specs_of(model):
    return [keras.InputSpec(shape=(None, *x.shape[1:]), name=x.name) for x in model.inputs]


def binary(*last):
    layers = [
        T.BinaryConv2D(8, 3, padding="same"),
        K.BatchNormalization(),
        T.BinaryConv2D(16, 3, strides=2, padding="same"),
        *last,
    ]
    return settled(keras.Sequential([keras.Input((8, 6, 8), name="x"), *layers]))


def kinds_of(path):
    """Types of the operations in a file, without those in its loops and branches."""
    import openvino

    return {op.get_type_name() for op in openvino.Core().read_model(str(path)).get_ops()}


def reshaped(path, x):
    """What a file computes once its inputs have been given the shape of `x`."""
    import openvino

    core = openvino.Core()
    read = core.read_model(str(path))
    read.reshape(list(x.shape))
    return core.compile_model(read, "CPU")(x)[0]


def exported(model, path, sizes, **arguments):
    result = tfcomp.export(
        model,
        path,
        format="openvino",
        optimize="latency",
        batch_sizes=sizes,
        verbose=0,
        **arguments,
    )
    return [row.kernel for row in result.kernels["serve"]][1::2]


@pytest.mark.parametrize("form", FORMS)
def test_any_batch_size_is_computed(tmp_path, form):
    a, b = keras.Input((4, 5), name="first"), keras.Input((3,), name="second")
    c = K.Concatenate()([K.Flatten()(a), b])
    model = keras.Model({"first": a, "second": b}, [K.Dense(4)(c), K.Conv1D(2, 3)(a)])
    path = str(tmp_path / "model.xml")
    write_openvino(
        Snapshot(model), path, [dict(zip(("first", "second"), specs_of(model)))], (), form
    )
    engine = RUNTIMES["openvino"](path, 1)
    assert [spec[:2] for spec in engine.specs] == [("first", (None, 4, 5)), ("second", (None, 3))]
    # In turns, since shapes of the last call are still there.
    for size in (2, 1, 5, 1, 3):
        rng = np.random.default_rng(size)
        x = {"first": rng.normal(size=(size, 4, 5)), "second": rng.normal(size=(size, 3))}
        x = {name: array.astype("float32") for name, array in x.items()}
        found = engine.prepare(x)()
        assert [array.shape[0] for array in found] == [size, size]
        for array, wanted in zip(found, model.predict(x, verbose=0)):
            np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "sizes,kernels,loop", [((1,), "kernels, one sample at once", "If"), ((1, 4), "kernels", None)]
)
def test_exports_are_exact_for_all_batch_sizes(tmp_path, monkeypatch, sizes, kernels, loop):
    always(monkeypatch)
    model = binary(K.BatchNormalization(), K.Flatten(), T.BinaryDense(4))
    path = tmp_path / "model.xml"
    assert set(exported(model, path, sizes)) == {kernels}
    assert loop is None or loop in kinds_of(path)
    engine = RUNTIMES["openvino"](str(path), 1)
    assert [spec[:2] for spec in engine.specs] == [("x", (None, 8, 6, 8))]
    for size in (1, 2, 5, 1):
        x = images(model, size)
        np.testing.assert_array_equal(engine.prepare([x])()[0], model.predict(x, verbose=0))
    for size in (1, 4):
        # A user may fix the size when the file is read.
        x = images(model, size)
        np.testing.assert_array_equal(reshaped(path, x), model.predict(x, verbose=0))


def test_the_loop_around_all_layers_is_taken_before_those_around_each(tmp_path, monkeypatch):
    from tfcomp.exporters.files import choice

    always(monkeypatch)
    # Kernels take less time than none, and no form less than another.
    monkeypatch.setattr(
        choice, "seconds_of", lambda calls: 2.0 - np.minimum(np.arange(len(calls)), 1)
    )
    model, path = binary(K.Flatten()), tmp_path / "model.xml"
    assert exported(model, path, (1, 4)) == ["kernels, sample by sample"] * 2
    assert kinds_of(path) == {"Parameter", "TensorIterator", "Result"}
    for size in (1, 2, 5):
        x = images(model, size)
        (found,) = RUNTIMES["openvino"](str(path), 1).prepare([x])()
        np.testing.assert_array_equal(found, model.predict(x, verbose=0))


def test_weights_stand_in_a_file_once(tmp_path):
    model = keras.Sequential([keras.Input((64,)), K.Dense(128), K.ReLU(), K.Dense(64)])
    sizes = []
    for form in (None, *FORMS):
        path = tmp_path / "model.xml"
        write_openvino(Snapshot(model), str(path), specs_of(model), (), form)
        sizes.append(path.with_suffix(".bin").stat().st_size)
    assert sizes[0] >= 4 * 2 * 64 * 128 and max(sizes) < sizes[0] + 256


@pytest.mark.parametrize("layer", [CentredBatch, Shares])
def test_models_whose_samples_are_not_apart_have_loops_around_layers_alone(
    tmp_path, monkeypatch, layer
):
    always(monkeypatch)
    model, path = binary(layer()), tmp_path / "model.xml"
    assert exported(model, path, (1,)) == ["kernels"]
    for size in (1, 3):
        x = images(model, size)
        (found,) = RUNTIMES["openvino"](str(path), 1).prepare([x])()
        np.testing.assert_allclose(found, model.predict(x, verbose=0), rtol=1e-6)


def test_the_way_of_one_sample_is_compared_with_the_model(tmp_path, monkeypatch):
    import openvino

    from tfcomp.exporters.files import openvino_samples

    taking_any = openvino_samples._taking_any

    def halved(single):
        alone = taking_any(single)
        (result,) = alone.get_results()
        half = openvino.opset13.multiply(result.input_value(0), np.float32(0.5))
        return openvino.Model([half], alone.get_parameters())

    always(monkeypatch)
    monkeypatch.setattr(openvino_samples, "_taking_any", halved)
    with pytest.raises(ValueError, match="does not compute what the model does"):
        exported(binary(K.Flatten()), tmp_path / "model.xml", (1,))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layer,apart", [(K.Softmax, True), (CentredBatch, False), (Shares, False)])
def test_samples_that_are_apart(tmp_path, layer, apart):
    model = keras.Sequential([keras.Input((7,)), K.Dense(5), layer()])
    path = str(tmp_path / "model.xml")
    write_openvino(Snapshot(model), path, specs_of(model))
    compute = computing(RUNTIMES["openvino"](path, 1), specs_of(model))
    assert are_apart(compute, specs_of(model)) == apart
