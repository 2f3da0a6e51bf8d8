"""One run at a time in a folder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from ppliteseg_paddle.engine import save_dir
from ppliteseg_paddle.engine.save_dir import SaveDir, check_save_dir
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import SOURCE_ROOT

HOLD = """
import sys, time, multiprocessing
from ppliteseg_paddle.engine.save_dir import SaveDir
with SaveDir(sys.argv[1]):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,), daemon=True)
    child.start()
    print(child.pid, flush=True)
    time.sleep(30)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has claimed the folder and has started one that reads data."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SOURCE_ROOT},
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    yield process
    process.kill()
    process.wait()
    os.kill(child, signal.SIGKILL)


def test_a_folder_in_use_is_refused_until_its_run_is_gone_however_it_ends(other, tmp_path):
    with (
        pytest.raises(ConfigError, match=f"is in use by another run .process {other.pid} on .*, since"),
        SaveDir(str(tmp_path)),
    ):
        pass
    other.kill()
    other.wait()
    with SaveDir(str(tmp_path)) as claimed:  # although a child of the killed process still lives
        assert claimed.handle >= 0
    assert os.listdir(tmp_path) == []


def test_a_process_cannot_claim_a_folder_twice_at_once(tmp_path):
    twice = pytest.raises(ConfigError, match="is in use by another run .this process")
    with SaveDir(str(tmp_path)), twice, SaveDir(f"{tmp_path}/."):
        pass
    with SaveDir(str(tmp_path)):
        assert os.listdir(tmp_path) == [".lock"]


def test_a_folder_that_is_not_there_is_made_when_it_is_opened(tmp_path):
    with SaveDir(str(tmp_path / "a" / "o")) as folder:
        assert os.listdir(tmp_path) == []
        folder.open()
        assert os.listdir(tmp_path / "a" / "o") == [".lock"]
    assert os.listdir(tmp_path / "a" / "o") == []


def test_a_file_system_without_locks_is_told_once(tmp_path, monkeypatch, capsys):
    def no_locks(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(save_dir.fcntl, "lockf", no_locks)
    with SaveDir(str(tmp_path)):
        pass
    assert capsys.readouterr().err == (
        f"warning: --save_dir {tmp_path} cannot be locked (No locks available): see that no second run writes to it.\n"
    )


def test_what_a_killed_run_has_left_is_removed_at_the_next_start(tmp_path):
    for name in (".iter_4.tmp-77", "iter_2", "best_model", ".mine"):
        (tmp_path / name).mkdir()
    for name in (".k2j_81xa.tmp", "iter_2/.abcdefgh.tmp", "best_model/.abcdefgh.tmp", "best_model/model.pdparams"):
        (tmp_path / name).write_text("x")
    with SaveDir(str(tmp_path)):
        pass
    assert sorted(os.listdir(tmp_path)) == [".mine", "best_model", "iter_2"]
    assert os.listdir(tmp_path / "iter_2") == [] and os.listdir(tmp_path / "best_model") == ["model.pdparams"]


@pytest.mark.parametrize("name", ["iter_3", "best_model"])
def test_a_file_with_the_name_of_a_folder_that_training_writes_is_refused(tmp_path, name):
    (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=f"{name} is a file, and training writes folders of such names: move it away"):
        check_save_dir(str(tmp_path))


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "o").write_text("")
    with pytest.raises(ConfigError, match="--save_dir .*o is a file: give a folder"):
        check_save_dir(str(tmp_path / "o"))
