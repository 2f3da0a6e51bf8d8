"""What the loop does in each step: its losses and times, read where the loop computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

from ppliteseg_paddle.engine.loop.data_parallel import AfterStep
from ppliteseg_paddle.engine.loop.distributed import ranks
from ppliteseg_paddle.engine.loop.requests import agree, carry_out
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.saving import save_checkpoint


def step_done(run: LoopRun) -> None:
    """What follows each complete step, on every rank: weights, averages, learning rate and record are those after
    `run.done` steps, and no evaluation has begun."""
    if ranks() == 1:  # several have agreed after their transfer
        agree(run)
    if run.saves_now:
        save_checkpoint(run)
    run.reading = True
    carry_out(run)


def note_gradients(run: LoopRun, profiler: Any) -> AfterStep:
    """Reason: the loop clears them next."""

    def then() -> None:
        if run.done % run.monitor.log_iters == 0:
            run.monitor.tell("on_gradients", run.model)

    return AfterStep(profiler, then)


def read_losses(run: LoopRun, original: Callable) -> Callable:
    """`sum`, which the loop calls once a step, on the list of its losses, whoever has computed them."""

    def add_up(losses: Sequence[Any]) -> Any:
        total = original(losses)
        run.monitor.computed(total, losses)
        return total

    return add_up


def losses_with_a_dimension(run: LoopRun, original: Callable) -> Callable:
    """`loss_computation` for PaddleSeg 2.8.0, which indexes each loss: since Paddle 2.5 a loss has no dimension. (Our
    model has its own `loss_computation`, which the loop prefers; this is for PaddleSeg's models.)"""

    def compute(*args: Any, **kwargs: Any) -> list[Any]:
        return [loss.reshape([1]) if loss.ndim == 0 else loss for loss in original(*args, **kwargs)]

    return compute


def noted_times(run: LoopRun, original: type) -> type:
    """`TimeAverager`, of which the loop has one for waiting and one for complete steps. The end of a step is told here:
    its loss is read. The average of the weights, where there is one, follows."""
    waited = [0.0]

    class Averager(original):
        def record(self, usetime: float, num_samples: int | None = None) -> None:
            super().record(usetime, num_samples)
            if num_samples is None:  # only complete steps are counted in images
                waited[0], run.reading = usetime - run.computed_ahead, False
            else:
                run.monitor.stepped(waited[0], usetime, num_samples)
                if not run.use_ema:
                    step_done(run)

    return Averager


def done_with_average(run: LoopRun, update: Callable) -> Callable:
    """`update_ema_model`, with which a step of a run with averaged weights ends."""

    def update_and_end(*args: Any, **kwargs: Any) -> None:
        update(*args, **kwargs)
        step_done(run)

    return update_and_end


def no_operation_count(run: LoopRun, original: Callable) -> Callable:
    """`paddle.flops`, which prints a page of tables and warnings after the last iteration, and fails for models whose
    forward it cannot trace, when all work is already saved."""
    return lambda *args, **kwargs: 0
