"""Signs of life between the machines of a run, so that none waits for one that is gone.

Paddle's launcher lets machines find each other through a store at `--master`, and then forgets about them (but for
those of an etcd server). Transfers give up early on a connection that is closed, not on a machine without power or
network. So each launcher here raises a number in that store every few seconds, and reads those of the others.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
import urllib.request
from collections.abc import Iterable, Mapping
from typing import Callable

BEAT_SECONDS = 3
LOST_SECONDS = 40  # without a sign of life; longer than gloo's half minute, after which ranks end by themselves
_PREFIX = "/ppliteseg/alive/"
_DONE, _FAILED = "done", "failed"


class Silence:
    """How long nothing new has been heard of each machine."""

    def __init__(self, machines: Iterable[int], seconds: float, now: float) -> None:
        self._seconds, self._heard = seconds, {number: ("", now) for number in machines}

    def lost(self, told: Mapping[int, str], now: float) -> int | None:
        """A machine that has failed, or of which nothing new has come for `seconds`.

        Args: told: what each machine has told last; those that are done are never lost.
        """
        for number, (before, when) in self._heard.items():
            text = told.get(number, before)
            if text != before:
                self._heard[number] = (text, now)
            elif text != _DONE and now - when > self._seconds:
                return number
            if text == _FAILED:
                return number
        return None


class Heartbeat:
    """A thread that tells the other machines that this one is there, and calls `lost` once, with the number of one that
    is lost.

    Args: endpoint: HOST:PORT of the store; machine: number of this one; machines: how many there are.
    """

    def __init__(
        self,
        endpoint: str,
        machine: int,
        machines: int,
        lost: Callable[[int], None],
        seconds: float = LOST_SECONDS,
        every: float = BEAT_SECONDS,
    ) -> None:
        self._address, self._machine, self._lost, self._every = f"http://{endpoint}{_PREFIX}", machine, lost, every
        others = [number for number in range(machines) if number != machine]
        self._silence, self._ended = Silence(others, seconds, time.monotonic()), threading.Event()
        threading.Thread(target=self._beat, daemon=True).start()

    def end(self, failed: bool = False) -> None:
        """Tell the others that this machine is done, or that a rank of it has failed, and no longer listen to them.
        What was told first counts."""
        if not self._ended.is_set():
            self._ended.set()
            self._tell(_FAILED if failed else _DONE)

    def _beat(self) -> None:
        for beats in itertools.count(1):
            if self._ended.wait(self._every):
                return
            self._tell(str(beats))
            lost = self._silence.lost(self._told(), time.monotonic())
            if lost is not None and not self._ended.is_set():
                self._lost(lost)
                return

    def _tell(self, text: str) -> None:
        self._ask(f"{self._address}{self._machine:d}", text.encode())

    def _told(self) -> dict[int, str]:
        try:
            return {int(key[len(_PREFIX) :]): text for key, text in json.loads(self._ask(self._address)).items()}
        except ValueError:  # nothing came
            return {}

    def _ask(self, address: str, content: bytes | None = None) -> bytes:
        """What the store answers; nothing where it cannot be reached. Without proxies: it is one of our machines."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with contextlib.suppress(OSError), direct.open(address, content, timeout=5) as answer:
            return answer.read()
        return b""
