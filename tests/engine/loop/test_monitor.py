"""What a run knows of itself: losses, the best model, the way on."""

import paddle
import pytest
from loop_run import a_monitor, a_run, evaluation, save_checkpoint, train_steps

from ppliteseg_paddle.engine.loop.monitor import Callback
from ppliteseg_paddle.errors import PPLiteSegError


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path)


def test_ten_steps_become_a_row_with_their_means(tmp_path):
    monitor = a_monitor(tmp_path, clock=lambda: 12.3456)
    monitor.epoch = 2
    train_steps(monitor, *range(10))
    assert monitor.rows == [
        {
            "iter": 10,
            "epoch": 2,
            "loss": 4.5,
            "lr": 0.0123,
            "batch_cost": 0.5,
            "reader_cost": 0.025,
            "ips": 8.0,
            "elapsed": 12.346,
        }
    ]


def test_the_losses_of_several_outputs_have_means_of_their_own(run):
    for value in range(10):
        losses = [paddle.to_tensor([float(value)]), paddle.to_tensor([2.0 * value])]
        run.monitor.computed(sum(losses), losses)
        run.monitor.stepped(0.0, 1.0, 4)
    assert run.monitor.losses.tolist() == [13.5, 4.5, 9.0]


def test_the_first_loss_after_a_resume_in_mid_window_is_the_mean_of_the_steps_since(tmp_path):
    monitor = a_monitor(tmp_path, start=15)
    train_steps(monitor, *[1.5] * 5, *[0.75] * 10)
    assert [(row["iter"], row["loss"]) for row in monitor.rows] == [(20, 1.5), (30, 0.75)]


@pytest.mark.parametrize("loss", ["nan", "inf"])
def test_a_loss_that_is_no_number_ends_the_run_with_the_way_to_resume(run, tmp_path, loss):
    save_checkpoint(run, 10)
    with pytest.raises(
        PPLiteSegError,
        match=f"the loss is {loss} at iteration 20.*resume from .*iter_10 with a lower --learning_rate .its highest "
        "was 0.0123",
    ):
        train_steps(run.monitor, *[1] * 9, loss)
    assert len(run.monitor.rows) == 1


def test_other_ranks_leave_the_end_to_the_first(tmp_path):
    monitor = a_monitor(tmp_path, first=False)
    train_steps(monitor, *["nan"] * 20)
    assert len(monitor.rows) == 2


def test_a_checkpoint_that_is_not_complete_any_more_is_not_advised(run, tmp_path):
    save_checkpoint(run, 10)
    save_checkpoint(run, 20)
    (tmp_path / "iter_20" / "model.pdopt").unlink()
    with pytest.raises(PPLiteSegError, match=f"resume from {(tmp_path / 'iter_10')} with a lower"):
        train_steps(run.monitor, *["nan"] * 10)


def test_fp16_may_overflow_for_a_while(tmp_path):
    monitor = a_monitor(tmp_path, fp16=True)
    train_steps(monitor, *["nan"] * 39)
    with pytest.raises(PPLiteSegError, match="at iteration 40"):
        train_steps(monitor, "nan")


def test_the_checkpoint_to_resume_from_is_of_this_run(run, tmp_path):
    save_checkpoint(run, 900)  # of another run
    monitor = a_monitor(tmp_path)
    assert monitor.how_to_resume() == "no checkpoint was written yet (a smaller --save_interval writes them earlier)"
    old = save_checkpoint(a_run(tmp_path / "old"), 7) + "/"
    resumed = a_run(tmp_path, monitor=a_monitor(tmp_path, start=7, checkpoints=[old]))
    assert (resumed.monitor.how_to_resume(), resumed.monitor.steps) == (f"resume with: --resume_model {old}", 7)
    save_checkpoint(resumed, 10)
    assert resumed.monitor.how_to_resume() == f"resume with: --resume_model {(tmp_path / 'iter_10')}"


class Notes(Callback):
    def __init__(self):
        self.notes = []

    def on_step(self, monitor, read, whole):
        self.notes.append((monitor.steps, read, whole))

    def on_log(self, monitor, row):
        self.notes.append(("row", row["loss"]))

    def on_eval(self, monitor, model, evaluation):
        self.notes.append((model, monitor.steps, evaluation["mIoU"], evaluation["ema"]))

    def on_save(self, monitor):
        self.notes.append(("saved", monitor.saved))

    def on_saving(self, monitor):
        self.notes.append(("saving", monitor.saved))

    def on_best(self, monitor, best):
        self.notes.append(("best", best.miou))


def test_callbacks_are_told_of_every_step_row_evaluation_and_checkpoint(tmp_path):
    notes = Notes()
    run = a_run(tmp_path, use_ema=True, monitor=a_monitor(tmp_path, start=19, callbacks=[notes]))
    train_steps(run.monitor, 1)
    save_checkpoint(run, 20)
    run.monitor.evaluated(evaluation(0.5), 1.0, "plain")
    run.monitor.evaluated(evaluation(0.6), 1.0, "averaged", ema=True)
    assert notes.notes == [
        (20, 0.025, 0.5),
        ("row", 1.0),
        ("saving", None),
        ("saved", str(tmp_path / "iter_20")),
        ("plain", 20, 0.5, False),
        ("best", 0.5),
        ("averaged", 20, 0.6, True),
        ("best", 0.6),
    ]
