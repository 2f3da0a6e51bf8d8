"""What signals ask of a training run: to end, or (SIGUSR1) to save and continue. Carried out between two steps.

A signal only leaves a note while the loop runs. After each step the ranks tell each other what they were asked for, so
that all take it up after the same one: its checkpoint is written, and then they end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.loop.distributed import rank, ranks, sum_over_ranks
from ppliteseg_paddle.engine.loop.log import say
from ppliteseg_paddle.engine.loop.run import LoopRun

_KNOWN = (*signals.ENDING, *((signals.SAVING,) if signals.SAVING else ()))


@contextlib.contextmanager
def between_steps() -> Iterator[None]:
    """Around the loop: let signals wait for the end of a step. One that comes when the run is over does nothing."""
    with signals.held():
        try:
            yield
        finally:
            signals.dismiss()


def agree(run: LoopRun) -> None:
    """Set what the run was asked for before the end of this step. All ranks have to call it, just after a transfer."""
    mine = {signals.came(), signals.SAVING if signals.save_asked() else None}
    counts = sum_over_ranks(np.array([number in mine for number in _KNOWN], np.int64), in_step=True)
    run.asked = frozenset(int(number) for number, count in zip(_KNOWN, counts) if count)


def carry_out(run: LoopRun) -> None:
    """End the run if it was asked to. Called on every rank after a complete step, whose checkpoint is written by then.

    Raises: signals.Interrupted: on all ranks.
    """
    asked, run.asked = run.asked, frozenset()
    if signals.SAVING in asked and rank() == 0:
        say(f"saved iteration {run.done:d} in {run.monitor.saved}, as SIGUSR1 asked")
    ending = [number for number in signals.ENDING if number in asked]
    if not ending or run.at_the_end:
        return
    if ranks() > 1:  # the launcher ends them all as soon as one has ended, and the first may still be saving
        run.apart = True
        sum_over_ranks(np.zeros(1))
    signals.raise_now(ending[0])
