"""A point of `studies.cost`: a process that does a training step, or tells its peak memory, when it is told to."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from ppliteseg_paddle.benchmark.studies.baseline import OHEM
from ppliteseg_paddle.benchmark.studies.cost_model import Point
from ppliteseg_paddle.benchmark.studies.training_candidate import Steps, forget_peak, resident
from ppliteseg_paddle.benchmark.studies.worker import Work, answer

# Of T's head and segmentation heads, shallow to deep; a fourth level, of stride 4, is as wide as T's shallowest.
OUT_CHANNELS, SEG_HEAD_CHANNELS = (32, 32, 64, 128), (32, 32, 64, 64)


def network(classes: int, levels: int) -> Any:
    """PP-LiteSeg-T with another number of levels, the deepest of stride 32; 3 are those of the preset."""
    from ppliteseg_paddle.models.fld import FLDHead
    from ppliteseg_paddle.models.pp_liteseg import NECK_CHANNELS, PPLiteSegNet
    from ppliteseg_paddle.models.sppm import SPPM
    from ppliteseg_paddle.models.stdc import STDCNet813

    backbone = STDCNet813()
    channels = backbone.feat_channels[-levels:]
    neck = SPPM(channels[-1], NECK_CHANNELS)
    head = FLDHead(channels, NECK_CHANNELS, OUT_CHANNELS[-levels:])
    return PPLiteSegNet(classes, backbone, neck, head, SEG_HEAD_CHANNELS[-levels:])


class Training:
    """Training steps of a point as `ppliteseg train` does them, with OHEM on the output of each level."""

    def __init__(self, point: Point):
        import paddle
        import paddleseg.core.train  # noqa: F401  now, as its memory is not the step's

        from ppliteseg_paddle.environment import keep_freed_memory, use_all_cores
        from ppliteseg_paddle.losses.cross_entropy import OhemCELoss

        use_all_cores()
        keep_freed_memory()
        paddle.seed(0)
        self._before = None
        if sys.platform == "linux":
            forget_peak()
            self._before = resident("VmRSS")
        model = network(point.classes, point.levels)
        model.full_size_logits = False
        model.train()
        losses = {"types": [OhemCELoss(**OHEM)] * point.levels, "coef": [1] * point.levels}
        self._steps = Steps(model, losses, point.classes, point.batch, list(point.size), ours=True)

    def step(self) -> dict[str, float]:
        cpu = time.process_time()
        stages = self._steps.step()
        return {**stages, "cpu": time.process_time() - cpu}

    def memory(self) -> dict[str, float | None]:
        """MiB, at most so far, beyond what the process held with Paddle and PaddleSeg imported. Linux only."""
        return {"mib": None if self._before is None else resident("VmHWM") - self._before}


def main(arguments: list[str]) -> int:
    """Answer "step" and "memory" (see `worker.answer`)."""

    def prepare() -> Work:
        training = Training(Point(**json.loads(arguments[0])))
        return {"step": training.step, "memory": training.memory}

    return answer(prepare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
