"""Training for a given time in place of a given number of iterations.

PaddleSeg's loop counts to `iters`, and its schedules are functions of the iteration. With a budget both follow the
clock: the loop gets an `iters` that it reaches when the time is up, and the schedule is asked for the iteration that it
would be at if `iters` of the configuration were spread evenly over the time. Warm-up and decay thereby keep their
shares of the run.
"""

from __future__ import annotations

import os
import time
from typing import Callable

from paddle.optimizer import lr

from ppliteseg_paddle.engine.checkpoint import OPTIMIZER, check_files
from ppliteseg_paddle.errors import ConfigError

# Their rate depends on all rates before or on the loss, so they cannot be asked for a moment in between.
NOT_BY_TIME = ("ReduceOnPlateau", "MultiplicativeDecay", "LinearLR")
# What a checkpoint holds of the clock, beside the schedule's state: seconds used when it was written and at the last
# step, and the number of steps.
CLOCK = ("seconds", "used", "steps")


class Budget:
    """The clock of a run that ends after a time.

    Everything counts from the start on: reading, steps, evaluations and checkpoints on the way, and what runs before a
    resume took. The last step is finished; the evaluation and the checkpoint after it are not part of the budget.

    Args:
        minutes: of wall time.
        iters: the configuration's; the length in iterations for which its schedule is written.
        begin: reading of `clock` at the start of this run; None for now.
        ranks: processes that train together; the clock of the first decides.
    """

    def __init__(
        self,
        minutes: float,
        iters: int,
        begin: float | None = None,
        ranks: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total, self.iters, self.ranks, self.clock = 60.0 * minutes, iters, ranks, clock
        self.begin = clock() if begin is None else begin
        self.earlier = 0.0  # seconds that the run took before it was resumed
        self.used = 0.0  # at the last step, equal on all ranks
        self.steps = 0  # of this run
        self.earlier_steps = 0  # before it was resumed
        self.uncounted = 0.0  # seconds of `used` of which no number of steps is known
        self.steps_after = 0.0  # work that follows the last step and counts, in steps
        self.over = False

    @property
    def fraction(self) -> float:
        """Of the time for steps, at the last one: 0 to 1."""
        return min(1.0, self.used / (self.total - self._reserve()))

    def _reserve(self) -> float:
        """Seconds for what follows the last step: if a step of it takes as long as those before, and a fifth of the
        time at most."""
        return min(0.2 * self.total, self.steps_after * self._seconds_a_step())

    def _seconds_a_step(self) -> float:
        """Their mean so far, with what comes between them; 0 before the first."""
        steps = self.earlier_steps + self.steps
        return (self.used - self.uncounted) / steps if steps else 0.0

    def now(self) -> float:
        """Seconds used up to this moment."""
        return self.earlier + self.clock() - self.begin

    def tick(self) -> None:
        """Read the clock after a step; the run is over as soon as a step ends past the time."""
        self.steps += 1
        self.used = self._agreed(self.now())
        self.over = self.used >= self.total - self._reserve()

    def remaining_steps(self) -> int:
        """As many as fit if they take as long as those before."""
        step = self._seconds_a_step()
        if self.over or step <= 0:
            return 0
        return max(1, round((self.total - self._reserve() - self.used) / step))

    def resume(self, seconds: float, used: float | None = None, steps: int | None = None) -> None:
        """Continue after `seconds` of the budget are used, `used` at the last of `steps` steps; None: not known."""
        self.earlier = float(seconds)
        self.used, self.earlier_steps = self.earlier if used is None else float(used), steps or 0
        self.uncounted = 0.0 if steps else self.used

    def state(self) -> dict[str, float]:
        """What `resume` takes, under the names of `CLOCK`."""
        return {"seconds": self.now(), "used": self.used, "steps": self.earlier_steps + self.steps}

    def _agreed(self, seconds: float) -> float:
        if self.ranks == 1:
            return seconds
        import numpy as np

        from ppliteseg_paddle.engine.loop.distributed import rank, sum_over_ranks

        # The gradients' transfer has just brought the ranks together.
        return float(sum_over_ranks(np.array([seconds if rank() == 0 else 0.0]), in_step=True)[0])


class OpenEnd(int):
    """The number of iterations of a run with a budget: no step reaches it before the time is up, and then all do.

    Reason: the loop compares its iteration with `iters` and with nothing else. Any other use sees the estimated number.
    """

    budget: Budget
    start: int

    def __new__(cls, budget: Budget, start: int = 0) -> OpenEnd:
        number = super().__new__(cls, budget.iters)
        number.budget, number.start = budget, start
        return number

    def end(self) -> None:
        """Let the run end before its time is up."""
        self.budget.over = True

    def estimate(self) -> int:
        """Iterations at the end, as it looks now."""
        return self.start + self.budget.steps + self.budget.remaining_steps()

    def __gt__(self, iteration):  # iteration < iters
        return not self.budget.over

    def __ge__(self, iteration):
        return True

    def __lt__(self, iteration):  # iteration > iters
        return self.budget.over

    def __le__(self, iteration):
        return self.budget.over

    def __eq__(self, iteration):
        return self.budget.over

    def __ne__(self, iteration):
        return not self.budget.over

    __hash__ = int.__hash__

    def __sub__(self, iteration):
        return self.estimate() - iteration

    def __str__(self):
        return str(self.estimate())

    def __format__(self, spec):
        return format(self.estimate(), spec)


class ScheduleByTime(lr.LRScheduler):
    """A schedule by iterations, asked by the share of the time that has passed.

    Args: schedule: any of Paddle's that can be asked for a moment; written for `budget.iters` iterations.
    Raises: ConfigError: for those of `NOT_BY_TIME`.
    """

    def __init__(self, schedule, budget: Budget):
        inner = getattr(schedule, "learning_rate", None)
        for part in (schedule, inner):
            if type(part).__name__ in NOT_BY_TIME:
                raise ConfigError(
                    f"--max_minutes cannot stretch the schedule {type(part).__name__} over a time, as each of its "
                    "rates depends on what came "
                    "before: use another one, as in PolynomialDecay."
                )
        self.schedule, self.budget, self._ready = schedule, budget, False
        super().__init__(schedule.base_lr)
        self._ready = True

    def step(self, epoch=None):
        """After each step of training: read the clock and set the rate of the next step."""
        if self._ready:  # not from the constructor
            self.budget.tick()
        self.schedule.step(self.budget.fraction * self.budget.iters)
        self.last_epoch, self.last_lr = self.schedule.last_epoch, self.schedule.last_lr

    def get_lr(self):
        return self.schedule.last_lr

    def state_dict(self):
        return {**self.schedule.state_dict(), **self.budget.state()}

    def set_state_dict(self, state_dict):
        """The rate follows from the time that was used at the checkpoint."""
        if "seconds" in state_dict:
            self.budget.resume(*(state_dict.get(name) for name in CLOCK))
        self.schedule.step(self.budget.fraction * self.budget.iters)
        self.last_epoch, self.last_lr = self.schedule.last_epoch, self.schedule.last_lr

    set_dict = set_state_dict


def resume_budget(budget: Budget, folder: str, recorded: float, may_be_over: bool = False) -> None:
    """Take up the time that a checkpoint's run had used.

    Args:
        recorded: seconds by the run's record, for a checkpoint of a run without a budget.
        may_be_over: whether a run of which nothing is left to train may begin.
    Raises: ConfigError: if nothing of the time is left; WeightsError: if the file asks to run code.
    """
    import paddle

    check_files(folder)
    state = paddle.load(os.path.join(folder, OPTIMIZER), return_numpy=True).get("LR_Scheduler", {})
    budget.resume(state.get("seconds", recorded), state.get("used"), state.get("steps"))
    budget.over = budget.used >= budget.total
    if budget.over and not may_be_over:
        raise ConfigError(
            f"--resume_model {folder}: the run had used {budget.used / 60:.1f} minutes there, and --max_minutes is "
            f"{budget.total / 60:g}: nothing is left to train. "
            "Give more minutes."
        )
