"""A run of the loop without the loop: what the seams' functions are tried on."""

import paddle

from ppliteseg_paddle.engine.loop.monitor import Monitor
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.saving import atomic
from ppliteseg_paddle.engine.val import evaluate


class Optimizer:
    def get_lr(self):
        return 0.0123


def a_monitor(save_dir, **options):
    return Monitor(Optimizer(), str(save_dir), **options)


def a_run(save_dir, model=None, optimizer=None, iters=90, monitor=None, evaluate=evaluate, **options):
    return LoopRun(model, optimizer, monitor or a_monitor(save_dir), iters, evaluate, **options)


def evaluation(miou):
    return {"mIoU": miou, "acc": 0.9, "kappa": 0.8, "class_iou": [miou, miou]}


def train_steps(monitor, *losses):
    """Steps of these losses, as the seams tell them: half a second each, a twentieth of it for four images' data."""
    for loss in losses:
        loss = paddle.to_tensor([float(loss)])
        monitor.computed(loss, [loss])
        monitor.stepped(0.025, 0.5, 4)


def save(run, path, value=1.0):
    """Save one weight as the loop saves its files."""
    atomic(run, paddle.save)({"w": paddle.full([1], value)}, str(path))


def save_checkpoint(run, save_dir, iteration):
    for name in ("model.pdparams", "model.pdopt"):
        save(run, save_dir / f"iter_{iteration:d}" / name)


def loaded(*path):
    return float(paddle.load(str(path[0].joinpath(*path[1:])))["w"])
