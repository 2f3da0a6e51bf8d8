"""One run at a time in a folder."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from ppliteseg_paddle.engine import save_dir
from ppliteseg_paddle.engine.save_dir import SaveDir, check_save_dir, check_unused
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


@pytest.fixture
def used(tmp_path):
    """A folder in which a run has been."""
    for name in ("o/iter_2", "o/iter_12", "o/best_model", "elsewhere/iter_3"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "o" / "train.json").write_text('{"train": [{"iter": 1}]}')
    return str(tmp_path / "o")


def test_a_fresh_run_in_a_used_folder_is_refused(used):
    with pytest.raises(ConfigError) as error:
        check_unused(used, None)
    assert str(error.value) == (
        f"--save_dir {used} holds a run already (iter_12, best_model, train.json): continue it with --resume_model "
        "auto, or give another --save_dir."
    )


def test_a_run_that_is_resumed_from_elsewhere_does_not_enter_a_used_folder(used, tmp_path):
    other = str(tmp_path / "elsewhere" / "iter_3")
    with pytest.raises(ConfigError) as error:
        check_unused(used, other)
    assert str(error.value) == (
        f"--save_dir {used} holds a run already (iter_12, best_model, train.json), and not that of --resume_model "
        f"{other}: give another --save_dir."
    )
    check_unused(str(tmp_path / "new"), other)


@pytest.mark.parametrize("resume_model", ["auto", "o/iter_2", "./o/iter_2/"])
def test_a_run_that_is_continued_enters_its_folder(used, tmp_path, monkeypatch, resume_model):
    monkeypatch.chdir(tmp_path)
    check_unused(used, resume_model)
    check_unused("o", resume_model)


@pytest.mark.parametrize("content", [None, '{"train": [], "eval": []}', "cut of"])
def test_a_folder_of_a_run_that_ended_before_its_first_step_is_not_used(tmp_path, content):
    (tmp_path / "config.yml").write_text("iters: 3")
    if content is not None:
        (tmp_path / "train.json").write_text(content)
    check_unused(str(tmp_path), None)
