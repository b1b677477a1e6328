"""A folder is replaced as a whole or not at all, and nothing else ever."""

import os

import pytest

from tfcomp.storage.replace import replaced_folder

PARTS = ("saved_model.pb", "variables")


def write(path, text):
    with (
        replaced_folder(path, PARTS) as new,
        open(os.path.join(new, "saved_model.pb"), "w") as file,
    ):
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


def test_a_failure_leaves_the_old_folder_whole(tmp_path):
    path = tmp_path / "model"
    write(path, "old")
    with pytest.raises(KeyboardInterrupt), replaced_folder(path, PARTS) as new:
        open(os.path.join(new, "saved_model.pb"), "w").close()
        raise KeyboardInterrupt
    assert read(path) == "old" and os.listdir(tmp_path) == ["model"]


def test_a_failing_move_brings_the_old_folder_back(tmp_path, monkeypatch):
    path = tmp_path / "model"
    write(path, "old")

    def fails(source, target):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write(path, "new")
    assert read(path) == "old" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("beside", [[], ["saved_model.pb"]])
def test_refuses_a_folder_of_something_else(tmp_path, beside):
    for name in [*beside, "thesis.txt"]:
        (tmp_path / name).write_text("years of work")
    with pytest.raises(ValueError, match="`path`"), replaced_folder(tmp_path, PARTS):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_refuses_a_file(tmp_path):
    (tmp_path / "file").write_text("content")
    with pytest.raises(ValueError, match="`path`"), replaced_folder(tmp_path / "file", PARTS):
        pass


def test_a_link_is_followed_and_the_mode_kept(tmp_path):
    write(tmp_path / "real", "one")
    (tmp_path / "real").chmod(0o750)
    os.symlink(tmp_path / "real", tmp_path / "link")
    write(tmp_path / "link", "two")
    assert os.path.islink(tmp_path / "link") and read(tmp_path / "real") == "two"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o750


def test_an_empty_folder_is_free(tmp_path):
    write(tmp_path, "model")
    assert read(tmp_path) == "model"
