"""`python -m tfcomp` packs, unpacks and inspects, and says what is wrong."""

import keras
import numpy as np
import pytest

import tfcomp
from tfcomp.__main__ import main
from tfcomp.storage.archive.inspection import Inspection, entropy


@pytest.fixture
def trained(convnet):
    convnet.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    convnet.fit(np.ones((4, 8, 8, 3), "float32"), np.arange(4), verbose=0)
    return convnet


def same_weights(first, second):
    pairs = list(zip(first.get_weights(), second.get_weights(), strict=True))
    return all(one.tobytes() == other.tobytes() for one, other in pairs)


@pytest.mark.parametrize("options", [[], ["--include-optimizer"], ["--coding", "huffman"]])
def test_pack_and_unpack(tmp_path, trained, options, capsys):
    source, archive, back = (str(tmp_path / name) for name in ("a.keras", "a.tfc", "b.keras"))
    trained.save(source)
    assert main(["pack", source, archive, *options]) == 0
    assert "times smaller" in capsys.readouterr().out
    assert same_weights(tfcomp.load(archive), trained)
    assert main(["unpack", archive, back]) == 0
    include = "--include-optimizer" in options
    loaded = keras.saving.load_model(back, compile=include)
    assert same_weights(loaded, trained)
    if include:
        assert int(loaded.optimizer.iterations) == 1
        pairs = zip(loaded.optimizer.variables, trained.optimizer.variables, strict=True)
        assert all(np.array_equal(*map(keras.ops.convert_to_numpy, pair)) for pair in pairs)


def test_pack_gives_what_save_gives(tmp_path, trained):
    trained.save(tmp_path / "a.keras")
    assert main(["pack", str(tmp_path / "a.keras"), str(tmp_path / "a.tfc")]) == 0
    tfcomp.save(trained, tmp_path / "b.tfc")
    packed, saved = (Inspection(tmp_path / name) for name in ("a.tfc", "b.tfc"))
    assert sorted(packed.weights) == sorted(saved.weights)


def test_pack_needs_no_classes(tmp_path):
    @keras.saving.register_keras_serializable("archive_tests")
    class Gone(keras.layers.Dense):
        pass

    model = keras.Sequential([keras.Input((3,)), Gone(2, dtype="bfloat16")])
    model.save(tmp_path / "a.keras")
    keras.saving.get_custom_objects().pop("archive_tests>Gone")
    for command in (["pack", "a.keras", "a.tfc"], ["unpack", "a.tfc", "b.keras"]):
        assert main([command[0], *(str(tmp_path / name) for name in command[1:])]) == 0
    with pytest.raises(tfcomp.ArchiveError, match="Gone"):
        tfcomp.load(tmp_path / "a.tfc")
    objects = {"archive_tests>Gone": Gone, "Gone": Gone}
    loaded = tfcomp.load(tmp_path / "a.tfc", custom_objects=objects)
    assert same_weights(loaded, model)
    assert same_weights(keras.saving.load_model(tmp_path / "b.keras", objects), model)


@pytest.mark.tensorflow
def test_files_of_layers(tmp_path):
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"])
    model = keras.Sequential([keras.Input((1,), dtype="string"), lookup])
    model.save(tmp_path / "a.keras")
    for command in (["pack", "a.keras", "a.tfc"], ["unpack", "a.tfc", "b.keras"]):
        assert main([command[0], *(str(tmp_path / name) for name in command[1:])]) == 0
    for loaded in (
        tfcomp.load(tmp_path / "a.tfc"),
        keras.saving.load_model(tmp_path / "b.keras"),
    ):
        assert loaded.layers[-1].get_vocabulary() == lookup.get_vocabulary()


def test_inspect(tmp_path, convnet, capsys):
    tfcomp.save(convnet, tmp_path / "a.tfc")
    assert main(["inspect", str(tmp_path / "a.tfc")]) == 0
    shown = capsys.readouterr().out
    assert "layers/dense/0" in shown and "288 x 10" in shown and "palette" in shown
    inspected = Inspection(tmp_path / "a.tfc")
    kernel = next(row for row in inspected.weights if row.shape == (288, 10))
    assert kernel.entropy == pytest.approx(entropy(convnet.layers[-1].get_weights()[0]))
    assert inspected.bytes == inspected.header_bytes + sum(row.bytes for row in inspected.weights)


def test_entropy_by_hand():
    assert entropy(np.array([0, 0, 1, -1], "float32")) == 1.5
    assert entropy(np.zeros(7)) == 0 and entropy(np.zeros(0)) == 0
    # Zeros of both signs are told apart.
    assert entropy(np.array([0.0, -0.0])) == 1


def test_errors(tmp_path, convnet, capsys):
    (tmp_path / "no.tfc").write_bytes(b"nothing")
    assert main(["inspect", str(tmp_path / "no.tfc")]) == 1
    assert main(["unpack", str(tmp_path / "no.tfc"), str(tmp_path / "b.keras")]) == 1
    assert capsys.readouterr().err.count("ArchiveError: This is not a tfcomp archive") == 2
    assert main(["pack", str(tmp_path / "no.tfc"), str(tmp_path / "b.tfc")]) == 1
    assert "is not a .keras file" in capsys.readouterr().err
    assert main(["pack", str(tmp_path / "nothing"), str(tmp_path / "b.tfc")]) == 1
    tfcomp.save(convnet, tmp_path / "a.tfc")
    assert main(["unpack", str(tmp_path / "a.tfc"), str(tmp_path / "b.h5")]) == 1
    assert "`path`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tfc", "no.tfc"]
