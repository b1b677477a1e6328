"""Latencies: who is timed in what order, and whether outputs are compared as they should be."""

import json

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.__main__ import main
from tfcomp.model.timing import cold, interleaved, ratios


class Clock:
    """Seconds that pass only when `work` says so."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def work(self, name, seconds):
        def call():
            self.order.append(name)
            self.now += seconds
            return []

        return call


def small(scale=1.0, name="small"):
    inputs = keras.Input((4,), name="x")
    model = keras.Model(inputs, keras.layers.Dense(3, use_bias=False)(inputs), name=name)
    model.set_weights([scale * np.arange(12.0).reshape(4, 3)])
    return model


def test_calls_take_turns_and_every_round_begins_with_another():
    clock = Clock()
    seconds = interleaved([clock.work("a", 1), clock.work("b", 2)], 3, warmup=0, clock=clock)
    np.testing.assert_array_equal(seconds, [[1, 2]] * 3)
    # The first two find the repeats.
    assert "".join(clock.order[2:]) == "aaabbb" + "bbbaaa" + "aaabbb"
    np.testing.assert_array_equal(ratios(seconds, 0), [1, 0.5])


def test_short_calls_are_repeated_within_a_measurement():
    clock = Clock()
    seconds = interleaved([clock.work("a", 1e-4)], 1, warmup=0, clock=clock)
    assert len(clock.order) == 1 + 100  # Ten milliseconds.
    np.testing.assert_allclose(seconds, 1e-4)


def test_what_a_turn_begins_with_does_not_count():
    clock, left = Clock(), [1, 9, 1, 1]

    def call():
        clock.now += left.pop(0)

    np.testing.assert_array_equal(interleaved([call], 1, warmup=0, clock=clock), [[1]])


def test_cold_calls_are_single_ones():
    clock = Clock()
    seconds = cold([clock.work("a", 1), clock.work("b", 2)], 2, clock=clock)
    np.testing.assert_array_equal(seconds, [[1, 2]] * 2)
    assert "".join(clock.order) == "abab"


def test_a_ratio_is_the_median_over_rounds_and_not_the_ratio_of_medians():
    # By hand: the ratios are 1/2, 2 and 3/2; the medians are 5 and 2.5, which would give 2.
    seconds = np.array([[1.0, 2.0], [5.0, 2.5], [9.0, 6.0]])
    np.testing.assert_allclose(ratios(seconds, 0), [1, 1.5])


def test_models_are_compared_by_their_outputs():
    result = tfcomp.benchmark({"one": small(), "two": small(1.5, "other")}, rounds=2, verbose=0)
    assert [row.path for row in result] == ["one", "two"]
    assert result["one"].difference == 0 and result["one"].faster == 1
    np.testing.assert_allclose(result["two"].difference, 0.5, rtol=1e-5)
    assert result["two"].milliseconds > 0 and result["two"].bytes is None
    assert "against one" in repr(result)
    assert json.loads(json.dumps(result.to_dict()))["models"][1]["path"] == "two"


def test_outputs_of_another_shape_differ_without_end():
    wide = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5)])
    result = tfcomp.benchmark({"one": small(), "wide": wide}, rounds=1, verbose=0)
    assert result["wide"].difference == np.inf


def test_inputs_by_name_reach_the_inputs_of_that_name():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    minus = keras.Model({"b": b, "a": a}, keras.layers.Subtract()([a, b]))
    batch = {"a": np.ones((3, 2), "float32"), "b": np.full((3, 2), 3, "float32")}
    result = tfcomp.benchmark([minus], batch, rounds=1, verbose=0)
    assert result.batch == 3


@pytest.mark.tensorflow
def test_files_are_timed_beside_the_model(tmp_path, capsys):
    model = small()
    tfcomp.export(model, tmp_path / "folder", verbose=0)
    model.save(tmp_path / "model.keras")
    tfcomp.save(model, tmp_path / "model.tfc")
    paths = [str(tmp_path / name) for name in ("folder", "model.keras", "model.tfc")]
    result = tfcomp.benchmark([model, *paths], batch_size=2, rounds=1)
    assert [row.engine for row in result] == [
        "Keras on tensorflow",
        "TensorFlow",
        "Keras on tensorflow",
        "Keras on tensorflow",
    ]
    assert all(row.difference < 1e-6 for row in result)
    assert result[paths[1]].bytes == (tmp_path / "model.keras").stat().st_size
    assert "batch 2" in capsys.readouterr().out


@pytest.mark.tensorflow
def test_several_inputs_of_a_saved_model(tmp_path):
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    model = keras.Model({"b": b, "a": a}, {"d": keras.layers.Subtract()([a, b]), "e": a + b})
    tfcomp.export(model, tmp_path / "folder", verbose=0)
    model.export(tmp_path / "keras", verbose=0)
    batch = {"a": np.ones((3, 2), "float32"), "b": np.full((3, 2), 3, "float32")}
    result = tfcomp.benchmark(
        {"model": model, "tfcomp": tmp_path / "folder", "Keras": tmp_path / "keras"},
        batch,
        rounds=1,
        verbose=0,
    )
    assert [row.difference for row in result] == [0, 0, 0]


FORMATS = [
    ("litert", "ai_edge_litert", "model.tflite"),
    ("onnx", "onnxruntime", "model.onnx"),
    ("openvino", "openvino", "model.xml"),
]


@pytest.mark.tensorflow
@pytest.mark.parametrize("format,package,file", FORMATS)
def test_other_engines(tmp_path, format, package, file):
    pytest.importorskip(package)
    if format == "onnx":
        pytest.importorskip("onnx")
        pytest.importorskip("tf2onnx")
    model = small()
    model(np.zeros((1, 4), "float32"))  # Keras exports to ONNX what was called.
    model.export(str(tmp_path / file), format=format, verbose=0)
    result = tfcomp.benchmark(
        {"model": model, "file": tmp_path / file}, batch_size=2, rounds=1, verbose=0
    )
    assert result["file"].difference < 1e-5 and result["file"].bytes > 0


@pytest.mark.tensorflow
def test_the_command_line_writes_json(tmp_path):
    small().save(tmp_path / "model.keras")
    figures = tmp_path / "figures.json"
    assert main(["benchmark", str(tmp_path / "model.keras"), "--json", str(figures)]) == 0
    assert json.loads(figures.read_text())["models"][0]["faster"] == 1
    assert main(["benchmark", str(tmp_path / "nothing.keras")]) == 1


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"models": []}, "`models`"),
        ({"models": [3]}, "`models`.*Keras models and paths"),
        ({"rounds": 0}, "`rounds`"),
        ({"batch_size": 1.5}, "`batch_size`"),
        ({"threads": 0}, "`threads`"),
        ({"inputs": [np.zeros((1, 4))] * 2}, "`inputs`.*as many arrays"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tfcomp.benchmark(**{"models": [small()], "verbose": 0, **arguments})


def test_a_size_that_is_not_known_asks_for_inputs():
    free = keras.Sequential([keras.Input((None, 4)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"`inputs`.*a batch must be given"):
        tfcomp.benchmark([free], verbose=0)


def test_a_file_that_no_engine_reads(tmp_path):
    (tmp_path / "model.txt").write_text("")
    with pytest.raises(ValueError, match=r"\.tflite"):
        tfcomp.benchmark([tmp_path / "model.txt"], verbose=0)
