"""A folder is replaced as a whole or not at all, and nothing else ever."""

import os
import shutil
import tempfile
import threading

import pytest

from tfcomp.storage import replace
from tfcomp.storage.replace import replaced_file, replaced_files, replaced_folder

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

    monkeypatch.setattr(replace, "_renameat2", lambda one, other: False)
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


@pytest.fixture(params=["exchanged", "renamed"])
def exchange(request, monkeypatch):
    """With the system's exchange of two paths, and as where there is none."""
    if request.param == "renamed":
        monkeypatch.setattr(replace, "_renameat2", lambda one, other: False)


def write_pair(path, text, then=lambda: None):
    with replaced_files(path) as new:
        assert os.path.basename(new) == os.path.basename(path)
        for name in (new, f"{new}.data"):
            with open(name, "w") as file:
                file.write(text)
        then()


def test_several_files_take_their_places(tmp_path, exchange):
    path = tmp_path / "größe" / "model.xml"
    for text in ("one", "second"):
        write_pair(path, text)
        assert path.read_text() == (path.parent / "model.xml.data").read_text() == text
        assert sorted(os.listdir(path.parent)) == ["model.xml", "model.xml.data"]


def test_a_failure_leaves_the_old_files_whole(tmp_path):
    path = tmp_path / "model.xml"
    write_pair(path, "old")

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pair(path, "new", interrupted)
    assert path.read_text() == (tmp_path / "model.xml.data").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["model.xml", "model.xml.data"]


@pytest.mark.parametrize("before", ["old", None])
def test_files_that_are_in_place_go_back_where_one_fails(tmp_path, monkeypatch, exchange, before):
    path = tmp_path / "model.xml"
    if before:
        write_pair(path, before)
    put = replace._put

    def fails(new, path):
        if path.endswith(".xml"):
            raise OSError("disk full")
        put(new, path)

    monkeypatch.setattr(replace, "_put", fails)
    with pytest.raises(OSError, match="disk full"):
        write_pair(path, "new")
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == (
        {"model.xml": "old", "model.xml.data": "old"} if before else {}
    )


def test_each_file_follows_its_link_and_keeps_its_mode(tmp_path, exchange):
    real = tmp_path / "real"
    write_pair(real / "kept.xml", "old")
    (real / "kept.xml").chmod(0o640)
    os.symlink(real / "kept.xml", tmp_path / "model.xml")
    write_pair(tmp_path / "model.xml", "new")
    assert os.path.islink(tmp_path / "model.xml")
    assert (real / "kept.xml").read_text() == "new"
    assert (real / "kept.xml").stat().st_mode & 0o777 == 0o640
    # Whoever opens the link looks for the other file beside the link.
    assert (tmp_path / "model.xml.data").read_text() == "new"
    assert (real / "kept.xml.data").read_text() == "old"
    assert sorted(os.listdir(real)) == ["kept.xml", "kept.xml.data"]


def test_a_link_to_nowhere_is_followed(tmp_path):
    os.symlink(tmp_path / "there" / "file", tmp_path / "link")
    with replaced_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_a_new_file_has_the_mode_that_files_have(tmp_path):
    (tmp_path / "plain").write_text("")
    with replaced_file(tmp_path / "new"):
        pass
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def _as_nobody(function):
    """Runs a function without the superuser's rights, if these are one's own."""
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        function()
    finally:
        if root:
            os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="rights of POSIX")
@pytest.mark.parametrize("readonly", ["folder", "file"])
def test_what_may_not_be_written_is_not_replaced(readonly):
    folder = tempfile.mkdtemp()
    path = os.path.join(folder, "file")
    with open(path, "w") as file:
        file.write("old")
    os.chmod(path, 0o444 if readonly == "file" else 0o666)
    os.chmod(folder, 0o555 if readonly == "folder" else 0o777)

    def replaces():
        began = []
        with pytest.raises(PermissionError), replaced_file(path):
            began.append(True)
        # Before any work is done.
        assert not began

    try:
        _as_nobody(replaces)
        with open(path) as file:
            assert file.read() == "old"
    finally:
        os.chmod(folder, 0o777)
        shutil.rmtree(folder)


def test_a_folder_that_became_another_in_the_meantime_is_left_alone(tmp_path):
    path = tmp_path / "model"
    write(path, "old")
    with pytest.raises(ValueError, match="`path`"), replaced_folder(path, PARTS) as new:
        open(os.path.join(new, "saved_model.pb"), "w").close()
        (path / "thesis.txt").write_text("years of work")
    assert (path / "thesis.txt").read_text() == "years of work" and read(path) == "old"


def test_several_writers_and_readers_of_one_folder_and_one_pair(tmp_path):
    folder, pair, errors = tmp_path / "model", tmp_path / "model.xml", []
    write(folder, "0" * 100)
    write_pair(pair, "0" * 100)

    def writes(text):
        for _ in range(20):
            write(folder, text * 100)
            write_pair(pair, text * 100)

    def reads():
        for _ in range(200):
            for text in (read(folder), pair.read_text()):
                if len(text) != 100 or len(set(text)) != 1:
                    raise AssertionError(text)

    def noted(function, *args):
        try:
            function(*args)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=noted, args=(writes, text)) for text in "12"]
    threads.append(threading.Thread(target=noted, args=(reads,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and sorted(os.listdir(tmp_path)) == ["model", "model.xml", "model.xml.data"]
    assert pair.read_text() == (tmp_path / "model.xml.data").read_text()
