"""An export replaces a SavedModel as a whole or not at all, and nothing else ever."""

import os

import pytest

from tfcomp.exporters.folder import replaced, size


def write(path, text):
    with replaced(path) as new, open(os.path.join(new, "saved_model.pb"), "w") as file:
        file.write(text)


def read(path):
    return (path / "saved_model.pb").read_text()


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "deep" / "model"
    write(path, "one")
    (path / "variables").mkdir()
    write(path, "second")
    assert read(path) == "second" and os.listdir(path) == ["saved_model.pb"]
    assert os.listdir(path.parent) == ["model"]
    assert size(path) == 6


def test_a_failure_leaves_the_old_folder_whole(tmp_path):
    path = tmp_path / "model"
    write(path, "old")
    with pytest.raises(KeyboardInterrupt), replaced(path) as new:
        open(os.path.join(new, "saved_model.pb"), "w").close()
        raise KeyboardInterrupt
    assert read(path) == "old" and os.listdir(tmp_path) == ["model"]


def test_a_failing_move_brings_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "model"
    write(path, "old")
    rename = os.rename

    def fails(source, target):
        if source.endswith("new"):
            raise OSError("disk full")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="disk full"):
        write(path, "new")
    assert read(path) == "old" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("beside", [[], ["saved_model.pb"]])
def test_refuses_a_folder_of_something_else(tmp_path, beside):
    for name in [*beside, "thesis.txt"]:
        (tmp_path / name).write_text("years of work")
    with pytest.raises(ValueError, match="`path`"), replaced(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("content")
    with pytest.raises(ValueError, match="`path`"), replaced(tmp_path / "file"):
        pass


def test_an_empty_folder_is_free(tmp_path):
    write(tmp_path, "model")
    assert read(tmp_path) == "model"
