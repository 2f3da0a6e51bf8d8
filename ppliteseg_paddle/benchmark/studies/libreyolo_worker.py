"""LibreYOLO's PP-LiteSeg (MIT, PyTorch), run by the Python of an environment of its own, without this package.

    PYTHON libreyolo_worker.py export NETWORK WIDTH HEIGHT FILE    writes its own ONNX export, with random weights
    PYTHON libreyolo_worker.py train OPTIONS                       answers each line of stdin with the seconds of a step

NETWORK is LibreYOLO's size: t50 or b50. OPTIONS is JSON, as `studies.training` gives it to each candidate.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from typing import Any

_STAGES = ("forward", "loss", "backward", "update")
_THRESH, _IGNORED = 0.7, 255  # as `baseline.OHEM`
_OUTPUTS = 3  # of its four: as many as ours and PaddleSeg's


def export(network: str, width: str, height: str, path: str) -> None:
    torch = importlib.import_module("torch")
    torch.manual_seed(0)
    model = importlib.import_module("libreyolo").LibrePPLiteSeg(None, size=network, device="cpu")
    written = model.export(format="onnx", imgsz=(int(height), int(width)), output_path=path, dynamic=False)
    if os.path.abspath(written) != os.path.abspath(path):
        os.replace(written, path)


def ohem(logits: Any, label: Any, min_kept: int) -> Any:
    """Mean cross entropy of the pixels whose class has a probability below 0.7, of `min_kept` at least."""
    torch = importlib.import_module("torch")
    every = torch.nn.functional.cross_entropy(logits, label, ignore_index=_IGNORED, reduction="none")
    losses = every[label != _IGNORED]
    hard = losses[losses >= -math.log(_THRESH)]
    if len(hard) < min_kept:
        hard = losses.topk(min(min_kept, len(losses))).values
    return hard.mean()


class Candidate:
    """A training step on random images and labels of which a tenth is ignored, as `training_candidate` has it."""

    def __init__(self, model: str, num_classes: int, batch_size: int, size: list[int], min_kept: int, **other: Any):
        torch = importlib.import_module("torch")
        network = importlib.import_module("libreyolo.models.ppliteseg.nn").LibrePPLiteSegNet
        torch.manual_seed(0)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.network, self.min_kept = network(f"{model.lower()}50", num_classes).train(), min_kept
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.005, momentum=0.9, weight_decay=5e-4)
        self.images = torch.randn(batch_size, 3, *size)
        label = torch.randint(0, num_classes, (batch_size, *size))
        self.label = torch.where(torch.rand(label.shape) < 0.1, torch.tensor(_IGNORED), label)

    def step(self) -> dict[str, float]:
        clock = [time.perf_counter()]
        outputs = self.network(self.images)[:_OUTPUTS]
        clock.append(time.perf_counter())
        loss = sum(ohem(logits, self.label, self.min_kept) for logits in outputs)
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        self.optimizer.step()
        self.optimizer.zero_grad()
        float(loss)
        clock.append(time.perf_counter())
        return {**{stage: clock[i + 1] - clock[i] for i, stage in enumerate(_STAGES)}, "total": clock[-1] - clock[0]}


def main(arguments: list[str]) -> int:
    if arguments[0] == "export":
        export(*arguments[1:])
        return 0
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print, too
    candidate = Candidate(**json.loads(arguments[1]))
    for _ in sys.stdin:
        print(json.dumps(candidate.step()), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
