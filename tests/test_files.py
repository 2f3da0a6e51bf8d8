"""Files and folders are complete or absent."""

import json
import math
import os

import pytest

from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import check_writable, clean_up, remove_folder, save_atomic, save_folder, write_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyError), save_atomic(str(target)) as temporary:
        with open(temporary, "w") as file:
            file.write("half")
        raise KeyError("stop")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_whether_a_file_can_be_written_is_seen_without_writing_it(tmp_path):
    (tmp_path / "a.json").write_text("old")
    check_writable(str(tmp_path / "a.json"))
    check_writable(str(tmp_path / "new.json"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"] and (tmp_path / "a.json").read_text() == "old"
    with pytest.raises(ConfigError, match="it is a folder; give a file"):
        check_writable(str(tmp_path))
    with pytest.raises(ConfigError, match="cannot write"):
        check_writable(str(tmp_path / "a.json" / "b.json"))


def test_numbers_that_json_lacks_become_null(tmp_path):
    write_json(str(tmp_path / "r.json"), {"a": [1.5, math.nan, math.inf]})
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": [1.5, None, None]}


def test_a_file_has_the_users_permissions_and_writing_it_never_touches_the_umask(tmp_path, monkeypatch):
    """To read the umask is to set it, for all threads; two that do so at once would leave it at 0."""
    from ppliteseg_paddle.files import write_bytes

    umask = os.umask(0)
    os.umask(umask)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    write_bytes(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask


# --- folders ----------------------------------------------------------------------------------


def a_folder(path, content):
    path.mkdir()
    (path / "file").write_text(content)
    return path


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_takes_the_place_of_the_former_one_with_all_that_is_in_it(tmp_path):
    a_folder(tmp_path / "a", "old")
    with save_folder(str(tmp_path / "a")) as folder:
        with open(os.path.join(folder, "other"), "w") as file:
            file.write("new")
        assert tree(tmp_path / "a") == {"file": "old"}
    assert tree(tmp_path) == {"a/other": "new"} and os.listdir(tmp_path) == ["a"]


def test_a_folder_whose_writing_fails_leaves_nothing(tmp_path):
    with pytest.raises(KeyError), save_folder(str(tmp_path / "a")):
        raise KeyError("stop")
    assert os.listdir(tmp_path) == []


def test_a_folder_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "a").write_text("a file")
    with (
        pytest.raises(ConfigError, match="cannot write the folder .*a: it is a file; move it away"),
        save_folder(str(tmp_path / "a")),
    ):
        pass
    assert tree(tmp_path) == {"a": "a file"}


def test_a_folder_is_deleted_with_its_name_first(tmp_path, monkeypatch):
    import shutil

    seen = []
    monkeypatch.setattr(shutil, "rmtree", lambda path, **kwargs: seen.append(os.listdir(tmp_path)))
    remove_folder(str(a_folder(tmp_path / "a", "old")))
    assert seen == [[f".a.gone-{os.getpid()}"]]


@pytest.mark.parametrize(
    "left, expected",
    [
        ({"a": "old", ".a.tmp-7": "half"}, {"a/file": "old"}),
        ({".a.old-7": "old", ".a.tmp-7": "new"}, {"a/file": "new"}),  # between the two steps of the exchange
        ({".a.old-7": "old"}, {"a/file": "old"}),
        ({"a": "new", ".a.old-7": "old"}, {"a/file": "new"}),
        ({".a.gone-7": "deleted", ".hidden": "of the user"}, {".hidden/file": "of the user"}),
    ],
)
def test_what_a_killed_process_has_left_is_finished_or_removed(tmp_path, left, expected):
    for name, content in left.items():
        a_folder(tmp_path / name, content)
    (tmp_path / ".k2j_81xa.tmp").write_text("half")
    clean_up(str(tmp_path))
    assert tree(tmp_path) == expected
