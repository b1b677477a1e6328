"""One grammar for all calls on a trained model: their signatures, results and documentation."""

import inspect
import io
import pathlib
import re

import keras
import numpy as np
import pytest
import rich

import tfcomp

CALLS = {
    "prune_obs": (0.5,),
    "quantize": ("ternary",),
    "deep_compression": (None, (2, 1)),
    "sensitivity": ((0.5,),),
    "quantize_activations": (4,),
    "factorize": (2,),
    "product_quantize": (2, 2),
    "decompose": (0.9, 1),
}


def make():
    first, out = keras.layers.Dense(8, name="first"), keras.layers.Dense(6, name="out")
    model = keras.Sequential([keras.Input((5,)), first, keras.layers.BatchNormalization(), out])
    model.compile("adam", "mse")
    rng = np.random.default_rng(0)
    return model, (rng.normal(size=(16, 5)).astype("float32"), np.ones((16, 6), "float32"))


def called(name, model, data, **arguments):
    call = getattr(tfcomp, name)
    takes_data = "data" in inspect.signature(call).parameters
    given = {"data": data, "batch_size": 8} if takes_data else {}
    return call(model, *(CALLS | STRUCTURAL)[name], **given, **arguments)


# What leaves the model, its last layer makes, and no call can take away.
STRUCTURAL = {"prune_channels": (0.5,)}


@pytest.mark.parametrize("name", CALLS | STRUCTURAL)
def test_signatures(name):
    parameters = inspect.signature(getattr(tfcomp, name)).parameters
    positional = [n for n, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    keyword_only = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    assert positional[0] == "model" and positional[-1] == "targets"
    assert parameters["targets"].default is None
    if "data" in parameters:
        assert positional[-2] == "data" and keyword_only[-2] == "batch_size"
        assert parameters["data"].default is None and parameters["batch_size"].default == 32
    assert keyword_only[-1] == "verbose" and parameters["verbose"].default == 1


@pytest.mark.parametrize("name", CALLS)
def test_results(name):
    model, data = make()
    done = called(name, model, data, verbose=0)
    assert isinstance(done, tfcomp.Result) and isinstance(done.model, keras.Model)
    assert {row.path.split("/")[0] for row in done.rows} == {"first", "out"}
    assert not done.left_out and list(done) == done.rows
    for text in (repr(done), _shown_by_rich(done)):
        assert "first" in text and "out" in text and len(text.splitlines()) > 4


def _shown_by_rich(result):
    file = io.StringIO()
    rich.console.Console(file=file, width=120).print(result)
    return file.getvalue()


@pytest.mark.parametrize("name", CALLS | STRUCTURAL)
def test_the_documentation_says_what_becomes_of_the_model(name):
    text = (pathlib.Path(__file__).parents[2] / "docs" / "index.md").read_text()
    model, data = make()
    before = [w.copy() for w in model.get_weights()]
    done = called(name, model, data, verbose=0)
    same = all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    kind = "a new one" if done.model is not model else "as before" if same else "changed in place"
    arguments = list(inspect.signature(getattr(tfcomp, name)).parameters)
    shown = ", ".join(arguments[: arguments.index("targets")])
    assert f"| `{name}({shown})` | {kind} |" in text
    said = {"a new one": "Makes a new model", "as before": "Changes nothing"}
    doc = inspect.getdoc(getattr(tfcomp, name))
    assert re.search(rf"^{said.get(kind, 'Works in place')}", doc, re.MULTILINE)
    assert same or kind == "changed in place"


@pytest.mark.parametrize("name", CALLS | STRUCTURAL)
def test_verbose(name, capsys):
    shown = {}
    for verbose in (0, False, 1, True, np.int64(2), 2):
        model, data = make()
        called(name, model, data, verbose=verbose)
        shown[repr(verbose)] = capsys.readouterr().out
    assert shown["0"] == shown["False"] == ""
    bar = re.compile(r"\d[mu]?s/")
    assert bar.search(shown["1"]) and bar.search(shown["True"])
    lines = 3 if name == "deep_compression" else 2
    assert not bar.search(shown["2"]) and len(shown["2"].splitlines()) == lines
    for verbose in (3, -1, 1.0, "1", "auto", None):
        model, data = make()
        with pytest.raises(ValueError, match="argument `verbose`"):
            called(name, model, data, verbose=verbose)


@pytest.mark.parametrize("name", CALLS)
def test_frozen_weights_are_left_out_with_the_reason(name, capsys):
    model, data = make()
    model.get_layer("out").trainable = False
    model.compile("adam", "mse")
    done = called(name, model, data, verbose=1)
    if name == "quantize_activations":
        # What a layer's inputs are rounded to has nothing to do with training it.
        assert len(done) == 2
    else:
        assert done.left_out == [("out/kernel", "it is frozen")]
        assert "Left out: out/kernel (it is frozen)." in capsys.readouterr().out
        assert "left out: it is frozen" in repr(done)
