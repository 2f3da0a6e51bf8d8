"""What `launch` starts: Paddle's launcher, which ends with the command that started it and leaves signals to it."""

from __future__ import annotations

import os
import runpy
import shutil
import signal
import sys
import time
from typing import Any

from ppliteseg_paddle import signals
from ppliteseg_paddle.engine.loop import notes
from ppliteseg_paddle.engine.loop.heartbeat import Heartbeat
from ppliteseg_paddle.environment import import_paddle

SAVE_SECONDS = 20  # that the ranks may take to save after one of them has failed; Paddle gives them 3


def main(command: int) -> None:
    """Run Paddle's launcher with the arguments that follow. Args: command: process id of who started this one."""
    signals.end_with(command, signal.SIGTERM)
    os.environ[notes.LAUNCHER] = str(os.getpid())
    import_paddle()
    _leave_signals_to(command)
    _watch_machines(os.environ[notes.NOTES])
    try:
        runpy.run_module("paddle.distributed.launch", run_name="__main__", alter_sys=True)
    finally:
        if os.getppid() != command:  # nobody is there to read them
            shutil.rmtree(os.environ[notes.NOTES], ignore_errors=True)


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


def _watch_machines(folder: str) -> None:
    """Let ranks know, and end them, when another machine is lost. A machine that comes back takes the place of the one
    that it was. Args: folder: for notes."""
    from paddle.distributed.launch.controllers.master import HTTPMaster

    sync, stop = HTTPMaster.sync_peers, HTTPMaster.stop

    def lost(machine: int) -> None:
        notes.note_lost_machine(folder, machine)
        time.sleep(SAVE_SECONDS)
        notes.send(folder, signal.SIGKILL)

    def sync_peers(self: Any, prefix: str, key: str, value: Any, size: int, rank: int = -1) -> Any:
        machines, number = sync(self, prefix, key if rank < 0 else "machine", value, size, rank)
        if len(machines) > 1:
            self.heartbeat = Heartbeat(self.endpoint, number, size, lost)
        return machines, number

    def set_status(self: Any, status: str) -> None:
        if hasattr(self, "heartbeat"):
            self.heartbeat.end(failed=status == self.ctx.status.FAILED)

    def end(self: Any) -> None:
        set_status(self, self.ctx.status.COMPLETED)
        stop(self)

    HTTPMaster.sync_peers, HTTPMaster.set_status, HTTPMaster.stop = sync_peers, set_status, end


if __name__ == "__main__":
    parent = int(sys.argv.pop(1))
    main(parent)
