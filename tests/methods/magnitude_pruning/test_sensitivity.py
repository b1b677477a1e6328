"""The scan of what each weight can spare."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.methods.magnitude_pruning.sensitivity import Scanned, Sensitivity


@pytest.fixture
def model():
    """`sharp` depends on every weight, `blunt` has a single one that matters."""
    inputs = keras.Input((10,))
    sharp = keras.layers.Dense(1, use_bias=False, name="sharp")
    blunt = keras.layers.Dense(1, use_bias=False, name="blunt")
    model = keras.Model(inputs, [sharp(inputs), blunt(inputs)])
    sharp.kernel.assign(np.arange(1, 11, dtype="float32")[:, None])
    value = np.full((10, 1), 1e-3, "float32")
    value[0] = 1
    blunt.kernel.assign(value)
    model.compile("sgd", ["mse", "mse"], metrics=[["mae"], ["mae"]])
    return model


@pytest.fixture
def data(model):
    x = np.eye(10, dtype="float32")
    return x, [keras.ops.convert_to_numpy(y) for y in model(x)]


def test_values_by_hand(model, data):
    start = model.get_weights()
    scan = tfcomp.sensitivity(model, (0.2, 0.5), data, metric="sharp_mae", verbose=0)
    assert scan.baseline == 0
    found = {(row.path, row.sparsity): row.value for row in scan.rows}
    # Of 1 to 10 the smallest two are 1 and 2, the smallest five add up to 15.
    assert found["sharp/kernel", 0.2] == pytest.approx(0.3)
    assert found["sharp/kernel", 0.5] == pytest.approx(1.5)
    assert found["blunt/kernel", 0.5] == 0
    deviation = np.arange(1, 11).std()
    rows = [row for row in scan.rows if row.path == "sharp/kernel"]
    assert [row.deviations * deviation for row in rows] == pytest.approx([2.5, 5.5])
    for a, b in zip(start, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_makes_overrides(model, data):
    scan = tfcomp.sensitivity(model, (0.2, 0.5, 0.9), data, metric="loss", verbose=0)
    assert scan.within(1.0)["sharp/kernel"].sparsity == pytest.approx(0.2)
    assert scan.within(1.0)["blunt/kernel"].sparsity == pytest.approx(0.9)
    assert scan.targets(0.01) == {
        "sharp/kernel": None,
        "blunt/kernel": {"sparsity": pytest.approx(0.9)},
    }
    overrides = scan.targets(1.0)
    done = tfcomp.prune_obs(model, 0.0, data, targets=overrides, verbose=0)
    assert sorted(d.sparsity for d in done) == pytest.approx([0.2, 0.9])
    quality = scan.targets(1.0, lambda row: {"quality": row.deviations})
    pruning = tfcomp.callbacks.MagnitudePruning(targets=quality, rounds=1)
    model.fit(*data, verbose=0, callbacks=[pruning])
    assert np.mean(model.get_layer("sharp").get_weights()[0] == 0) == pytest.approx(0.2)


def test_a_worse_value_in_between_ends_it():
    rows = [
        Scanned("a", sparsity, 1.0, value)
        for sparsity, value in ((0.1, 0.9), (0.2, 0.5), (0.3, 0.9))
    ]
    scan = Sensitivity(None, "accuracy", 0.9, rows)
    assert scan.within(0.1)["a"].sparsity == 0.1


def test_table_plot_and_progress(model, data, tmp_path, capsys):
    scan = tfcomp.sensitivity(model, (0.5,), data)
    assert "2/2" in capsys.readouterr().out
    assert scan.table().row_count == 2
    assert "sharp/kernel" in str(scan) and "50%" in str(scan)
    assert [row.path for row in scan["sharp/kernel"]] == ["sharp/kernel"] and scan.model is model
    pytest.importorskip("matplotlib")
    figure = scan.plot(tmp_path / "scan.png")
    assert (tmp_path / "scan.png").stat().st_size > 1000
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[0, 0.5]] * 2


def test_the_model_is_as_before_when_it_raises(model, data):
    start = model.get_weights()
    calls = []

    def evaluate(*args, **kwargs):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("no")
        return {"loss": 1.0}

    model.evaluate = evaluate
    with pytest.raises(RuntimeError):
        tfcomp.sensitivity(model, (0.5, 0.9), data, verbose=0)
    for a, b in zip(start, model.get_weights()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"sparsities": ()}, "sparsities"),
        ({"sparsities": (0.5, 0.2)}, "sparsities"),
        ({"sparsities": (0.5, 1.0)}, "sparsities"),
        ({"metric": "accuracy"}, "metric"),
        ({"verbose": 1.0}, "verbose"),
        ({"targets": "nothing"}, "targets"),
        ({"data": (np.zeros((0, 10)),)}, "data"),
    ],
)
def test_bad_arguments_name_themselves(model, data, arguments, name):
    with pytest.raises(ValueError, match=f"`{name}`"):
        tfcomp.sensitivity(model, **{"data": data, "verbose": 0, **arguments})


def test_needs_a_compiled_model(data):
    with pytest.raises(ValueError, match="compile"):
        tfcomp.sensitivity(keras.Sequential([keras.Input((10,)), keras.layers.Dense(1)]), data=data)
