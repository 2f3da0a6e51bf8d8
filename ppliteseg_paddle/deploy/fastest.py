"""Which runtime is the fastest for an artifact on this machine: each is timed once, and what was found is kept.

Times are kept in `PPLITESEG_HOME`/runtimes.json (default: ~/.cache/ppliteseg), for an export, this processor, the
runtimes' versions and the number of threads. A change of any of them measures anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.engines import read_bytes
from ppliteseg_paddle.deploy.folder import METADATA_FILE
from ppliteseg_paddle.deploy.interface import Backend, Options, default_threads, trial_input
from ppliteseg_paddle.deploy.runtimes import RuntimeSpec
from ppliteseg_paddle.errors import PPLiteSegError
from ppliteseg_paddle.files import home_folder, read_json, write_json

log = logging.getLogger("ppliteseg_paddle")

FILE = "runtimes.json"
# Of each candidate: runs that are not timed, then timed ones for so many seconds, at most and at least so many.
_WARMUP, _SECONDS, _MAX_RUNS, _MIN_RUNS = 2, 0.5, 50, 3
# A runtime's threads spin for a while after a run (OpenMP's for 200 ms) and would slow the next candidate down.
_REST_SECONDS = 0.3
# What is not faster by so much keeps its place in the table.
_MARGIN = 0.03
# Where the graph leaves height and width open and the export names no usual size.
_SIDE = 384

Open = Callable[[str], Backend]


def by_table(able: Sequence[RuntimeSpec], artifact: Artifact) -> list[RuntimeSpec]:
    """The runtimes in the order of their table, those before all others that lead in the artifact's precision where its
    size is fixed."""
    return sorted(able, key=lambda spec: artifact.input.dynamic or artifact.precision not in spec.leads_in)


def by_time(
    able: Sequence[RuntimeSpec], artifact: Artifact, options: Options, open_one: Open, again: bool = False
) -> list[RuntimeSpec]:
    """The runtimes, the fastest first. Those that are timed come before the others.

    Args: able: those that can run the artifact, in the order of their table; open_one: opens one by name; again:
        whether to measure what was measured before.
    """
    able = by_table(able, artifact)
    rivals = [spec for spec in able if spec.timed and spec.installed]
    if len(rivals) < 2:
        return able
    path, key = os.path.join(home_folder(), FILE), _key(rivals, artifact, options)
    known = read_json(path) or {}
    times = None if again else _times_of(known.get(key), rivals)
    if times is None:
        times = _measure(rivals, artifact, open_one)
        _keep(path, {**known, key: times})
    return sorted(able, key=lambda spec: _rank(spec, able, times))


def _rank(spec: RuntimeSpec, able: Sequence[RuntimeSpec], times: dict[str, float | None]) -> tuple[bool, float]:
    """Ascending by time; one that was not timed, or failed, comes last. An earlier row wins where times are close."""
    seconds = times.get(spec.name)
    return seconds is None, (seconds or 0.0) * (1 + _MARGIN * able.index(spec))


def _key(rivals: Sequence[RuntimeSpec], artifact: Artifact, options: Options) -> str:
    """Whatever times depend on."""
    export = read_bytes(os.path.join(artifact.folder, METADATA_FILE))
    facts = [
        hashlib.sha256(export).hexdigest(),
        environment.processor(),
        environment.instruction_sets(),
        [f"{spec.name} {_versions(spec)}" for spec in rivals],
        options.num_threads or default_threads(),
        options.device,
        options.precision,
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _versions(spec: RuntimeSpec) -> str:
    found = []
    for name in spec.distributions:
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            continue
    return " ".join(found)


def _times_of(kept: object, rivals: Sequence[RuntimeSpec]) -> dict[str, float | None] | None:
    """What was kept, if it is whole: the file may have been edited."""
    if not isinstance(kept, dict) or set(kept) != {spec.name for spec in rivals}:
        return None
    if not all(seconds is None or (isinstance(seconds, float) and seconds > 0) for seconds in kept.values()):
        return None
    return kept


def _measure(rivals: Sequence[RuntimeSpec], artifact: Artifact, open_one: Open) -> dict[str, float | None]:
    """Seconds of one run of each, its best; None of one that cannot run it."""
    times: dict[str, float | None] = {}
    for spec in rivals:
        if times:
            time.sleep(_REST_SECONDS)
        try:
            times[spec.name] = _seconds_of(open_one(spec.name), artifact)
        except PPLiteSegError as error:
            log.info("auto: %s is not timed: %s", spec.name, error)
            times[spec.name] = None
    shown = ", ".join(f"{name} {1e3 * seconds:.1f} ms" for name, seconds in times.items() if seconds is not None)
    log.info("auto: timed once for this export and machine: %s", shown)
    return times


def _seconds_of(backend: Backend, artifact: Artifact) -> float:
    batch = _batch(artifact, backend.graph)
    for _ in range(_WARMUP):
        backend.run(batch)
    best, count, end = float("inf"), 0, time.perf_counter() + _SECONDS
    while count < _MIN_RUNS or (count < _MAX_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        backend.run(batch)
        best, count = min(best, time.perf_counter() - start), count + 1
    return best


def _batch(artifact: Artifact, graph: str) -> NDArray[Any]:
    """Zeros of the size that the export was made for."""
    if artifact.dynamic_shape is None:
        return trial_input(artifact, graph, _SIDE)
    channels_last = artifact.input_of(graph).layout == "NHWC"
    usual = (artifact.dynamic_shape.channels_last() if channels_last else artifact.dynamic_shape).opt
    return np.zeros(usual, artifact.input_of(graph).dtype)


def _keep(path: str, values: dict[str, object]) -> None:
    """Without a place to keep them, times are measured again next time."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_json(path, values)
    except (PPLiteSegError, OSError) as error:
        log.info("auto: what was measured cannot be kept in %s: %s", path, error)
