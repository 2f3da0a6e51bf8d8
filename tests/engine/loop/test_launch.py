"""Ranks that end well, that refuse, and that die."""

import contextlib
import json
import os
import tempfile
from types import SimpleNamespace

import pytest
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.cli.ranks import RANK_FLAGS
from ppliteseg_paddle.config.command import without_flags
from ppliteseg_paddle.engine.loop import launch, notes
from ppliteseg_paddle.engine.loop.workers import WorkerLost
from ppliteseg_paddle.errors import ConfigError, PPLiteSegError

pytestmark = pytest.mark.slow  # trains in several processes

# In PYTHONPATH, so that the second rank ends itself in the middle of the run.
SABOTAGE = """
import os, signal, threading, time
def die():
    while not os.path.isfile(%r):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ.get("PADDLE_TRAINER_ID") == "1":
    threading.Thread(target=die, daemon=True).start()
"""


def test_a_rank_that_dies_ends_the_run_with_its_name_and_a_checkpoint_to_resume_from(tmp_path, monkeypatch, capfd):
    root, save_dir = make_data(tmp_path / "data"), tmp_path / "o"
    config = write_config(root / "c.yml", values(root))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SABOTAGE % str(save_dir / "iter_2" / "model.pdopt"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]))
    status = main(
        [
            "train",
            "--config",
            config,
            "--save_dir",
            str(save_dir),
            "--nproc_per_node",
            "2",
            "--iters",
            "500",
            "--batch_size",
            "2",
            "--save_interval",
            "2",
            "--keep_checkpoint_max",
            "1",
            "--device",
            "cpu",
        ]
    )
    last = [line for line in capfd.readouterr().err.splitlines() if line][-1]
    assert status == 3
    assert last.startswith(
        "error: rank 1 was ended by SIGKILL (9), as when memory runs out; its log is "
        f"{(save_dir / 'log' / 'workerlog.1')}."
    )
    command = last.split(". Resume with: ")[1]
    assert command.startswith(f"ppliteseg train --config {config} --save_dir {save_dir} --nproc_per_node 2 ")
    folder = command.split("--resume_model ")[1]
    assert folder.startswith(str(save_dir / "iter_"))
    assert {"model.pdparams", "model.pdopt"} <= set(os.listdir(folder))


def failure(tmp_path, status=-9, rank=0, told=None, checkpoint=None):
    for number in range(2):
        (tmp_path / (f"workerlog.{number:d}")).write_text("")
    how = f"resume with: --resume_model {checkpoint}" if checkpoint else ""
    return launch._failure({"rank": rank, "status": status, "log": "x"}, told or {}, str(tmp_path), how)


def test_what_a_rank_refuses_is_the_error_of_the_whole(tmp_path):
    error = failure(tmp_path, 2, told={0: {"refused": "data/train.txt does not exist."}, 1: {"lost": "x"}})
    assert (type(error), str(error)) == (ConfigError, "data/train.txt does not exist.")


def test_the_line_of_a_rank_whose_worker_was_killed_says_how_to_resume(tmp_path):
    lost = {"refused": "a worker (process 7) was ended by SIGKILL (9)", "status": WorkerLost.exit_status}
    error = failure(tmp_path, 3, rank=1, told={0: {"lost": "another rank has ended"}, 1: lost}, checkpoint="o/iter_4")
    assert (error.exit_status, str(error)) == (3, f"{lost['refused']}. Resume with: --resume_model o/iter_4")
    lost["refused"] += "; resume with: --resume_model o/iter_5"  # as the first rank says it
    assert str(failure(tmp_path, 3, told={0: lost}, checkpoint="o/iter_4")) == lost["refused"]


def test_the_rank_that_ended_first_is_named_not_the_one_that_missed_it(tmp_path):
    error = failure(tmp_path, 3, rank=0, told={0: {"lost": "another rank has ended"}}, checkpoint="o/iter_4")
    assert error.exit_status == 3
    assert str(error) == (
        f"rank 1 ended without a word; its log is {(tmp_path / 'workerlog.1')}. Resume with: --resume_model o/iter_4"
    )


def test_a_defect_in_a_rank_is_named(tmp_path):
    error = failure(tmp_path, 1, rank=1, told={1: {"error": "ended with ZeroDivisionError: division by zero"}})
    assert (
        str(error) == f"rank 1 ended with ZeroDivisionError: division by zero; its log is {(tmp_path / 'workerlog.1')}."
    )


@pytest.mark.parametrize(
    "kind, expected",
    [
        (ConfigError("no such file"), {"refused": "no such file", "status": 2}),
        (WorkerLost("killed"), {"refused": "killed", "status": 3}),
        (notes.RankLost("gone"), {"lost": "gone"}),
        (ValueError("bad\nmore"), {"error": "ended with ValueError: bad"}),
    ],
)
def test_a_rank_leaves_word_of_how_it_ended(tmp_path, monkeypatch, kind, expected):
    monkeypatch.setattr(notes, "begin_rank", lambda: None)
    monkeypatch.setenv(notes.NOTES, str(tmp_path))
    monkeypatch.setenv("PADDLE_TRAINER_ID", "1")
    with pytest.raises(type(kind)), notes.noting():
        raise kind
    assert json.loads((tmp_path / "rank_1.json").read_text()) == expected


def test_the_result_goes_to_the_launching_process(tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "begin_rank", lambda: None)
    monkeypatch.setenv(notes.NOTES, str(tmp_path))
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    with notes.noting() as note:
        note["result"] = {"mIoU": 0.5}
    assert note["result"] == {"rank": 0}
    assert json.loads((tmp_path / "rank_0.json").read_text()) == {"result": {"mIoU": 0.5}}


def test_flags_of_the_launcher_are_taken_out_of_the_command():
    argv = ["train", "--config", "c.yml", "--nproc_per_node", "2", "--do_eval", "--log_dir=x", "--opts", "iters=3"]
    assert without_flags(argv, RANK_FLAGS) == ["train", "--config", "c.yml", "--do_eval", "--opts", "iters=3"]


def test_gpus_that_paddle_lacks_are_refused():
    with pytest.raises(
        PPLiteSegError, match="--devices 0,1: the installed Paddle .* is a CPU build. Give --nproc_per_node N"
    ):
        launch.check_devices(None, "0,1")
    launch.check_devices(8, None)  # ranks on the CPU
    with pytest.raises(ConfigError, match="--devices 0,1 and --device cpu do not go together"):
        launch.check_devices(None, "0,1", "cpu")
    with pytest.raises(ConfigError, match="--device gpu:1 names one device for all ranks: choose GPUs with --devices"):
        launch.check_devices(2, None, "gpu:1")


def test_the_first_rank_leaves_word_of_its_checkpoints(tmp_path, monkeypatch):
    launch.NoteCheckpoints("o/iter_3")  # without a launcher: nobody to tell
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv(notes.NOTES, str(tmp_path))
    callback = launch.NoteCheckpoints("o/iter_3")
    assert json.loads((tmp_path / "checkpoint.json").read_text()) == {"folder": "o/iter_3"}
    callback.on_save(SimpleNamespace(saved="o/iter_9"))
    assert json.loads((tmp_path / "checkpoint.json").read_text()) == {"folder": "o/iter_9"}


@pytest.mark.parametrize("max_restart, begins", [(0, 1), (1, 2), (3, 3)])
def test_a_run_that_loses_a_rank_starts_again_from_the_newest_checkpoint(monkeypatch, caplog, max_restart, begins):
    begun = []

    def launched(argv, **options):
        begun.append((argv, options))
        if len(begun) < 3:
            raise launch.RankFailed("rank 1 ended without a word.")
        return {"rank": 0}

    monkeypatch.setattr(launch, "launch", launched)
    argv = ["train", "--config", "c.yml", "--resume_model=auto", "--do_eval"]
    result = pytest.raises(launch.RankFailed) if begins < 3 else contextlib.nullcontext()
    with result:
        assert launch.launch_again(argv, max_restart, nproc_per_node=2) == {"rank": 0}
    again = ["train", "--config", "c.yml", "--do_eval", "--resume_model", "auto"]
    assert begun == [(each, {"nproc_per_node": 2}) for each in [argv, *[again] * (begins - 1)]]
    assert [record.getMessage() for record in caplog.records] == [
        f"rank 1 ended without a word. Starting again from the newest checkpoint ({number:d} of {max_restart:d} times)."
        for number in range(1, begins)
    ]


def test_what_a_rank_refuses_is_not_tried_again(monkeypatch):
    begun = []
    monkeypatch.setattr(launch, "launch", lambda argv: begun.append(argv) or _raise(ConfigError("no such file")))
    with pytest.raises(ConfigError):
        launch.launch_again(["train"], 5)
    assert len(begun) == 1


def _raise(error):
    raise error


@pytest.mark.parametrize("machine, who", [(1, "machine 1"), (None, "another machine")])
def test_where_no_rank_of_this_machine_is_at_fault_another_machine_is(tmp_path, machine, who):
    (tmp_path / "workerlog.0").touch()
    failed, told = {"rank": 0, "status": 3, "log": "x"}, {0: {"lost": "another rank has ended"}}
    error = launch._failure(failed, told, str(tmp_path), "resume with: X", machine)
    killed = launch._failure({**failed, "status": -9}, {}, str(tmp_path), "resume with: X", 1)  # it hung in a transfer
    assert str(killed).startswith("machine 1 has failed")
    assert str(error) == f"{who} has failed, or was not heard of any more. Resume with: X"


def test_where_there_is_one_machine_its_ranks_lost_each_other(tmp_path):
    (tmp_path / "workerlog.0").touch()
    told = {number: {"lost": "another rank has ended"} for number in range(2)}
    failed = {"rank": 0, "status": 3, "log": "x"}
    error = launch._failure(failed, told, str(tmp_path), "resume with: X", alone=True)
    assert str(error).startswith("the ranks lost each other: one of them was not heard of for half a minute")
    assert str(error).endswith(". Resume with: X") and "machine has failed" not in str(error)


def test_ranks_of_a_second_machine_have_their_numbers_and_its_logs(tmp_path):
    for number in range(2):
        (tmp_path / (f"workerlog.{number:d}")).touch()
    told = {4: {"lost": "another rank has ended"}}
    error = launch._failure({"rank": 0, "status": 3, "log": "x"}, told, str(tmp_path), "", first=4)
    assert str(error) == f"rank 5 ended without a word; its log is {tmp_path / 'workerlog.1'}."


def test_a_rank_with_a_defect_is_named_and_not_the_one_that_ended_with_it(tmp_path):
    told = {0: {"lost": "another rank has ended"}, 1: {"error": "ended with ValueError: bad"}}
    assert str(failure(tmp_path, 3, told=told)).startswith("rank 1 ended with ValueError: bad; ")


def test_what_a_killed_command_left_is_removed_by_the_next_and_a_running_ones_folder_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "ppliteseg_notes_ab12"
    left.mkdir()
    (left / "rank_0.json").write_text("{}")
    (tmp_path / "ppliteseg_notes_of_mine.txt").write_text("not a folder")
    with launch._folder_for_notes() as first, launch._folder_for_notes() as second:
        assert not left.exists() and os.path.isdir(first) and os.path.isdir(second) and first != second
    assert os.listdir(tmp_path) == ["ppliteseg_notes_of_mine.txt"]
