"""Opened backends, each lent to one caller at a time, and opened again in a process that was forked."""

from __future__ import annotations

import ctypes
import os
import queue
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Callable

from numpy.typing import NDArray

from ppliteseg_paddle.deploy.interface import Backend
from ppliteseg_paddle.errors import ArtifactError


class Pool:
    """Backends that work side by side.

    The threads of a runtime do not follow into a forked process: there, what it had opened can neither run nor be
    closed without waiting for ever. So a forked process opens its own at the first use, where the runtime can.

    Args: open_all: opens them; reopens: whether a forked process calls it again.
    Attributes: `backends`.
    """

    def __init__(self, open_all: Callable[[], Sequence[Backend]], reopens: bool = True):
        self._open_all = open_all
        self.backends = open_all()
        self._lend_anew()
        if reopens:
            _pools.add(self)

    def run(self, batch: NDArray[Any], logits: bool = False) -> NDArray[Any]:
        """Run a batch on a backend that is idle; waits for one.

        Args: logits: whether to ask for the second output.

        Raises: ArtifactError: in a forked process, if the runtime cannot be opened again there.
        """
        with self._opening:
            if self._foreign:
                if not all(backend.opens_in_fork for backend in self.backends):
                    raise ArtifactError(
                        f"the backend '{self.backends[0].name}' does not run in a forked process: start processes with "
                        "multiprocessing.get_context('spawn'), or take another backend."
                    )
                self.backends = self._open_all()
                self._lend_anew()
        backend = self._idle.get()
        try:
            return backend.run_logits(batch) if logits else backend.run(batch)
        finally:
            self._idle.put(backend)

    def forked(self) -> None:
        """Called in a forked process, before anything else runs there."""
        for backend in self.backends:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(backend))  # never closed
        self._lend_anew()
        self._foreign = True

    def _lend_anew(self) -> None:
        self._foreign = False
        self._opening = threading.RLock()
        self._idle: queue.LifoQueue[Backend] = queue.LifoQueue()
        for backend in reversed(self.backends):
            self._idle.put(backend)


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _in_child() -> None:
    for pool in list(_pools):
        pool.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
