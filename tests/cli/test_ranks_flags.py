"""Flags of train and val that concern several devices."""

import os

import pytest

from ppliteseg_paddle import environment
from ppliteseg_paddle.cli.main import main, parse
from ppliteseg_paddle.cli.ranks import launched_instead
from ppliteseg_paddle.cli.train import _batch_size
from ppliteseg_paddle.errors import ConfigError


def train_flags(*flags):
    return parse("train", ["--config", "c.yml", *flags])


def test_a_global_batch_is_shared_by_the_ranks(monkeypatch):
    assert _batch_size(train_flags("--global_batch_size", "8")) == 8
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "4")
    assert _batch_size(train_flags("--global_batch_size", "8")) == 2
    assert _batch_size(train_flags("--batch_size", "8")) == 8
    with pytest.raises(
        ConfigError, match="--global_batch_size 10 cannot be shared equally by 4 devices: give a multiple of 4"
    ):
        _batch_size(train_flags("--global_batch_size", "10"))
    with pytest.raises(ConfigError, match="give one of them"):
        _batch_size(train_flags("--global_batch_size", "8", "--batch_size", "2"))


def test_without_flags_for_ranks_nothing_is_launched():
    assert launched_instead(train_flags()) is None


def test_a_process_that_a_launcher_has_started_launches_no_more(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINER_ID", "0")
    assert launched_instead(train_flags("--nproc_per_node", "2")) is None


def test_gpus_on_a_cpu_build_are_refused_in_one_line(capsys):
    assert main(["train", "--config", "c.yml", "--devices", "0,1"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: --devices 0,1: the installed Paddle")


def test_a_restart_takes_the_newest_checkpoint_and_no_other(capsys):
    assert main(["train", "--config", "c.yml", "--max_restart", "2", "--resume_model", "output/iter_2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --max_restart starts again from the newest checkpoint in --save_dir, not from")
    with pytest.raises(ConfigError, match="unknown argument '--max_restart'"):  # it has no checkpoints
        parse("val", ["--config", "c.yml", "--model_path", "w", "--max_restart", "2"])


@pytest.mark.parametrize(
    "variable, ranks_here, expected",
    [(None, 1, 8), (None, 2, 4), (None, 3, 2), (None, 16, 1), ("3", 2, 3), ("1", 1, 1), ("1", 2, 4)],
)  # what the launcher's own import of paddle has left behind
def test_ranks_on_one_machine_share_its_cores(monkeypatch, variable, ranks_here, expected):
    import paddle

    set_to = []
    monkeypatch.setattr(environment, "_OMP_NUM_THREADS_OF_THE_USER", variable)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(paddle.base.core, "set_num_threads", set_to.append)
    monkeypatch.setenv("PADDLE_LOCAL_SIZE", str(ranks_here))
    assert environment.use_all_cores() == expected
    assert set_to == [expected]
