"""The protocol `throughput`: as many images in flight as pay."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple

import numpy as np

from ppliteseg_paddle.benchmark.protocols import Candidate, identity
from ppliteseg_paddle.benchmark.timing import describe, median, percentile
from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.errors import ConfigError, DataError

# A larger number of streams or images in a batch is kept if it is so much faster, and the search ends at the first that
# is not.
_GAIN = 1.02
_BATCHES = (1, 2, 4, 8, 16)
_MAX_STREAMS = 16
_WINDOW_SECONDS, _WINDOWS = 1.0, 6


class Plan(NamedTuple):
    """Streams beside each other, each with its share of the CPU threads, and images in a batch of one stream."""

    streams: int
    batch_size: int


def throughput(
    candidates: Sequence[Candidate],
    images: dict[str, np.ndarray],
    streams: int | None = None,
    batch_size: int | None = None,
    windows: int = _WINDOWS,
    window: float = _WINDOW_SECONDS,
    progress: Callable[[str], None] = lambda what: None,
) -> list[dict[str, Any]]:
    """Images a second with several in flight, from decoded pixels to masks of the image's size.

    For each candidate the best number of streams and images in a batch is searched first; then all are timed
    round-robin.

    Args:
        images: candidate's name -> (H, W, 3) uint8, BGR.
        streams, batch_size: fixed numbers in place of the search.
        windows, window: how many windows of how many seconds each one is measured in.
        progress: told what has been measured.
    Returns: a row for each candidate, plain values, ready for JSON.
    Raises: ConfigError: for a batch that the graph does not take.
    """
    chosen, tried = {}, {}
    for candidate in candidates:
        chosen[candidate.name], tried[candidate.name] = _best(
            candidate, images[candidate.name], streams, batch_size, window, progress
        )
    crews = {
        candidate.name: _Crew(candidate, chosen[candidate.name], images[candidate.name]) for candidate in candidates
    }
    try:
        rates: dict[str, list[float]] = {name: [] for name in crews}
        calls: dict[str, list[float]] = {name: [] for name in crews}
        for _ in range(windows):
            for name, crew in crews.items():
                rate, seconds = crew.run(window)
                rates[name].append(rate)
                calls[name].extend(seconds)
                progress(name)
        first = rates[candidates[0].name]
        return [_row(crews[name], rates[name], calls[name], first, tried[name]) for name in crews]
    finally:
        for crew in crews.values():
            crew.close()


def _best(
    candidate: Candidate,
    image: np.ndarray,
    streams: int | None,
    batch_size: int | None,
    window: float,
    progress: Callable[[str], None],
) -> tuple[Plan, list[dict[str, Any]]]:
    """Climb: more streams while that pays, then larger batches. Returns the plan, and what was tried."""
    open_batch = candidate.artifact.input.size_of("N") == -1
    if batch_size is not None and batch_size > 1 and not open_batch:
        raise ConfigError(
            f"the graph in {candidate.artifact.folder} takes one image at a time, not {batch_size:d}; export it with "
            "--input_shape -1 3 H W, or drop --batch_size."
        )
    threads = candidate.num_threads or default_threads()
    max_streams = min(_MAX_STREAMS, 2 * threads) if not (candidate.device or "").startswith("gpu") else _MAX_STREAMS
    stream_choices = [streams] if streams else [2**i for i in range(max_streams.bit_length()) if 2**i <= max_streams]
    batch_choices = [batch_size] if batch_size else list(_BATCHES if open_batch else (1,))
    tried: list[dict[str, Any]] = []

    def rate_of(plan: Plan) -> float:
        for entry in tried:
            if (entry["streams"], entry["batch_size"]) == plan:
                return entry["fps"]
        crew = _Crew(candidate, plan, image)
        try:
            crew.run(0.0)
            rate = crew.run(window)[0]
        finally:
            crew.close()
        tried.append({**plan._asdict(), "fps": rate})
        progress(f"{candidate.name}: {plan[0]} streams, batch {plan[1]}")
        return rate

    best = Plan(stream_choices[0], batch_choices[0])
    for choices, field in ((stream_choices, "streams"), (batch_choices, "batch_size")):
        for number in choices[1:]:
            plan = best._replace(**{field: number})
            if rate_of(plan) < _GAIN * rate_of(best):
                break
            best = plan
    return best, tried


class _Crew:
    """The streams of one plan: a thread and a predictor for each."""

    def __init__(self, candidate: Candidate, plan: Plan, image: np.ndarray):
        self.candidate, self.plan, self.image = candidate, plan, image
        threads = candidate.num_threads or default_threads()
        self.threads_each = max(1, threads // plan.streams)
        self.predictors = [candidate.open(self.threads_each) for _ in range(plan.streams)]
        for predictor in self.predictors:
            self._segment(predictor)

    def run(self, window: float) -> tuple[float, list[float]]:
        """Work for `window` seconds, at least two batches a stream. Returns images a second, and seconds of each
        batch."""
        seconds: list[list[float]] = [[] for _ in self.predictors]
        failures: list[BaseException] = []
        start = threading.Barrier(len(self.predictors))

        def work(i: int) -> None:
            try:
                start.wait()
                begin = last = time.perf_counter()
                while last - begin < window or len(seconds[i]) < 2:
                    self._segment(self.predictors[i])
                    now = time.perf_counter()
                    seconds[i].append(now - last)
                    last = now
            except BaseException as error:  # raised again in the thread that asked
                failures.append(error)
                start.abort()

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(self.predictors))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise next(
                (error for error in failures if not isinstance(error, threading.BrokenBarrierError)), failures[0]
            )
        # Each stream by its own clock, so that the end of the window, where streams fall idle one by one, does not
        # count.
        rate = sum(self.plan.batch_size * len(each) / sum(each) for each in seconds)
        return rate, [value for each in seconds for value in each]

    def _segment(self, predictor: Predictor) -> None:
        prepared = [predictor.preprocess(self.image) for _ in range(self.plan.batch_size)]
        batch = prepared[0][0] if len(prepared) == 1 else np.concatenate([batch for batch, _ in prepared])
        output = predictor.forward(batch, predictor.needs_logits(prepared[0][1]))
        if len(output) != len(prepared):
            raise DataError(
                f"{self.candidate.name} returned {len(output):d} masks for a batch of {len(prepared):d} images."
            )
        for i, (_, undo) in enumerate(prepared):
            predictor.postprocess(output[i : i + 1], undo)

    def close(self) -> None:
        """Let go of the graphs before the next plan loads its own."""
        self.predictors = []


def _row(
    crew: _Crew, rates: Sequence[float], seconds: Sequence[float], first: Sequence[float], tried
) -> dict[str, Any]:
    ordered = sorted(rates)
    predictor, image = crew.predictors[0], crew.image
    per_window = sorted(rate / reference for rate, reference in zip(rates, first))
    batch, _ = predictor.preprocess(image)
    shape = [crew.plan.batch_size, *batch.shape[1:]]
    return {
        "name": crew.candidate.name,
        "protocol": "throughput",
        **crew.plan._asdict(),
        "threads_per_stream": crew.threads_each,
        **identity(predictor),
        "image_size": [image.shape[1], image.shape[0]],
        "input_shape": shape,
        "fps": median(rates),
        "fps_p25": percentile(ordered, 25),
        "fps_p75": percentile(ordered, 75),
        "spread": (percentile(ordered, 75) - percentile(ordered, 25)) / median(rates),
        "windows": len(rates),
        "times_faster": {
            name: percentile(per_window, percent) for name, percent in (("median", 50), ("p25", 25), ("p75", 75))
        },
        "latency_in_flight": describe(seconds),
        "tried": tried,
    }
