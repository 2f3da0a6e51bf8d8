"""One training run as the seams of the loop see it: its parts, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable

from ppliteseg_paddle.engine.loop.distributed import barrier
from ppliteseg_paddle.engine.loop.monitor import Monitor


@dataclass
class LoopRun:
    """What the replacements in `seams.SEAMS` share.

    Args:
        iters, save_interval, keep_checkpoint_max: as the loop's own; `iters` may be a `budget.OpenEnd`.
        precision: fp32, fp16 or bf16; resume_model: folder that the run resumes from.
        use_ema: whether averaged weights are kept; ema_decay: of them; epochs: that were begun before this run.
        begin_epoch: called before the first sample of each epoch is read.
        evaluate: as `engine.val.evaluate`; precise_bn: recomputes a model's batch norm statistics at the end.
        evaluates: whether an evaluation follows each checkpoint of `save_interval` and of the end.
        log_lines: whether PaddleSeg's lines are logged; a progress line on a terminal tells the same in other words.
    """

    model: Any
    optimizer: Any
    monitor: Monitor
    iters: int
    evaluate: Callable[..., dict[str, Any]]
    save_interval: int = 1000
    keep_checkpoint_max: int = 5
    precision: str = "fp32"
    resume_model: str | None = None
    use_ema: bool = False
    ema_decay: float = 0.999
    epochs: int = 0
    begin_epoch: Callable[[], None] = lambda: None
    precise_bn: Callable[[Any], None] | None = None
    evaluates: bool = False
    log_lines: bool = True
    ema_model: Any = None  # as soon as the loop has shown it
    # How far it is.
    done: int = field(init=False)  # steps whose update is complete
    updating: bool = False  # after the gradients of a step, before it counts as done
    torn: bool = False  # some weights are a step ahead of others
    reading: bool = False  # after a complete step, before the next one computes
    asked: frozenset[int] = frozenset()  # signals that all ranks take up after the step that is just done
    apart: bool = True  # the first rank may have done more than others since the last transfer

    def __post_init__(self) -> None:
        self.done = self.monitor.start

    @property
    def at_the_end(self) -> bool:
        """Whether the last step's update is complete."""
        return self.done == self.iters

    @property
    def saves_now(self) -> bool:
        """Whether a checkpoint follows the step that is just done."""
        return self.done % self.save_interval == 0 or self.at_the_end or bool(self.asked)

    @property
    def evaluates_now(self) -> bool:
        """Whether an evaluation follows the step that is just done."""
        return self.evaluates and (self.done % self.save_interval == 0 or self.at_the_end)

    def barrier(self) -> None:
        """Before a transfer of every step."""
        if self.apart:
            barrier()
            self.apart = False
