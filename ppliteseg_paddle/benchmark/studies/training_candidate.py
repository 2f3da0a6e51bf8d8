"""One candidate of `studies.training`: a process that does a training step, or a loss alone, whenever it is told to.

A process for each, because what makes Paddle's matrix products fast or slow is decided once per process.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ppliteseg_paddle.benchmark.studies import baseline
from ppliteseg_paddle.benchmark.studies.baseline import BASELINE, OHEM
from ppliteseg_paddle.benchmark.studies.mixed_types import mixed_types
from ppliteseg_paddle.benchmark.studies.worker import Work, answer

STAGES = ("forward", "loss", "backward", "update")
COEF = (1, 1, 1)
OWN_LOOP = "ours, own loop"  # with the logits that PaddleSeg's loop and other people's get


def build(who: str, model: str, num_classes: int, min_kept: int) -> tuple[Any, dict[str, Any]]:
    """The network in training mode, and the losses of its three outputs as PaddleSeg's loop has them."""
    from ppliteseg_paddle.losses.cross_entropy import OhemCELoss

    if who == BASELINE:
        network, loss = baseline.build(model, num_classes), baseline.ohem_loss(min_kept)
    else:
        network, loss = baseline.build_ours(model, num_classes), OhemCELoss(min_kept=min_kept, **OHEM)
        network.full_size_logits = who == OWN_LOOP  # False as `ppliteseg train` has it
    network.train()
    return network, {"types": [loss] * len(COEF), "coef": list(COEF)}


class Steps:
    """Training steps of a network on random images and labels, of which a tenth is ignored.

    Args: losses: as PaddleSeg's loop has them; ours: whether the network computes them its own way.
    """

    def __init__(
        self, network: Any, losses: dict[str, Any], num_classes: int, batch_size: int, size: list[int], ours: bool
    ):
        import numpy as np
        import paddle

        random = np.random.RandomState(0)
        self.network, self.losses, self.ours = network, losses, ours
        self.optimizer = paddle.optimizer.Momentum(0.005, parameters=network.parameters(), weight_decay=5e-4)
        label = random.randint(0, num_classes, (batch_size, *size))
        label[random.rand(*label.shape) < 0.1] = OHEM["ignore_index"]
        self.data = {"label": paddle.to_tensor(label)}
        self.images = paddle.to_tensor(random.randn(batch_size, 3, *size).astype(np.float32))

    def _loss(self, logits_list: list[Any]) -> Any:
        from paddleseg.core.train import loss_computation

        if self.ours:
            return sum(self.network.loss_computation(logits_list, self.losses, self.data))
        return sum(loss.reshape([1]) for loss in loss_computation(logits_list, self.data["label"], None, self.losses))

    def step(self) -> dict[str, float]:
        clock = [time.perf_counter()]
        logits_list = self.network(self.images)
        clock.append(time.perf_counter())
        loss = self._loss(logits_list)
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        self.optimizer.step()
        self.optimizer.clear_grad()
        float(loss)
        clock.append(time.perf_counter())
        stages = {stage: clock[i + 1] - clock[i] for i, stage in enumerate(STAGES)}
        return {**stages, "total": clock[-1] - clock[0]}


class Candidate(Steps):
    """The work that is timed."""

    def __init__(self, who: str, model: str, num_classes: int, batch_size: int, size: list[int], min_kept: int):
        import numpy as np
        import paddle
        import paddleseg.core.train  # noqa: F401  now, as its memory is not the loss's

        from ppliteseg_paddle.environment import keep_freed_memory, use_all_cores

        use_all_cores()
        if who != BASELINE:
            keep_freed_memory()
        paddle.seed(0)
        network, losses = build(who, model, num_classes, min_kept)
        super().__init__(network, losses, num_classes, batch_size, size, ours=who != BASELINE)
        random = np.random.RandomState(1)
        self.small = [
            paddle.to_tensor(random.randn(batch_size, num_classes, *(-(-n // stride) for n in size)).astype(np.float32))
            for stride in (8, 16, 32)
        ]

    def loss(self) -> dict[str, float]:
        """From the three outputs' small logits to their gradients, upsampling included."""
        import paddle.nn.functional as F

        begin = time.perf_counter()
        small = [logits.detach() for logits in self.small]
        for logits in small:
            logits.stop_gradient = False
        size = self.data["label"].shape[1:]
        logits_list = small if self.ours else [F.interpolate(logits, size, mode="bilinear") for logits in small]
        self._loss(logits_list).backward()
        return {"total": time.perf_counter() - begin}

    def loss_memory(self) -> dict[str, float]:
        """The peak memory, in MiB, of `loss` beyond what the process held before. Right only as the first work that a
        candidate does, as later ones use again what was allocated before. Linux only."""
        before = resident("VmRSS")
        forget_peak()
        self.loss()
        return {"total": resident("VmHWM") - before}


def forget_peak() -> None:
    """Let the peak of this process's resident memory count from now on. Linux only."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def resident(name: str) -> float:
    """MiB that this process has in memory: now ("VmRSS"), or at most so far ("VmHWM"). Linux only."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) / 1024


def main(arguments: list[str]) -> int:
    """Answer "step", "loss" and "loss_memory" (see `worker.answer`)."""

    def prepare() -> Work:
        candidate = Candidate(**json.loads(arguments[0]))
        return {"step": candidate.step, "loss": candidate.loss, "loss_memory": candidate.loss_memory}

    with mixed_types():  # PaddleSeg's own loss is timed, not the one that training has in its place
        return answer(prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
