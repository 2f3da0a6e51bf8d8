"""What `ppliteseg serve` is told, and how a request is refused. Neither needs the server's libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ppliteseg_paddle.errors import PPLiteSegError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class ServeOptions:
    """What is served, where, and within which limits.

    Args:
        model_dir, backend, device, num_threads, streams: as `Predictor` takes them.
        batch_size: images that go through the network together, of those that wait; None takes `service.BATCH_SIZE`, or
            less where the graph is fixed to less.
        host, port: where it listens; port 0 takes a free one.
        max_upload: the largest image file, in megabytes.
        queue: requests that may wait or be at work at once; more are refused with status 503.
    """

    model_dir: str
    backend: str = "auto"
    device: str | None = None
    num_threads: int | None = None
    streams: int = 1
    batch_size: int | None = None
    host: str = LOOPBACK
    port: int = 8000
    max_upload: int = 32
    queue: int = 32


class RequestError(PPLiteSegError):
    """A request that is refused, with the status and the headers of the answer."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})
