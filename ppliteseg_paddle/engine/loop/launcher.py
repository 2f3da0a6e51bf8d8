"""What `launch` starts: Paddle's launcher, which ends with the command that started it and leaves signals to it."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.loop.notes import LAUNCHER, NOTES
from ppliteseg_paddle.environment import import_paddle

SAVE_SECONDS = 20  # that the ranks may take to save after one of them has failed; Paddle gives them 3


def main(command: int) -> None:
    """Run Paddle's launcher with the arguments that follow. Args: command: process id of who started this one."""
    signals.end_with(command, signal.SIGTERM)
    os.environ[LAUNCHER] = str(os.getpid())
    import_paddle()
    _leave_signals_to(command)
    try:
        runpy.run_module("paddle.distributed.launch", run_name="__main__", alter_sys=True)
    finally:
        if os.getppid() != command:  # nobody is there to read them
            shutil.rmtree(os.environ[NOTES], ignore_errors=True)


def _leave_signals_to(command: int) -> None:
    """Reason: systemd and Slurm signal all processes of a run, and Paddle's launcher gives its ranks half a minute to
    finish their step and save; and when a rank has failed, the others 3 seconds."""
    from paddle.distributed.launch.controllers.controller import ControllerBase
    from paddle.distributed.launch.job.pod import Pod

    handle, stop = ControllerBase.signal_handler, Pod.stop

    def signal_handler(self: Any, number: int, frame: Any) -> None:
        if os.getppid() != command or number == signal.SIGABRT:
            handle(self, number, frame)

    def patient_stop(self: Any, sigint: int = 15, timeout: int | None = None) -> Any:
        return stop(self, sigint, None if timeout is None else max(timeout, SAVE_SECONDS))

    ControllerBase.signal_handler, Pod.stop = signal_handler, patient_stop


if __name__ == "__main__":
    parent = int(sys.argv.pop(1))
    main(parent)
