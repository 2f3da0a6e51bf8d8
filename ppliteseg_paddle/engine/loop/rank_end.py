"""The end of another rank: turned into one line, with a checkpoint of what there is to save."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from ppliteseg_paddle.engine.loop.distributed import rank, ranks
from ppliteseg_paddle.engine.loop.notes import RankLost
from ppliteseg_paddle.engine.loop.run import LoopRun
from ppliteseg_paddle.engine.loop.saving import save_checkpoint

# What Paddle's communication says when another process is gone. It raises plain RuntimeErrors.
_LOST = re.compile(r"gloo|nccl|bkcl|xccl|connection (reset|closed|refused)|TCPStore", re.IGNORECASE)


@contextlib.contextmanager
def end_jointly(run: LoopRun) -> Iterator[None]:
    """Turn the end of another rank into one line, and save the last complete step.

    Raises: RankLost: in place of the loop's error, wherever that comes to Python (with gloo).
    """
    try:
        yield
    except (RuntimeError, RankLost) as error:
        if not isinstance(error, RankLost) and not _LOST.search(str(error)):
            raise
        if rank() == 0 and not run.torn:
            save_checkpoint(run)  # batch norm's statistics may be those of a step later
        raise RankLost(_lost_message(run, str(error))) from None


def _lost_message(run: LoopRun, cause: str) -> str:
    how = run.monitor.how_to_resume() if rank() == 0 else "the first rank's log says how to resume"
    return (
        f"another rank has ended, so rank {rank():d} of {ranks():d} ends after iteration {run.done:d}; {how} "
        f"({' '.join(cause.split())})"
    )
