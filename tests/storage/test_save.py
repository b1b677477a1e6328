"""A saved model comes back as it was, and a damaged file is always the same clear error."""

import json
import os

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st

import tfcomp
from tfcomp.__main__ import main
from tfcomp.storage.archive import container
from tfcomp.storage.replace import replaced_file

CODINGS = ("ans", "huffman")


@keras.saving.register_keras_serializable("archive_tests")
class Twice(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [keras.layers.Dense(4), keras.layers.Dense(4)]

    def call(self, inputs):
        for block in self.blocks:
            inputs = block(inputs)
        return inputs


def functional():
    inputs = keras.Input((6, 5))
    x = keras.layers.Bidirectional(keras.layers.LSTM(3, return_sequences=True))(inputs)
    x = keras.layers.MultiHeadAttention(2, 3)(x, x)
    inner = keras.Sequential([keras.Input((6,)), keras.layers.Dense(6), keras.layers.Dropout(0.5)])
    x = keras.layers.TimeDistributed(inner)(x)
    return keras.Model(inputs, [keras.layers.Flatten()(x), x])


def quantized():
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            tfcomp.layers.BinaryConv2D(4, 3, scale=True),
            keras.layers.BatchNormalization(),
            tfcomp.layers.FireModule(2, 4),
            keras.layers.Flatten(),
            tfcomp.layers.TernaryDense(3),
            tfcomp.layers.HashedDense(3, compression=0.5),
        ]
    )


def subclassed():
    model = Twice()
    model(np.zeros((1, 5), "float32"))
    return model


def mixed():
    keras.config.set_dtype_policy("mixed_bfloat16")
    dense = keras.layers.Dense(4, dtype=keras.DTypePolicy("bfloat16"))
    return keras.Sequential([keras.Input((7,)), keras.layers.Dense(5), dense])


def inputs_of(model, shape):
    return np.random.default_rng(0).standard_normal((4, *shape)).astype("float32")


MODELS = [
    (functional, (6, 5)),
    (quantized, (8, 8, 3)),
    (subclassed, (5,)),
    (mixed, (7,)),
]


def assert_same_weights(first, second):
    # Not `variables`: Keras saves the seeds of no layer that keeps them inside another.
    assert len(first.weights) == len(second.weights)
    for one, other in zip(first.weights, second.weights):
        one, other = (np.asarray(keras.ops.convert_to_numpy(v)) for v in (one, other))
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()


# --- round trips -------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("build, shape", MODELS, ids=[build.__name__ for build, _ in MODELS])
def test_models_come_back(tmp_path, build, shape, coding):
    model = build()
    tfcomp.save(model, tmp_path / "model.tfc", coding=coding)
    loaded = tfcomp.load(tmp_path / "model.tfc")
    assert type(loaded) is type(model)
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    assert_same_weights(model, loaded)
    inputs = inputs_of(model, shape)
    for one, other in zip(
        keras.tree.flatten(model.predict(inputs, verbose=0)),
        keras.tree.flatten(loaded.predict(inputs, verbose=0)),
    ):
        assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("include_optimizer", [False, True])
def test_compile_state(tmp_path, convnet, include_optimizer):
    convnet.compile(
        keras.optimizers.SGD(0.125, momentum=0.5),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    x, y = inputs_of(convnet, (8, 8, 3)), np.arange(4)
    convnet.fit(x, y, epochs=2, verbose=0)
    tfcomp.save(convnet, tmp_path / "model.tfc", include_optimizer=include_optimizer)
    loaded = tfcomp.load(tmp_path / "model.tfc")
    assert isinstance(loaded.optimizer, keras.optimizers.SGD)
    assert loaded.optimizer.momentum == 0.5 and float(loaded.optimizer.learning_rate) == 0.125
    assert loaded.evaluate(x, y, verbose=0) == convnet.evaluate(x, y, verbose=0)
    assert int(loaded.optimizer.iterations) == (2 if include_optimizer else 0)
    if include_optimizer:
        for model in (convnet, loaded):
            keras.utils.set_random_seed(0)
            model.fit(x, y, verbose=0, shuffle=False)
        assert_same_weights(convnet, loaded)
    assert not tfcomp.load(tmp_path / "model.tfc", compile=False).compiled


def test_files_of_layers_come_back(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the layer needs TensorFlow")
    model = keras.Sequential(
        [keras.Input((1,), dtype="string"), keras.layers.StringLookup(vocabulary=["ä", "b"])]
    )
    tfcomp.save(model, tmp_path / "model.tfc")
    loaded = tfcomp.load(tmp_path / "model.tfc")
    assert loaded.layers[-1].get_vocabulary() == model.layers[-1].get_vocabulary()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    saved = []
    for name in ("one", "two"):
        # Names count on from those before.
        keras.backend.clear_session()
        keras.utils.set_random_seed(1)
        tfcomp.save(functional(), tmp_path / name)
        saved.append((tmp_path / name).read_bytes())
    assert saved[0] == saved[1]


def test_signed_zeros_and_nans_keep_their_bits(tmp_path):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, use_bias=False)])
    bits = np.array([0x80000000, 0x7FC00001, 0xFFC12345, 0, 1, 0x7F800000, 0x3F800000, 0], "uint32")
    model.layers[0].kernel.assign(bits.view("float32").reshape(4, 2))
    tfcomp.save(model, tmp_path / "model.tfc")
    assert_same_weights(model, tfcomp.load(tmp_path / "model.tfc"))


def test_a_pruned_model_is_small(tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((300,)), keras.layers.Dense(400)])
    kernel = model.layers[0].kernel
    rng = np.random.default_rng(0)
    kernel.assign((rng.random((300, 400)) < 0.1) * rng.choice([-1, 1], (300, 400)))
    tfcomp.save(model, tmp_path / "model.tfc")
    # Shares of 0.9, 0.05 and 0.05: 0.569 bits for each of 120,000 weights.
    assert os.path.getsize(tmp_path / "model.tfc") < 1.02 * 0.569 * 120_000 / 8 + 1000


# --- safety ------------------------------------------------------------------------------------


def test_code_in_a_file_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: 2 * x)])
    tfcomp.save(model, tmp_path / "model.tfc")
    with pytest.raises(tfcomp.ArchiveError, match=r"(?i)lambda"):
        tfcomp.load(tmp_path / "model.tfc")
    loaded = tfcomp.load(tmp_path / "model.tfc", safe_mode=False)
    assert loaded.predict(np.ones((1, 2)), verbose=0).tolist() == [[2, 2]]


def test_an_interrupted_save_leaves_the_old_file(tmp_path, convnet, monkeypatch):
    path = tmp_path / "model.tfc"
    tfcomp.save(convnet, path)
    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        tfcomp.save(convnet, path, coding="huffman")
    assert path.read_bytes() == old and os.listdir(tmp_path) == ["model.tfc"]


def test_an_interrupted_write_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), replaced_file(tmp_path / "new") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_a_link_is_followed(tmp_path, convnet):
    os.symlink(tmp_path / "real.tfc", tmp_path / "link.tfc")
    tfcomp.save(convnet, tmp_path / "link.tfc")
    assert os.path.islink(tmp_path / "link.tfc")
    assert_same_weights(convnet, tfcomp.load(tmp_path / "real.tfc"))


def test_the_mode_of_a_replaced_file_is_kept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replaced_file(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o640


def small():
    rng = np.random.default_rng(0)
    kernel = np.where(rng.random((30, 20)) < 0.2, rng.integers(1, 9, (30, 20)), 0)
    return container.Contents(
        keras.__version__,
        '{"module": "keras"}',
        {
            "layers/dense": {"0": kernel.astype("float32"), "1": np.arange(20) / np.float32(7)},
            "layers/scaled": {"0": np.outer(kernel[0] % 3, np.arange(9) / 7).astype("float32")},
            "empty": {"0": np.zeros((0, 3), "int8")},
        },
        {"vocabulary.txt": b"a\nb\n"},
    )


def read(data, max_bytes=1 << 20):
    return container.Archive(data, max_bytes).contents()


@pytest.mark.parametrize("coding", CODINGS)
def test_every_byte_and_every_truncation(coding):
    contents = small()
    data = container.to_bytes(contents, coding)
    back = read(data)
    assert json.loads(back.config) == json.loads(contents.config)
    assert back.assets == contents.assets
    assert all(
        back.state[path][name].tobytes() == value.tobytes()
        for path, group in contents.state.items()
        for name, value in group.items()
    )
    for at in range(len(data)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(tfcomp.ArchiveError):
            read(bytes(broken))
        with pytest.raises(tfcomp.ArchiveError):
            read(data[:at])
    with pytest.raises(tfcomp.ArchiveError):
        read(data + b"x")


def sealed(body):
    """An archive whose checksum is right, whatever else is wrong."""
    return bytes(body) + container._digest(bytes(body))


@pytest.mark.parametrize("coding", CODINGS)
def test_damage_with_a_right_checksum(coding):
    contents = small()
    body = container.to_bytes(contents, coding)[:-16]
    rng = np.random.default_rng(0)
    for at in range(8, len(body), 3):
        broken = bytearray(body)
        broken[at] ^= int(rng.integers(1, 256))
        try:
            back = read(sealed(broken))
        except tfcomp.ArchiveError:
            continue
        # What is left is what no checksum but the archive's own covers, or what tells the same.
        assert sum(v.nbytes for group in back.state.values() for v in group.values()) <= 1 << 20
    for cut in range(8, len(body), 7):
        with pytest.raises(tfcomp.ArchiveError):
            read(sealed(body[:cut]))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
weights = st.tuples(
    st.text(max_size=3),
    st.sampled_from(["float32", "int8", "bool", "O", "float32,int8", "M8[s]", ">f4", "V4", "("]),
    st.lists(st.integers(-1, 1 << 50) | json_values, max_size=3),
).map(list)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.fixed_dictionaries(
        {
            "keras": st.text(max_size=5) | json_values,
            "config": st.dictionaries(st.text(max_size=5), json_values) | json_values,
            "state": st.dictionaries(
                st.text(max_size=5), st.lists(weights | json_values, max_size=2) | json_values
            ),
            "assets": st.lists(st.text(max_size=5) | json_values, max_size=2) | json_values,
        }
    )
    | json_values,
    st.binary(max_size=60),
)
def test_any_header(header, rest):
    packed = container._packed(json.dumps(header).encode())
    for coder in (0, 1):
        head = container.MAGIC + bytes([container.VERSION, coder]) + packed
        try:
            back = read(sealed(head + rest))
        except tfcomp.ArchiveError:
            continue
        # What is read is what the header declares.
        declared = {
            path: {name: [dtype, shape] for name, dtype, shape in group}
            for path, group in header["state"].items()
        }
        assert declared == {
            path: {name: [value.dtype.name, list(value.shape)] for name, value in group.items()}
            for path, group in back.state.items()
        }
        assert list(back.assets) == header["assets"]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "no"),
        (b"PK\x03\x04 a zip file", "not a tfcomp archive"),
        (sealed(container.MAGIC + b"\x09"), "early"),
        (sealed(container.MAGIC + b"\x09\x00"), "version 9"),
        (sealed(container.MAGIC + b"\x01\x07"), "coder 7"),
        (sealed(container.MAGIC + b"\x01\x00\x80\x01\xff\xff\x7f\x01x"), "limit"),
    ],
)
def test_messages(data, message):
    with pytest.raises(tfcomp.ArchiveError, match=message):
        read(data)


def test_a_deep_header_is_an_error():
    deep = container._packed(b'{"a":' * 100_000)
    with pytest.raises(tfcomp.ArchiveError, match="header"):
        read(sealed(container.MAGIC + b"\x01\x00" + deep))


def test_sizes_are_checked_before_memory_is_taken(tmp_path):
    model = keras.Sequential([keras.Input((100,)), keras.layers.Dense(100)])
    model.layers[0].kernel.assign(np.zeros((100, 100)))
    tfcomp.save(model, tmp_path / "model.tfc")
    with pytest.raises(tfcomp.ArchiveError, match="max_bytes"):
        tfcomp.load(tmp_path / "model.tfc", max_bytes=40_000)
    tfcomp.load(tmp_path / "model.tfc", max_bytes=40_400)


@pytest.mark.parametrize(
    "path", ["../../evil.txt", "/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:/evil.txt"]
)
@pytest.mark.parametrize("kind", ["asset", "group", "weight"])
def test_nothing_can_leave_its_folder(tmp_path, path, kind, monkeypatch, capsys):
    whole = small()
    if kind == "asset":
        evil = whole._replace(assets={path: b"evil"})
    elif kind == "group":
        evil = whole._replace(state={path: {"0": np.zeros(3, "float32")}})
    else:
        evil = whole._replace(state={"layers": {path: np.zeros(3, "float32")}})
    with pytest.raises(ValueError, match=r"evil\.txt"):
        container.to_bytes(evil)
    with monkeypatch.context() as patch:
        patch.setattr(container, "_check_path", lambda path: None)
        (tmp_path / "evil.tfc").write_bytes(container.to_bytes(evil))
    with pytest.raises(tfcomp.ArchiveError, match=r"evil\.txt"):
        tfcomp.load(tmp_path / "evil.tfc")
    assert main(["unpack", str(tmp_path / "evil.tfc"), str(tmp_path / "evil.keras")]) == 1
    assert "evil.txt" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["evil.tfc"]


def with_shape(data, path, index, shape):
    """An archive whose header declares another shape of a weight, its checksum right."""
    archive = container.Archive(data)
    header = archive.header
    header["state"][path][index][2] = shape
    packed = container._packed(json.dumps(header).encode())
    return sealed(data[: len(container.MAGIC) + 2] + packed + data[archive.header_bytes : -16])


def test_a_declared_shape_is_compared_before_anything_is_decoded(tmp_path, convnet, monkeypatch):
    tfcomp.save(convnet, tmp_path / "model.tfc")
    data = (tmp_path / "model.tfc").read_bytes()
    # Two gibibytes in a kilobyte or two.
    bomb = with_shape(data, "layers/dense", 0, [1 << 29])
    (tmp_path / "bomb.tfc").write_bytes(bomb)
    monkeypatch.setattr(container.record, "decode", lambda *_: pytest.fail("decoded"))
    assert len(bomb) < 4000
    with pytest.raises(tfcomp.ArchiveError, match=r"layers/dense/0: .*\(536870912,\).*\(288, 10\)"):
        tfcomp.load(tmp_path / "bomb.tfc")
    assert main(["inspect", str(tmp_path / "bomb.tfc"), "--max-bytes", "1000000"]) == 1
    assert main(["unpack", str(tmp_path / "bomb.tfc"), "b.keras", "--max-bytes", "1000000"]) == 1


def test_a_config_that_keras_cannot_build(tmp_path):
    (tmp_path / "model.tfc").write_bytes(container.to_bytes(small()))
    with pytest.raises(tfcomp.ArchiveError, match="Keras cannot build"):
        tfcomp.load(tmp_path / "model.tfc")


def test_a_weight_of_another_shape(tmp_path, convnet):
    tfcomp.save(convnet, tmp_path / "model.tfc")
    whole = read((tmp_path / "model.tfc").read_bytes())
    whole.state["layers/dense"]["0"] = np.zeros((2, 2), "float32")
    (tmp_path / "model.tfc").write_bytes(container.to_bytes(whole))
    with pytest.raises(tfcomp.ArchiveError, match="dense"):
        tfcomp.load(tmp_path / "model.tfc")


# --- arguments ---------------------------------------------------------------------------------


def test_arguments(tmp_path, convnet):
    with pytest.raises(ValueError, match="`model`"):
        tfcomp.save("model", tmp_path / "m")
    with pytest.raises(ValueError, match="no weights yet"):
        tfcomp.save(keras.Sequential([keras.layers.Dense(2)]), tmp_path / "m")
    with pytest.raises(ValueError, match="`coding`"):
        tfcomp.save(convnet, tmp_path / "m", coding="zip")
    for path in (3, "gs://bucket/model.tfc"):
        with pytest.raises(ValueError, match="`path`"):
            tfcomp.save(convnet, path)
        with pytest.raises(ValueError, match="`path`"):
            tfcomp.load(path)
    with pytest.raises(ValueError, match="`path`"):
        tfcomp.save(convnet, tmp_path)
    with pytest.raises(FileNotFoundError):
        tfcomp.load(tmp_path / "nothing")
