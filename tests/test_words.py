"""What README, pages and docstrings say of names, arguments and weights is so."""

import contextlib
import importlib
import inspect
import pathlib
import re

import keras
import numpy as np
import pytest
from fixtures import CALLBACKS
from test_documentation import MARKDOWN, text_of

import tfcomp

PACKAGE = pathlib.Path(tfcomp.__file__).parent
FACES = [
    "",
    "applications",
    "callbacks",
    "distillation",
    "hardware",
    "layers",
    "losses",
    "optimizers",
    "projections",
]
FACES += ["quantizers", "retrieval", "schedules", "targets"]
# What `targets=None` stands for, and the like: a term within a list is indented further.
ARGUMENT = r"^ {4}([*\w]+(?:, [*\w]+)*):"


def public():
    """Dict from name to every public class and function with a list of arguments."""
    found = {}
    for name in FACES:
        face = getattr(tfcomp, name) if name else tfcomp
        for each in getattr(face, "__all__", vars(face)):
            value = getattr(face, each)
            ours = getattr(value, "__module__", "").startswith("tfcomp")
            callable_ = inspect.isclass(value) or inspect.isfunction(value)
            if ours and callable_ and "Args:" in (inspect.getdoc(value) or ""):
                found[f"{name}.{each}".strip(".")] = value
    return found


PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_documented_arguments_are_those_of_the_signature(name):
    text = inspect.getdoc(PUBLIC[name])
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)*)", text, re.MULTILINE)[1]
    said = [a for names in re.findall(ARGUMENT, section, re.MULTILINE) for a in names.split(", ")]
    said = [argument.lstrip("*") for argument in said]
    taken = list(inspect.signature(PUBLIC[name]).parameters)
    assert len(set(said)) == len(said) and set(said) - {"kwargs", "args"} <= set(taken)
    if "kwargs" not in said:
        assert set(said) == set(taken) - {"kwargs", "args"}


def resolved(name):
    """Whether a dotted name of the package, or the beginning of one that ends in `*`, is there."""
    value = tfcomp
    *parts, last = name.split(".")[1:]
    for part in parts:
        value = getattr(value, part, None)
    if last.endswith("*"):
        return any(each.startswith(last[:-1]) for each in dir(value))
    if hasattr(value, last):
        return True
    with contextlib.suppress(ImportError):
        return bool(importlib.import_module(name))
    with contextlib.suppress(ImportError):
        return hasattr(importlib.import_module(name.rpartition(".")[0]), last)
    return False


@pytest.mark.parametrize("page", [*MARKDOWN, "CHANGELOG.md", "docstrings"])
def test_names_that_are_quoted_are_there(page):
    if page == "docstrings":
        text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    else:
        text = text_of(page)
        short = rf"`((?:{'|'.join(FACES[1:])})\.\w+\*?)"
        for name in re.findall(short, text):
            assert resolved(f"tfcomp.{name}"), name
    for name in set(re.findall(r"`(tfcomp(?:\.\w+)+\*?)", text)):
        assert resolved(name), name


def test_a_table_of_names_in_the_readme_is_complete():
    (row,) = re.findall(r"^\| `tfcomp.callbacks` \| (.*) \|$", text_of("README.md"), re.MULTILINE)
    # The base class, what only works on other callbacks, and what comes with HashNet.
    others = {"ProjectionCallback", "OnceCompressed", "HashContinuation"}
    assert set(re.findall(r"`([A-Z]\w+)`", row)) == set(tfcomp.callbacks.__all__) - others
    named = set(re.findall(r"^\| `(\w+)\(", text_of("docs/callbacks.md"), re.MULTILINE))
    named |= {"BinaryRelax"}
    assert named == set(tfcomp.callbacks.__all__) - {"ProjectionCallback"}


def test_quantized_layers_are_twelve():
    assert "for twelve Keras layers" in text_of("README.md")
    names = [name for name in tfcomp.layers.__all__ if name.startswith("Quantized")]
    assert len(names) == 12
    assert all(hasattr(keras.layers, name.removeprefix("Quantized")) for name in names)


def test_calls_take_what_the_table_says():
    rows = re.findall(r"^\| `(\w+)\(model, (.*)\)` \| (.*) \|$", text_of("docs/index.md"), re.M)
    assert len(rows) == 9
    for name, arguments, _ in rows:
        taken = list(inspect.signature(getattr(tfcomp, name)).parameters)
        assert taken[: len(arguments.split(", ")) + 1] == ["model", *arguments.split(", ")]


FAST = re.compile(r"\b(?:fast|faster|fastest|quick|quicker|speedup|at full speed)\b", re.IGNORECASE)


def test_fast_is_said_only_of_what_a_benchmark_shows():
    """In what describes the project; figures of speed are in blocks that come from results."""
    for page in (*MARKDOWN, "CHANGELOG.md", "setup.py"):
        text = re.sub(r"<!-- figures.*?end of figures -->", "", text_of(page), flags=re.DOTALL)
        found = [text[max(0, m.start() - 40) : m.end() + 40] for m in FAST.finditer(text)]
        assert not found, f"{page}: {found}"
    assert not FAST.search(tfcomp.__doc__) and not FAST.search(tfcomp.export.__doc__)


LAYERS = {
    "dense": (lambda: keras.layers.Dense(6), (4,), [-1]),
    "convolution": (lambda: keras.layers.Conv2D(6, 3), (6, 6, 2), [-1]),
    "grouped": (lambda: keras.layers.Conv2D(6, 3, groups=2), (6, 6, 2), [-1]),
    "transposed": (lambda: keras.layers.Conv2DTranspose(6, 3), (6, 6, 2), [-2]),
    "depthwise": (lambda: keras.layers.DepthwiseConv2D(3), (6, 6, 6), [-2, -1]),
    "einsum": (lambda: keras.layers.EinsumDense("abc,cd->abd", (5, 6)), (5, 4), [-1]),
    "lstm": (lambda: keras.layers.LSTM(3), (5, 4), [-1]),
    "embedding": (lambda: keras.layers.Embedding(6, 4), (5,), [-2]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_blocks_of_all_inputs_are_all_that_leads_to_one_output(name):
    """`block_size=(None, 1)`: "filters, neurons, rows of embeddings, single gates of a unit"."""
    make, shape, axes = LAYERS[name]
    layer = make()
    x = np.ones((4, *shape), "int32" if name == "embedding" else "float32")
    model = keras.Sequential([keras.Input(shape, dtype=x.dtype), layer])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    half = tfcomp.schedules.ConstantSparsity(0.5, begin_step=0)
    pruning = tfcomp.callbacks.GradualPruning(half, block_size=(None, 1))
    bias = getattr(layer, "bias", None)
    if bias is not None:
        bias.assign(np.arange(1, 7))
    model.fit(x, model.predict(x, verbose=0), verbose=0, callbacks=[pruning])
    for target in tfcomp.targets.find(model):
        zero = keras.ops.convert_to_numpy(target.variable.value) == 0
        inputs = tuple(i for i in range(zero.ndim) if i - zero.ndim not in axes)
        outputs = zero.all(axis=inputs)
        # Half of the outputs get no weight, and the others keep all of theirs.
        assert outputs.sum() == outputs.size // 2 and zero.mean() == 0.5, target.path
    if bias is not None:
        # "Biases stay, so a masked filter still gives a constant."
        assert keras.ops.convert_to_numpy(bias.value).tolist() == [1, 2, 3, 4, 5, 6]
        shown = np.moveaxis(model.predict(np.zeros_like(x), verbose=0), -1, 0)
        assert (np.reshape(shown, (6, -1)) == np.arange(1, 7)[:, None]).all()


@pytest.mark.parametrize("name", ["BinaryDense", "HORQDense"])
def test_latent_weights_are_clipped_after_every_update(name):
    layer = getattr(tfcomp.layers, name)(3, kernel_initializer=keras.initializers.Constant(5.0))
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    assert keras.ops.convert_to_numpy(layer.kernel.value).max() == 5
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0)
    assert np.abs(keras.ops.convert_to_numpy(layer.kernel.value)).max() == 1


def logged():
    """Dict from the name of a callback to the first word of what `logs` get, as the table says."""
    _, table = text_of("docs/callbacks.md").split("## What `logs` get")
    rows = re.findall(r"^\| (.*) \| `(\w+)`", table.split("##")[0], re.MULTILINE)
    pruning = "GradualPruning MagnitudePruning DynamicNetworkSurgery SensitivityPruning"
    rows = [(names.replace("those that prune", pruning), word) for names, word in rows]
    return {name: word for names, word in rows for name in re.findall(r"[A-Z]\w+", names)}


def test_the_table_of_logs_names_every_callback():
    others = {"ProjectionCallback", "OnceCompressed"}
    assert set(logged()) == set(tfcomp.callbacks.__all__) - others


@pytest.mark.slow
@pytest.mark.parametrize("make", CALLBACKS, ids=lambda make: make.__name__)
def test_logs_get_what_the_table_says(make):
    callback = make()
    word = logged().get(type(callback).__name__, "sparsity")
    layers = [keras.layers.Dense(6, name="dense"), keras.layers.Dense(1, name="out")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile("sgd", "mse")
    x, y = np.random.default_rng(0).normal(size=(32, 4)), np.zeros((32, 1))
    found = model.fit(x, y, batch_size=8, epochs=2, verbose=0, callbacks=[callback]).history
    assert set(found) == {"loss", word, f"{word}/dense/kernel", f"{word}/out/kernel"}
    assert all(0 <= share <= 1 for share in found[word])


def test_convolutions_have_a_pad_value_but_the_transposed():
    for name in tfcomp.layers.__all__:
        if name.startswith(("Quantized", "Binary", "Ternary", "TrainedTernary", "DoReFa", "HORQ")):
            takes = "pad_value" in inspect.signature(getattr(tfcomp.layers, name)).parameters
            assert takes == ("Conv" in name and "Transpose" not in name), name


def test_hashed_layers_take_what_keras_does_but_for_lora():
    for name in [name for name in tfcomp.layers.__all__ if name.startswith("Hashed")]:
        plain = getattr(keras.layers, name.removeprefix("Hashed"))
        taken = set(inspect.signature(getattr(tfcomp.layers, name)).parameters)
        refused = set(inspect.signature(plain).parameters) - taken
        assert refused <= {"lora_rank", "lora_alpha", "quantization_config"}, name


@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: tfcomp.callbacks.QuantizedTraining("ternary"),
        lambda: tfcomp.callbacks.DynamicNetworkSurgery(0.0),
    ],
    ids=["QuantizedTraining", "DynamicNetworkSurgery"],
)
def test_latent_weights_have_the_precision_of_the_variable(policy, make):
    layer = keras.layers.Dense(3, dtype=policy)
    model = keras.Sequential([keras.Input((4,)), layer])
    model.compile("sgd", "mse")
    model.fit(np.ones((4, 4)), np.ones((4, 3)), verbose=0, callbacks=[make()])
    hidden = [v for v in model.optimizer.variables if v.name.endswith("latent")]
    hidden += [v for v in _tracked(model.optimizer) if v.name.endswith("latent")]
    assert hidden and {str(v.dtype) for v in hidden} == {policy}


def _tracked(optimizer):
    return [v for value in vars(optimizer).values() for v in getattr(value, "variables", ())]


def test_without_quantizers_a_layer_is_that_of_keras():
    """ "With none of them they are exactly the Keras layer." """
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2)).astype("float32")
    plain = keras.layers.Conv2D(3, 3, padding="same")
    quantized = tfcomp.layers.QuantizedConv2D(3, 3, padding="same")
    expected = plain(x)
    quantized.build(x.shape)
    quantized.set_weights(plain.get_weights())
    found = keras.ops.convert_to_numpy(quantized(x))
    np.testing.assert_array_equal(found, keras.ops.convert_to_numpy(expected))
