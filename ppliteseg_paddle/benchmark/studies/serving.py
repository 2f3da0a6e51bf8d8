"""How many images a second `ppliteseg serve` gives under load, beside `Predictor.stream`, and how long a request takes.

    python -m ppliteseg_paddle.benchmark.studies.serving [--model_dir DIR] [--clients N] [--rounds N] [--save_json FILE]

The server is a process of its own. Each round measures the stream and then the server for the same time, on the same
JPEGs (generated scenes), after a round that does not count; both keep the memory that they free. Each client sends
its next image as soon as it has the answer. Clients run on the same machine, so what they cost counts against the
server.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ppliteseg_paddle import environment
from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.studies.command import run_and_report
from ppliteseg_paddle.benchmark.timing import REST_SECONDS
from ppliteseg_paddle.deploy.predictor import Predictor
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.progress import bar
from ppliteseg_paddle.synth.writer import generate

SIZE = (640, 480)
IMAGES = 24
_PATIENCE_SECONDS = 60.0
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")


class Round(NamedTuple):
    """Images a second of the stream and of the server, and the seconds of each request."""

    stream: float
    server: float
    latencies: list[float]


def run(model_dir: str, backend: str, clients: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure. Raises: ConfigError: if the server does not start. What `Predictor` raises."""
    environment.keep_freed_memory()  # as `serve` does
    measured: list[Round] = []
    with tempfile.TemporaryDirectory() as folder:
        generate(folder, train=IMAGES, val=0, size=SIZE, num_workers=1, progress=False)
        files = sorted(str(path) for path in Path(folder).glob("images/*.jpg"))
        predictor = Predictor(model_dir, backend)
        with _server(model_dir, backend) as port, bar(total=rounds, desc="rounds") as progress:
            _load(port, files, clients, min(seconds, 2.0))
            for _ in range(rounds):
                time.sleep(REST_SECONDS)
                stream = _stream(predictor, files, seconds)
                time.sleep(REST_SECONDS)
                measured.append(Round(stream, *_load(port, files, clients, seconds)))
                progress.update()
    about = {"model_dir": model_dir, "backend": predictor.backend.describe(), "clients": clients, "seconds": seconds}
    return {**about, **summary(measured), "machine": machine()}


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Ratios of the rates by their rounds, and percentiles of all requests' latencies."""
    ratios = [each.server / each.stream for each in rounds]
    p50, p99 = np.percentile([seconds for each in rounds for seconds in each.latencies], [50, 99])
    return {
        "requests": sum(len(each.latencies) for each in rounds),
        "stream_images_per_second": float(np.median([each.stream for each in rounds])),
        "server_images_per_second": float(np.median([each.server for each in rounds])),
        "ratio": float(np.median(ratios)),
        "ratios": ratios,
        "p50_ms": 1000 * float(p50),
        "p99_ms": 1000 * float(p99),
        "p99_over_p50": float(p99 / p50),
    }


def table(result: dict[str, Any]) -> str:
    """The result for people."""
    ratios = result["ratios"]
    return "\n".join(
        [
            "| clients | requests | Predictor.stream, images/s | serve, images/s | ratio (of the rounds) "
            "| p50 ms | p99 ms | p99 / p50 |",
            "|---|---|---|---|---|---|---|---|",
            f"| {result['clients']:d} | {result['requests']:d} | {result['stream_images_per_second']:.1f} "
            f"| {result['server_images_per_second']:.1f} "
            f"| {result['ratio']:.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"| {result['p50_ms']:.0f} | {result['p99_ms']:.0f} | {result['p99_over_p50']:.2f} |",
        ]
    )


@contextlib.contextmanager
def _server(model_dir: str, backend: str) -> Iterator[int]:
    """A running server, and its port."""
    command = [sys.executable, "-m", "ppliteseg_paddle", "serve", model_dir, "--backend", backend, "--port", "0"]
    with subprocess.Popen(  # noqa: S603 - our own command
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            found = _ADDRESS.search(process.stdout.readline() if process.stdout else "")
            if found is None:
                raise ConfigError(f"the server did not start: run `ppliteseg serve {model_dir} --backend {backend}`.")
            yield int(found[1])
        finally:
            process.terminate()


def _stream(predictor: Predictor, files: Sequence[str], seconds: float) -> float:
    """Images a second of `Predictor.stream`."""
    begin = time.perf_counter()
    running = itertools.takewhile(lambda _: time.perf_counter() < begin + seconds, itertools.cycle(files))
    count = sum(1 for _ in predictor.stream(running))
    return count / (time.perf_counter() - begin)


def _load(port: int, files: Sequence[str], clients: int, seconds: float) -> tuple[float, list[float]]:
    """Images a second of the server, and the seconds of each request."""
    contents = [Path(file).read_bytes() for file in files]
    latencies: list[float] = []
    failures: list[Exception] = []
    begin = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
        with contextlib.closing(connection):
            for content in itertools.islice(itertools.cycle(contents), number, None):
                sent = time.perf_counter()
                if sent > begin + seconds:
                    return
                connection.request("POST", "/predict", content, {"Content-Type": "image/jpeg"})
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    raise ConfigError(f"the server answered {response.status:d}: {answer[:200]!r}")
                latencies.append(time.perf_counter() - sent)

    def guarded(number: int) -> None:
        try:
            client(number)
        except (OSError, http.client.HTTPException, ConfigError) as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise ConfigError(f"a request failed: {failures[0]}")
    return len(latencies) / (time.perf_counter() - begin), latencies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", default="camvid-t", metavar="DIR", help="an exported folder")
    parser.add_argument("--backend", default="onnxruntime", metavar="NAME")
    parser.add_argument("--clients", type=int, default=4, help="that send one image after the other")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="for each measurement of a round")
    parser.add_argument("--save_json", default="bench_serve.json")
    args = parser.parse_args()
    return run_and_report(
        lambda: run(args.model_dir, args.backend, args.clients, args.rounds, args.seconds), table, args.save_json
    )


if __name__ == "__main__":
    sys.exit(main())
