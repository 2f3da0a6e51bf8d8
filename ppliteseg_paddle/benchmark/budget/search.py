"""Measure networks, input sizes, precisions and runtimes one after the other, and skip what cannot matter."""

from __future__ import annotations

import gc
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Callable

from ppliteseg_paddle import environment, progress
from ppliteseg_paddle.benchmark.budget.configs import Configs, as_yaml
from ppliteseg_paddle.benchmark.budget.options import BudgetOptions
from ppliteseg_paddle.benchmark.budget.points import Point, Ranking, reason_to_skip
from ppliteseg_paddle.deploy.interface import split_device
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, RuntimeSpec
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, suggest
from ppliteseg_paddle.files import write_bytes

if TYPE_CHECKING:
    from ppliteseg_paddle.benchmark.budget.exports import SizedNetwork
    from ppliteseg_paddle.deploy.artifact import Artifact

# Inputs as shares of the image's sides.
SCALES = (0.25, 0.375, 0.5, 0.75, 1.0)
PRECISIONS = ("fp32", "bf16", "int8")
# The network halves a side five times.
_MULTIPLE = 32
# A point is called so often, unless the options say another number: for a second, at least and at most so many times.
_WARMUP, _SECONDS, _MIN_CALLS, _MAX_CALLS = 2, 1.0, 5, 50


@dataclass
class Found:
    """What was measured: each point's row as the protocol "latency" has it, and why others were not."""

    rows: dict[Point, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[Point, str] = field(default_factory=dict)

    @property
    def ms(self) -> dict[Point, float]:
        return {point: row["latency_ms"] for point, row in self.rows.items()}


def sizes_of(image: Sequence[int]) -> dict[float, tuple[int, int]]:
    """Scale -> (height, width) of the network's input, rounded to what it takes; of equal ones the largest scale."""
    sizes = {
        scale: (
            max(1, round(scale * image[0] / _MULTIPLE)) * _MULTIPLE,
            max(1, round(scale * image[1] / _MULTIPLE)) * _MULTIPLE,
        )
        for scale in SCALES
    }
    last = {size: scale for scale, size in sizes.items()}
    return {scale: size for size, scale in last.items()}


def plan(
    networks: Sequence[str],
    sizes: dict[float, tuple[int, int]],
    runtimes: Sequence[RuntimeSpec],
    device: str = "cpu",
    bf16: bool = False,
) -> list[Point]:
    """All points, in the order in which they are measured: what is fast comes first, as it tells what to skip.

    Args: bf16: whether the processor multiplies bfloat16.
    """
    return [
        Point(network, scale, size, precision, spec.name)
        for network in networks
        for scale, size in sizes.items()
        for precision in PRECISIONS
        for spec in runtimes
        if precision in spec.precisions.get(device, ()) and (bf16 or precision != "bf16")
    ]


def runtimes_for(names: Sequence[str], graph: str, device: str) -> list[RuntimeSpec]:
    """The runtimes of these names that read a format and run on a device, "cpu" or "gpu".

    Raises: ConfigError: for an unknown name, or one that does not read it. DependencyError: if one is not installed, or
        none is.
    """
    able = {name: spec for name, spec in RUNTIMES.items() if graph in spec.graphs and device in spec.devices}
    if tuple(names) == ("auto",):
        found = [spec for spec in able.values() if spec.timed and spec.installed]
        if not found:
            spec = next(spec for spec in able.values() if spec.timed)
            raise DependencyError(
                f"--budget_ms needs a runtime, and none is installed. Install one with: {spec.install}"
            )
        return found
    for name in names:
        if name not in able:
            raise ConfigError(f"--budget_ms cannot measure the backend '{name}' on a {device}.{suggest(name, able)}")
        if not able[name].installed:
            raise DependencyError(
                f"the backend '{name}' needs {able[name].packages[0]}, which is not installed. Install it with: "
                f"{able[name].install}"
            )
    return [able[name] for name in dict.fromkeys(names)]


def points_for(options: BudgetOptions, configs: Configs, image: Any) -> list[Point]:
    """All points for an image (H, W, 3).

    Raises: ConfigError: for a runtime or a device that cannot be measured. DependencyError: if ONNX cannot be written
        here, or a runtime is not installed.
    """
    from ppliteseg_paddle.benchmark.budget.exports import FORMAT
    from ppliteseg_paddle.export.formats import check_installed

    device = split_device(options.device)[0] or "cpu"
    runtimes = runtimes_for(options.backends, FORMAT, device)
    check_installed((FORMAT,))
    return plan(configs.networks, sizes_of(image.shape), runtimes, device, environment.multiplies_bf16())


def search(points: Sequence[Point], options: BudgetOptions, configs: Configs, image: Any) -> Found:
    """Measure those of the points that may matter.

    Args: image: (H, W, 3) uint8, BGR.
    Raises: ArtifactError, DependencyError: if no point can be measured.
    """
    found, failures = Found(), []
    with tempfile.TemporaryDirectory() as aside, progress.bar(total=len(points), desc="budget", unit="point") as bar:
        exports = _Exports(configs, aside)
        for point in points:
            bar.set_postfix_str(point.name)
            reason = reason_to_skip(point, found.ms, options.budget_ms, configs.networks)
            if reason is None:
                try:
                    found.rows[point] = _measured(exports.of(point), point, image, options)
                except (ArtifactError, DependencyError) as error:
                    failures.append(error)
                    reason = str(error)
            if reason is not None:
                found.skipped[point] = reason
            bar.update()
        if not found.rows:
            raise failures[0]
        _confirm(found, configs, options.budget_ms, lambda point: _measured(exports.of(point), point, image, options))
    return found


def _confirm(found: Found, configs: Configs, budget: float, measure: Callable[[Point], dict[str, Any]]) -> None:
    """Measure the best point within the budget once more, and keep the longer time: of many points the best may have
    been lucky. If it does not fit any more, the next one is to prove itself."""
    confirmed: set[Point] = set()
    while True:
        best = Ranking(found.ms, configs.figures, configs.networks).best(budget)
        if best is None or best in confirmed:
            return
        found.rows[best] = max(found.rows[best], measure(best), key=lambda row: row["latency_ms"])
        confirmed.add(best)


def _measured(artifact: Artifact, point: Point, image: Any, options: BudgetOptions) -> dict[str, Any]:
    """A point's row. Raises: ArtifactError: if the runtime cannot run it."""
    from ppliteseg_paddle.benchmark.protocols import Candidate, rest_between, rows_from, timed_call
    from ppliteseg_paddle.benchmark.timing import measure

    precision = "bf16" if point.precision == "bf16" else None
    predictor = Candidate(point.name, artifact, point.backend, options.device, options.num_threads, precision).open()
    gc.collect()  # the threads of the one before
    time.sleep(rest_between([predictor.backend]))
    call = timed_call(predictor, image)
    first = call()["total"]
    warmup = _WARMUP if options.warmup is None else options.warmup
    repeats = options.repeats or min(_MAX_CALLS, max(_MIN_CALLS, int(_SECONDS / first)))
    (row,) = rows_from(
        "latency", {point.name: measure(call, warmup, repeats)}, {point.name: predictor}, {point.name: image}, {}
    )
    del row["model"]["folder"]  # it will be gone
    return {**row, "network": point.network, "scale": point.scale, "input_size": list(point.size)}


class _Exports:
    """Each network's exports, made when they are asked for; the last one is kept for the next runtime."""

    def __init__(self, configs: Configs, aside: str) -> None:
        self._configs, self._aside = configs, aside
        self._networks: dict[str, SizedNetwork] = {}
        self._last: Artifact | None = None
        self._made_for: object = None

    def of(self, point: Point) -> Artifact:
        """The export of a point."""
        precision = "fp32" if point.precision == "bf16" else point.precision
        wanted = (point.network, point.size, precision)
        if self._last is None or self._made_for != wanted:
            if self._last is not None:
                shutil.rmtree(self._last.folder, ignore_errors=True)  # 30 MB or more
            folder = tempfile.mkdtemp(dir=self._aside)
            self._last = self._network(point).artifact(point.size, precision, folder)
            self._made_for = wanted
        return self._last

    def _network(self, point: Point) -> SizedNetwork:
        from ppliteseg_paddle.benchmark.budget.exports import SizedNetwork
        from ppliteseg_paddle.engine.build import load_config

        if point.network not in self._networks:
            folder = os.path.join(self._aside, f"network_{len(self._networks):d}")
            text = as_yaml(self._configs.values(point.network, point.scale, point.size))
            write_bytes(folder + ".yml", text.encode())
            self._networks[point.network] = SizedNetwork(load_config(folder + ".yml"), folder)
        return self._networks[point.network]
