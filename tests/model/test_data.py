"""Data in every form that `fit` and `predict` take."""

import inspect
import warnings

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.model.data import Batches

CALLS = {
    "prune_obs": (0.5,),
    "quantize": ("ternary",),
    "deep_compression": (None, (2, 1)),
    "sensitivity": ((0.5,),),
    "quantize_activations": (4,),
    "product_quantize": (2, 2),
    "summary": (False,),
}
A, B = np.random.default_rng(0).normal(size=(2, 16, 6)).astype("float32")
Y = np.ones((16, 5), "float32")


class Half(keras.utils.PyDataset):
    """Batches of eight, as a `PyDataset` or as a plain iterable."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return self.make(slice(8 * index, 8 * index + 8))


def generator(make):
    """A generator that fills the same arrays again and again."""
    first = [np.empty((8, 6), "float32"), np.empty((8, 6), "float32")]
    for index in range(2):
        (a, b), y = make(slice(8 * index, 8 * index + 8))
        first[0][...], first[1][...] = a, b
        yield tuple(first), y


def batch(part):
    return (A[part], B[part]), Y[part]


def named(part):
    return {"a": A[part], "b": B[part]}, Y[part]


def dataset(make):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(make(slice(None))).batch(8)


def loader():
    torch = pytest.importorskip("torch")
    samples = [((A[i], B[i]), Y[i]) for i in range(16)]
    return torch.utils.data.DataLoader(samples, batch_size=8)


# Without targets, which `predict` does not need.
INPUTS = {
    "list": lambda: [A, B],
    "tuple": lambda: (A, B),
    "dict": lambda: {"a": A, "b": B},
    "list alone in a tuple": lambda: ([A, B],),
    "no targets": lambda: ([A, B], None),
    "two, no targets": lambda: (A, B, None),
    "doubles": lambda: [A.astype("float64"), B.astype("float64")],
    "backend": lambda: [keras.ops.convert_to_tensor(A), keras.ops.convert_to_tensor(B)],
    "batches of inputs": lambda: Half(lambda part: (batch(part)[0],)),
    "batches of two": lambda: Half(lambda part: batch(part)[0]),
    "generator of inputs": lambda: (([A[i : i + 8], B[i : i + 8]],) for i in (0, 8)),
}
WITH_TARGETS = {
    "lists": lambda: ([A, B], Y),
    "tuples": lambda: ((A, B), Y),
    "dicts": lambda: ({"a": A, "b": B}, Y),
    "weights": lambda: ([A, B], Y, np.ones(16, "float32")),
    "dataset": lambda: dataset(batch),
    "dataset of dicts": lambda: dataset(named),
    "PyDataset": lambda: Half(batch),
    "PyDataset of dicts": lambda: Half(named),
    "generator": lambda: generator(batch),
    "generator of dicts": lambda: (named(slice(i, i + 8)) for i in (0, 8)),
    "DataLoader": loader,
}


def two_inputs():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    joined = keras.layers.Concatenate()([keras.layers.Dense(8)(a), b])
    normal = keras.layers.BatchNormalization()(joined)
    model = keras.Model([a, b], keras.layers.Dense(5)(normal))
    model.compile("adam", "mse")
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("form", INPUTS | WITH_TARGETS)
def test_inputs_are_the_same_in_every_form(form):
    data = (INPUTS | WITH_TARGETS)[form]()
    batches = Batches(two_inputs(), data, batch_size=8)
    for _ in range(2):
        found = [keras.tree.flatten(x) for x in batches]
        assert len(found) == 2 and all(map(keras.ops.is_tensor, found[0]))
        a, b = (np.concatenate([keras.ops.convert_to_numpy(x) for x in xs]) for xs in zip(*found))
        np.testing.assert_array_equal(a, A)
        np.testing.assert_array_equal(b, B)


@pytest.mark.parametrize("form", ["list", "tuple", "dict", "generator", "dataset of dicts"])
@pytest.mark.parametrize("name", CALLS)
def test_every_call_takes_several_inputs(name, form):
    trains = name in ("deep_compression", "sensitivity")
    forms = WITH_TARGETS if trains else INPUTS | WITH_TARGETS
    form = {"list": "lists", "tuple": "tuples", "dict": "dicts"}.get(form, form) if trains else form
    call = getattr(tfcomp, name)
    few = {"batch_size": 2} if "batch_size" in inspect.signature(call).parameters else {}
    quiet = {"verbose": 0} if "verbose" in inspect.signature(call).parameters else {}
    done = call(two_inputs(), *CALLS[name], data=forms[form](), **few, **quiet)
    assert len(getattr(done, "rows", None) or done.layers) >= 2


def test_results_do_not_depend_on_the_form():
    weights = []
    for form in ("list", "tuple", "dict", "generator", "PyDataset of dicts"):
        model = two_inputs()
        data = (INPUTS | WITH_TARGETS)[form]()
        tfcomp.prune_obs(model, 0.5, data, batch_size=8, verbose=0)
        weights.append(model.get_weights())
    for others in weights[1:]:
        for one, other in zip(weights[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_tuple_is_inputs_and_targets_to_a_model_of_one_input():
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    for data in ((A, B), (A,), (A, B, np.ones(16)), A, [A], Half(lambda part: [A[part], B[part]])):
        found = [keras.ops.convert_to_numpy(keras.tree.flatten(x)[0]) for x in Batches(model, data)]
        np.testing.assert_array_equal(np.concatenate(found), A)
    assert set(Batches(model, (A, B)).keywords()) == {"x", "y", "batch_size"}


class Joined(keras.Model):
    """A subclassed model; what it takes is known from what it was called with."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(5)

    def call(self, inputs):
        a, b = inputs
        return self.dense(keras.ops.concatenate([a, b], axis=-1))


def test_subclassed_models():
    model = Joined()
    model([A, B])
    for data in ((A, B), [A, B], ([A, B], Y)):
        (x,) = Batches(model, data)
        assert len(x) == 2
        tfcomp.prune_obs(model, 0.5, data, verbose=0)


class Named(keras.Model):
    """A subclassed model that takes dicts of which it uses a part."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(5)

    def call(self, inputs):
        return self.dense(inputs["a"])


def test_what_a_subclassed_model_takes_is_for_it_to_say():
    model = Named()
    model({"a": A})
    done = tfcomp.prune_obs(model, 0.5, ({"a": A, "other": B}, Y), verbose=0)
    assert done[0].sparsity == 0.5


def test_what_a_model_does_not_take_is_named():
    one, two = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)]), two_inputs()
    for model, data, width in ((one, [A, B], 1), (two, A, 2), (two, (A, B, A, B), 2)):
        with pytest.raises(ValueError, match=rf"`data`.*are {width} inputs.*\(16, 6\)"):
            tfcomp.prune_obs(model, 0.5, data, verbose=0)
    with pytest.raises(ValueError, match=r"`data`.*are 2 inputs"):
        tfcomp.prune_obs(two, 0.5, Half(lambda part: A[part]), verbose=0)


class Endless(Half):
    @property
    def num_batches(self):
        return None


def test_data_that_cannot_be_used():
    tf = pytest.importorskip("tensorflow")
    model = two_inputs()
    endless = "data that end"
    for data, reason in (
        (None, "NoneType"),
        (3, "int"),
        ("data", "str"),
        ([1.0, 2.0], "list"),
        ([A, B[:8]], r"one length.*\[8, 16\]"),
        ([A[:0], B[:0]], "at least one sample"),
        (iter(()), "at least one sample"),
        (Endless(batch), endless),
        (tf.data.Dataset.from_tensors(batch(slice(8))).repeat(), endless),
    ):
        with pytest.raises(ValueError, match=f"`data`.*{reason}"):
            tfcomp.prune_obs(model, 0.5, data, verbose=0)


def test_data_frames_and_sparse_matrices():
    pandas, sparse = pytest.importorskip("pandas"), pytest.importorskip("scipy.sparse")
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6)])
    for data in (pandas.DataFrame(A), sparse.csr_matrix(A), (pandas.DataFrame(A), B)):
        (x,) = Batches(model, data)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(x), A)


@pytest.mark.parametrize("name", CALLS)
def test_no_warning_where_predict_has_none(name, tmp_path):
    """A model from an old `.h5` file takes a list of one input."""
    image = keras.Input((6,), name="input_1")
    outputs = keras.layers.BatchNormalization()(keras.layers.Dense(8)(image))
    model = keras.Model([image], keras.layers.Dense(5)(outputs))
    model.save(tmp_path / "old.h5")
    model = keras.models.load_model(tmp_path / "old.h5", compile=False)
    model.compile("adam", "mse")
    call = getattr(tfcomp, name)
    parameters = inspect.signature(call).parameters
    others = {"batch_size": 2, "verbose": 0} if "batch_size" in parameters else {}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The structure of")
        for data in ((A, Y), ([A], Y), ({"input_1": A}, Y)):
            call(model, *CALLS[name], data=data, **others)
