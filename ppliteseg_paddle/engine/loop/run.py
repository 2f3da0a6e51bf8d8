"""One training run as the seams of the loop see it: its parts, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
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
        use_ema: whether averaged weights are kept; ema_decay: of them; num_workers: processes that read data.
        seed: of all that is drawn, the same on every rank.
        share: gives the share of the run that is done after some iterations; begin_epoch: called with it before the
            first sample of each epoch is read.
        conditions: what the numbers depend on beside the state, as `engine.resume` has them.
        evaluate: as `engine.val.evaluate`; precise_bn: recomputes a model's batch norm statistics at the end.
        evaluates: whether an evaluation follows each checkpoint of `save_interval` and of the end.
        classes: their names; frozen: names in the model's state of what is not trained.
        accumulate: parts of a batch, computed one after the other for one update; losses: of each output, with
            factors, as the loop takes them; amp_level: of mixed precision.
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
    num_workers: int = 0
    seed: int = 0
    share: Callable[[int], float] = lambda iteration: 0.0
    begin_epoch: Callable[[float], None] = lambda share: None
    conditions: dict[str, Any] = field(default_factory=dict)
    precise_bn: Callable[[Any], None] | None = None
    evaluates: bool = False
    log_lines: bool = True
    classes: Sequence[str] = ()
    frozen: frozenset[str] = frozenset()
    accumulate: int = 1
    losses: Any = None
    amp_level: str = "O1"
    ema_model: Any = None  # as soon as the loop has shown it
    loss_scaler: Any = None  # of fp16, as soon as the loop has made it
    loss_scale: dict[str, Any] | None = None  # that it is to begin with
    parallel: Any = None  # the model as several ranks compute with it, as soon as the loop has asked for it
    new_schedule: bool = False  # the learning rate's is another one than the checkpoint's
    # How far it is.
    place: Any = None  # among its epochs: `sampling.Place`
    done: int = field(init=False)  # steps whose update is complete
    updating: bool = False  # after the gradients of a step, before it counts as done
    torn: bool = False  # some weights are a step ahead of others
    reading: bool = False  # after a complete step, before the next one computes
    asked: frozenset[int] = frozenset()  # signals that all ranks take up after the step that is just done
    shares: Sequence[float] = ()  # of the last part of a batch in its losses
    earlier_losses: list[list[Any]] = field(default_factory=list)  # of the parts before it
    computed_ahead: float = 0.0  # seconds of their computation, while the loop waited for its batch
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
