"""Counts and times in the text form that Prometheus reads.

Source: https://prometheus.io/docs/instrumenting/exposition_formats (version 0.0.4).
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Callable

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_IMAGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Histogram:
    """How many values are at most so large. Args: bounds: in ascending order."""

    def __init__(self, bounds: Sequence[float]):
        self._bounds, self._counts = tuple(bounds), [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        total, lines = 0, []
        for bound, count in zip((*map(_number, self._bounds), "+Inf"), self._counts):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total:d}')
        return [*lines, f"{name}_sum {_number(self._sum)}", f"{name}_count {total:d}"]


class Metrics:
    """What has happened since the start. Threads may share it.

    Args: waiting, in_progress: called for how many images wait for the network, and how many requests are at work.
    """

    def __init__(self, waiting: Callable[[], int], in_progress: Callable[[], int]):
        self._waiting, self._in_progress = waiting, in_progress
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, int]] = Counter()
        self.images = 0
        self._seconds, self._batches = Histogram(_SECONDS), Histogram(_IMAGES)

    def answered(self, path: str, status: int) -> None:
        """A request has got its answer."""
        with self._lock:
            self.requests[path, status] += 1

    def segmented(self, seconds: float) -> None:
        """An image has become a mask, so long after its upload was complete."""
        with self._lock:
            self.images += 1
            self._seconds.add(seconds)

    def ran(self, count: int) -> None:
        """So many images went through the network together."""
        with self._lock:
            self._batches.add(count)

    def text(self) -> str:
        with self._lock:
            requests = [
                f'ppliteseg_requests_total{{path="{path}",status="{status:d}"}} {count:d}'
                for (path, status), count in sorted(self.requests.items())
            ]
            families = [
                ("requests_total", "counter", "Answered requests by path and status.", requests),
                ("images_total", "counter", "Segmented images.", [f"ppliteseg_images_total {self.images:d}"]),
                *(
                    (name, "gauge", about, [f"ppliteseg_{name} {count():d}"])
                    for name, about, count in (
                        ("queue_length", "Images that wait for the network.", self._waiting),
                        ("requests_in_progress", "Requests to /predict that wait or are at work.", self._in_progress),
                    )
                ),
                *(
                    (name, "histogram", about, histogram.lines(f"ppliteseg_{name}"))
                    for name, about, histogram in (
                        ("latency_seconds", "From a complete upload to the encoded result.", self._seconds),
                        ("batch_size", "Images that went through the network together.", self._batches),
                    )
                ),
            ]
        return "".join(
            f"# HELP ppliteseg_{name} {about}\n# TYPE ppliteseg_{name} {kind}\n" + "".join(f"{row}\n" for row in rows)
            for name, kind, about, rows in families
        )


def _number(value: float) -> str:
    return f"{value:.9g}"
