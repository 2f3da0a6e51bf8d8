"""Several ranks on one CPU, through Paddle's launcher and gloo, beside one process that sees the same images."""

import json
import os
import subprocess
import sys

import numpy as np
import paddle
import pytest
import rank_worker
from loop_run import a_run as loop_run
from tiny_data import make_data, values, write_config

from ppliteseg_paddle.engine.loop import data_parallel, distributed, notes
from ppliteseg_paddle.engine.loop.notes import RankLost
from ppliteseg_paddle.engine.loop.rank_end import end_jointly
from ppliteseg_paddle.engine.parts import set_seed
from ppliteseg_paddle.models.pp_liteseg import pp_liteseg_t

pytestmark = pytest.mark.slow  # trains in several processes

HERE = os.path.dirname(rank_worker.__file__)


@pytest.fixture(scope="module")
def config_path(tmp_path_factory):
    root = make_data(tmp_path_factory.mktemp("ranks") / "data", val=5)
    return write_config(root / "c.yml", values(root))


@pytest.fixture(scope="module")
def two_ranks(config_path, tmp_path_factory):
    """What each of two ranks saw, and the folder of their runs."""
    out = str(tmp_path_factory.mktemp("two"))
    command = [
        sys.executable,
        "-m",
        "paddle.distributed.launch",
        "--nproc_per_node",
        "2",
        "--log_dir",
        out + "/log",
        os.path.join(HERE, "rank_worker.py"),
        config_path,
        out,
    ]
    path = os.pathsep.join([os.path.dirname(HERE), HERE, os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    seen = []
    for rank in range(2):
        with open(f"{out}/rank_{rank:d}.json") as file:
            seen.append(json.load(file))
    return seen, out


def one_process(config_path, folder, fixed):
    return rank_worker.losses(config_path, 4, str(folder / "one"), fixed)["train"]


def test_two_ranks_give_the_losses_of_one_process_with_twice_the_batch(two_ranks, config_path, tmp_path):
    """Nothing differs but the order of sums, once batch norm does not depend on who else is in the batch."""
    alone = one_process(config_path, tmp_path, fixed=True)
    np.testing.assert_allclose(two_ranks[0][0]["fixed"]["train"], alone, rtol=1e-4)


def test_with_batch_norm_over_each_ranks_images_the_losses_differ_a_little(two_ranks, config_path, tmp_path):
    alone, together = one_process(config_path, tmp_path, fixed=False), two_ranks[0][0]["plain"]["train"]
    assert alone != together
    np.testing.assert_allclose(together, alone, rtol=0.1)


def test_an_evaluation_is_shared_without_counting_an_image_twice(two_ranks, config_path):
    seen, out = two_ranks
    alone = rank_worker.scores(config_path, out + "/plain/iter_3/model.pdparams")
    assert [rank["share"] for rank in seen] == [[0, 2, 4], [1, 3]]
    for rank in seen:
        assert rank["scores"]["images"] == 5
        for name in (
            "mIoU",
            "acc",
            "class_iou",
            "class_recall",
        ):  # a pixel may fall to another class with another number of threads
            assert rank["scores"][name] == pytest.approx(alone[name], abs=1e-3)
    assert seen[0]["scores"] == seen[1]["scores"]
    assert seen[0]["plain"]["eval"][-1] == seen[0]["scores"]["mIoU"]  # what the loop measured on both


def test_precise_statistics_are_those_of_all_ranks_images(two_ranks, config_path):
    seen, out = two_ranks
    alone = rank_worker.precise(config_path, out + "/plain/iter_3/model.pdparams")
    for rank in seen:
        for name in ("mean", "variance"):  # of the first layer: those after it normalise by their own batch
            np.testing.assert_allclose(rank["precise"][name], alone[name], rtol=1e-4, atol=1e-6)


def test_ranks_add_up_arrays(two_ranks):
    assert [rank["sum"] for rank in two_ranks[0]] == [[2, 11], [2, 11]]


def test_the_first_rank_alone_prints_and_writes(two_ranks):
    out = two_ranks[1]
    with open(out + "/log/workerlog.1") as file:
        text = file.read()
    assert "[TRAIN]" not in text and "[EVAL]" not in text and "training from iteration" not in text
    assert sorted(os.listdir(out)) == ["fixed", "log", "plain", "rank_0.json", "rank_1.json"]


# --- without other ranks ---------------------------------------------------------------------


def test_a_single_process_takes_all_and_waits_for_nobody():
    distributed.barrier()
    assert list(distributed.share(3)) == [0, 1, 2]
    assert distributed.sum_over_ranks(np.array([3])).tolist() == [3]


def test_gradients_are_averaged_in_one_buffer_of_all(monkeypatch):
    """Two ranks whose gradients are 1 and 3, the other one's transfer played."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(paddle.distributed, "all_reduce", lambda flat: flat.add_(paddle.full_like(flat, 3.0)))
    model = paddle.nn.Linear(3, 2)
    model.weight.stop_gradient = False
    loss = model.weight.sum()  # the bias is not used
    loss.backward()
    average = data_parallel.GradientMean(model)
    average()
    assert model.weight.grad.numpy().tolist() == [[2.0, 2.0]] * 3
    assert model.bias.grad.numpy().tolist() == [1.5, 1.5]
    model.clear_gradients()
    (5 * model.weight.sum()).backward()
    average()
    assert model.weight.grad.numpy().tolist() == [[4.0, 4.0]] * 3


def test_statistics_of_batch_norm_become_the_mean_over_ranks(monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda values: values + 3)
    model = pp_liteseg_t(num_classes=2)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    distributed.average_statistics(model)
    for name, value in model.state_dict().items():
        is_statistic = name.endswith(("_mean", "_variance"))
        np.testing.assert_allclose(
            value.numpy(), (weights[name] + 3) / 2 if is_statistic else weights[name], err_msg=name
        )


def test_ranks_draw_different_numbers_from_one_seed():
    import random

    drawn = []
    for rank in (0, 1, 0):
        set_seed(5, rank)
        drawn.append((random.random(), np.random.rand()))
    assert drawn[0] == drawn[2] and drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "text, lost",
    [
        ("[/x/gloo/transport/tcp/pair.cc:576] Read error [127.0.0.1]:3: Connection reset by peer", True),
        ("(External) NCCL error(6), remote process exited", True),
        ("(InvalidArgument) shapes differ", False),
    ],
)
def test_errors_of_the_transfer_are_told_from_others(text, lost, tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    run = loop_run(tmp_path)
    expected = RankLost if lost else RuntimeError
    with pytest.raises(expected) as caught, end_jointly(run):
        raise RuntimeError(text)
    if lost:
        assert str(caught.value).startswith(
            "another rank has ended, so rank 0 of 2 ends after iteration 0; no checkpoint was written yet"
        )


def a_run(tmp_path):
    model = paddle.nn.Linear(3, 2)
    return loop_run(tmp_path, model, paddle.optimizer.SGD(0.1, parameters=model.parameters()))


def test_a_rank_that_is_gone_is_missed_within_a_second_or_two(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    monkeypatch.setenv(notes.NOTES, str(tmp_path))
    monkeypatch.setattr(distributed, "_looked", 0.0)
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "process_1.json").write_text(json.dumps({"process": process.pid}))
    distributed.check_ranks()
    process.kill()
    process.wait()
    distributed.check_ranks()  # looks once a second
    monkeypatch.setattr(distributed, "_looked", 0.0)
    with pytest.raises(RankLost, match="rank 1 is gone"):
        distributed.check_ranks()


def test_a_rank_lost_after_an_update_saves_that_step(tmp_path, monkeypatch):
    """Long work may follow the update, as the counting of batch norm's statistics."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    run = a_run(tmp_path)
    run.updating = True
    advice = f"ends after iteration 0; resume with: --resume_model {tmp_path / 'iter_1'}"
    with pytest.raises(RankLost, match=advice), end_jointly(run):
        raise RankLost("rank 1 is gone")
    assert {"model.pdparams", "model.pdopt"} <= set(os.listdir(tmp_path / "iter_1"))


def test_the_checkpoint_of_another_run_is_neither_advised_nor_taken_for_saved(tmp_path, monkeypatch):
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    run = a_run(tmp_path / "o")
    for number in (1, 900):
        (tmp_path / "o" / (f"iter_{number:d}")).mkdir(parents=True)
        for name in ("model.pdparams", "model.pdopt"):
            (tmp_path / "o" / (f"iter_{number:d}") / name).write_text("of another run")
    run.done = 1
    lost = pytest.raises(RankLost, match=f"resume with: --resume_model {tmp_path / 'o' / 'iter_1'}")
    with lost, end_jointly(run):
        raise RuntimeError("gloo: connection closed")
    assert sorted(paddle.load(str(tmp_path / "o" / "iter_1" / "model.pdparams"))) == ["bias", "weight"]


def test_half_an_update_is_not_saved(tmp_path, monkeypatch):
    """Under a loss scale the loop calls `minimize`, not `step`."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    run = a_run(tmp_path)
    run.done = 1

    class Optimizer:
        def step(self):
            pytest.fail("not called")

        def minimize(self, loss):
            if loss > 1:
                raise RuntimeError("gloo: connection closed")
            return run.torn, loss

    run.optimizer = optimizer = Optimizer()
    with pytest.raises(RankLost), end_jointly(run), data_parallel.complete_updates(run):
        assert optimizer.minimize(0.5) == (True, 0.5) and not run.torn
        optimizer.minimize(2.0)
    assert not (tmp_path / "iter_2").exists() and not (tmp_path / "iter_1").exists()
    assert "minimize" not in vars(optimizer)
