"""Candidates of a study as processes that work when they are told to: what a library decides once per process, and the
memory that it keeps, is each one's own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ppliteseg_paddle.errors import PPLiteSegError

Work = Mapping[str, Callable[[], dict[str, Any]]]


class Worker:
    """A candidate's process; `ask` has it work once.

    Args: command: what runs, with `options` as JSON for its last argument; environment: variables in addition to those
        of this process.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        options: Mapping[str, Any],
        num_threads: int,
        environment: Mapping[str, str] | None = None,
    ):
        self.name = name
        # Not a pipe, which might fill up. Closed by `close`.
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        # Threads that wait in a spin would take the processor from the candidate that is timed.
        threads = {"OMP_NUM_THREADS": str(num_threads), "KMP_BLOCKTIME": "0"}
        self.process = subprocess.Popen(  # noqa: S603 - Python, no shell
            [*command, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env={**os.environ, **threads, **(environment or {})},
        )

    def ask(self, work: str) -> dict[str, Any]:
        """Raises: PPLiteSegError: if the process has ended."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None and answers is not None  # noqa: S101 - both are pipes
        try:
            requests.write(work + "\n")
            requests.flush()
            answer = answers.readline()
        except OSError:
            answer = ""
        if not answer:
            self._end()
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            raise PPLiteSegError(f"{self.name} could not do a {work}: {(said[-1] if said else 'its process ended')}")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        self._end()
        self._said.close()

    def _end(self) -> None:
        if self.process.stdin is not None and not self.process.stdin.closed:
            self.process.communicate()  # closes stdin, at which it ends


def module_command(module: str) -> list[str]:
    """The command of a module whose main program is `answer`."""
    return [sys.executable, "-m", module]


def answer(prepare: Callable[[], Work]) -> int:
    """The main program of a worker: each line of stdin names what to do; its answer is a line of JSON on stdout.

    Args: prepare: makes ready, and gives what can be asked for.
    """
    # Paddle and PaddleSeg print, too; answers have the real stdout for themselves.
    answers, sys.stdout = sys.stdout, sys.stderr
    work = prepare()
    for line in sys.stdin:
        print(json.dumps(work[line.strip()]()), file=answers, flush=True)
    return 0
