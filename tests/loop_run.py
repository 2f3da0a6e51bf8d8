"""A run of the loop without the loop: what the seams' functions are tried on."""

import paddle

from ppliteseg_paddle.engine.loop import saving
from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.val import evaluate


class Weight:
    """One weight, in place of a model."""

    def __init__(self, value=1.0):
        self.value = value

    def state_dict(self):
        return {"w": paddle.full([1], self.value)}


class Optimizer(Weight):
    def get_lr(self):
        return 0.0123

    def state_dict(self):
        return {"w_velocity_0": paddle.full([1], self.value), "LR_Scheduler": {"last_epoch": 1, "last_lr": 0.0123}}


def a_monitor(save_dir, **options):
    return Monitor(Optimizer(), str(save_dir), **options)


def a_run(save_dir, model=None, optimizer=None, iters=90, monitor=None, evaluate=evaluate, **options):
    return LoopRun(
        model or Weight(), optimizer or Optimizer(), monitor or a_monitor(save_dir), iters, evaluate, **options
    )


def evaluation(miou):
    return {"mIoU": miou, "acc": 0.9, "kappa": 0.8, "class_iou": [miou, miou]}


def train_steps(monitor, *losses):
    """Steps of these losses, as the seams tell them: half a second each, a twentieth of it for four images' data."""
    for loss in losses:
        loss = paddle.to_tensor([float(loss)])
        monitor.computed(loss, [loss])
        monitor.stepped(0.025, 0.5, 4)


def save_checkpoint(run, iteration, value=1.0):
    """Write the checkpoint of a run whose weight has a value; with averages, theirs is ten times that."""
    run.done, run.model.value = iteration, value
    if run.use_ema:
        run.ema_model = Weight(10 * value)
    run.monitor.steps = iteration
    return saving.save_checkpoint(run)


def loaded(*path):
    return float(paddle.load(str(path[0].joinpath(*path[1:])))["w"])
