import json
import math
import os

import pytest

from ppliteseg_paddle.engine.checkpoint import check_resume, latest_checkpoint
from ppliteseg_paddle.errors import ConfigError, WeightsError
from ppliteseg_paddle.files import check_writable, save_atomic, write_json


def finished(folder):
    folder.mkdir(parents=True)
    (folder / "model.pdparams").write_bytes(b"p")
    (folder / "model.pdopt").write_bytes(b"o")
    return str(folder)


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


def test_resume_takes_the_iteration_from_the_folder(tmp_path):
    assert check_resume(finished(tmp_path / "iter_30") + "/", iters=40) == 30


@pytest.mark.parametrize(
    "prepare, folder, expected, kind",
    [
        (lambda root: None, "iter_9", "there is no such folder", ConfigError),
        (lambda root: finished(root / "iter_5"), "iter_9", "The latest checkpoint beside it is", ConfigError),
        (lambda root: finished(root / "iter_5"), ".", "not a checkpoint folder named iter_N; use", ConfigError),
        (
            lambda root: finished(root / "best_model"),
            "best_model",
            "not a checkpoint folder named iter_N; give",
            ConfigError,
        ),
        (lambda root: (root / "iter_9").mkdir(), "iter_9", "model.pdparams is missing or empty", WeightsError),
        (
            lambda root: (finished(root / "iter_9"), (root / "iter_9" / "model.pdopt").write_bytes(b"")),
            "iter_9",
            "model.pdopt is missing or empty",
            WeightsError,
        ),
        (lambda root: finished(root / "iter_20"), "iter_20", "holds iteration 20, and the run ends at 20", ConfigError),
    ],
)
def test_a_folder_from_which_no_run_can_resume_is_reported(tmp_path, prepare, folder, expected, kind):
    prepare(tmp_path)
    with pytest.raises(kind, match=expected):
        check_resume(str(tmp_path / folder), iters=20)


def test_the_latest_checkpoint_is_the_finished_one_with_the_highest_number(tmp_path):
    assert latest_checkpoint(str(tmp_path)) is None
    finished(tmp_path / "iter_9")
    finished(tmp_path / "iter_100")
    (tmp_path / "iter_200").mkdir()
    assert latest_checkpoint(str(tmp_path)) == str(tmp_path / "iter_100")


def test_a_file_has_the_users_permissions_and_writing_it_never_touches_the_umask(tmp_path, monkeypatch):
    """To read the umask is to set it, for all threads; two that do so at once would leave it at 0."""
    from ppliteseg_paddle.files import write_bytes

    umask = os.umask(0)
    os.umask(umask)
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    write_bytes(str(tmp_path / "a"), b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o666 & ~umask
