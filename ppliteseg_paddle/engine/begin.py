"""Where a run begins: at the start, or at a checkpoint that is found and checked."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ppliteseg_paddle.config.options import TrainOptions
from ppliteseg_paddle.engine.checkpoint import iteration_of
from ppliteseg_paddle.engine.loop import distributed
from ppliteseg_paddle.engine.loop.evaluation import missed
from ppliteseg_paddle.engine.pick import AUTO, check_resume, newest
from ppliteseg_paddle.engine.record import seconds_at
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.files import read_json
from ppliteseg_paddle.reading.run_files import HISTORY_FILE


@dataclass(frozen=True)
class Begin:
    """Where a run begins.

    Args:
        options: whose `resume_model` is a folder now, or None.
        start: iteration that it holds, 0 for a fresh run; missed: files of it that are to be evaluated first.
        may_be_over: whether a run of which nothing is left to train is fine.
    """

    options: TrainOptions
    start: int = 0
    missed: Sequence[str] = ()
    may_be_over: bool = False


def begin_at(config: Any, options: TrainOptions) -> Begin:
    """Find and check the checkpoint that the run resumes from, if any. All ranks have to call it.

    Raises: ConfigError, WeightsError: if it cannot be resumed from, or nothing is left to train.
    """
    auto, first = options.resume_model == AUTO, distributed.rank() == 0
    if auto:
        options = dataclasses.replace(options, resume_model=_newest(options.save_dir, first))
    folder = options.resume_model
    if not folder:
        return Begin(options)
    start = check_resume(folder, verify=first and not auto)
    rows = (read_json(os.path.join(os.path.dirname(os.path.normpath(folder)), HISTORY_FILE)) or {}).get("eval", ())
    files = missed(folder, rows, options.use_ema) if options.do_eval else []
    may_be_over = auto or bool(files)
    iters = sys.maxsize if options.max_minutes else config.iters
    if start > iters or (start == iters and not may_be_over):
        raise ConfigError(
            f"--resume_model {folder} holds iteration {start:d}, and the run ends at {iters:d}: nothing is left to "
            "train. Give a larger --iters."
        )
    return Begin(options, start, files, may_be_over)


def _newest(save_dir: str, first: bool) -> str | None:
    """The checkpoint that the first rank picks, on all ranks."""
    number = 0
    if first:
        picked = newest(save_dir)
        print(f"--resume_model {AUTO}: {picked.line(save_dir)}", flush=True)
        number = iteration_of(picked.folder) or 0 if picked.folder else 0
    distributed.join_ranks()
    number = int(distributed.sum_over_ranks(np.array([number]))[0])
    return os.path.join(save_dir, f"iter_{number:d}") if number else None


def budget_of(config: Any, at: Begin, begin: float) -> Any:
    """The budget of time, with what a resumed run has used of it; None without one."""
    options = at.options
    if options.max_minutes is None:
        return None
    from ppliteseg_paddle.engine.loop.budget import Budget, resume_budget

    budget, folder = Budget(options.max_minutes, config.iters, begin, distributed.ranks()), options.resume_model
    if folder:
        record = read_json(os.path.join(os.path.dirname(os.path.normpath(folder)), HISTORY_FILE)) or {}
        resume_budget(budget, folder, seconds_at(record, at.start), at.may_be_over)
    return budget
