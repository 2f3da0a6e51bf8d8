"""Open an exported graph on a runtime of `runtimes.RUNTIMES`, by name or by itself.

`auto` takes the fastest runtime whose package is installed and which runs a graph of the artifact. On a CPU those that
the table marks are timed once (`fastest`); the others follow in the table's order. Rows that can use a GPU precede
those that cannot, unless the CPU is asked for. `tensorrt` counts only for what was exported for it, `paddle-trt` only
where its engine exists already: nobody waits for minutes unasked. With PPLITESEG_AUTO=table nothing is timed.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

from ppliteseg_paddle import environment
from ppliteseg_paddle.deploy import fastest
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.interface import Backend, Options, default_threads, split_device
from ppliteseg_paddle.deploy.runtimes import ARITHMETIC, AUTO, RUNTIMES, RuntimeSpec, backend_names
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError, PPLiteSegError, suggest

log = logging.getLogger("ppliteseg_paddle")

# The environment's word on what "auto" is: "table" for no measurements.
VARIABLE = "PPLITESEG_AUTO"


def open_backend(
    name: str, artifact: Artifact, device: str | None = None, num_threads: int | None = None, **more: Any
) -> Backend:
    """Open an artifact's graph.

    Args:
        name: a key of `RUNTIMES`, "auto", "auto:measure" (times anew) or "auto:table" (times nothing).
        device, num_threads, more: see `Options`.
    Raises: ConfigError: for an unknown name, device or number, or a precision that the runtime does not have.
        DependencyError: if its package is not installed. ArtifactError: if the artifact has no graph for it, or the
        runtime cannot run the graph.
    """
    options = Options(device, num_threads, **more).checked(artifact.image_form.channels)
    if name not in backend_names():
        raise ConfigError(f"unknown backend '{name}'.{suggest(name, backend_names())}")
    if name in RUNTIMES and not RUNTIMES[name].computes_in(options.precision):
        known = {precision for each in RUNTIMES[name].precisions.values() for precision in each}
        raise ConfigError(f"the backend '{name}' has no {options.precision}; it has {', '.join(sorted(known))}.")
    if options.precision in ARITHMETIC and (name in AUTO or "cpu" in RUNTIMES[name].devices):
        options = _in_float(artifact, options)
    if name in AUTO:
        return _first_that_works(artifact, options, _how(name))
    return _open(name, artifact, options)


def open_streams(name: str, artifact: Artifact, streams: int, options: Options) -> list[Backend]:
    """Open an artifact's graph several times, to work side by side; they share the threads. Args, Raises: as
    `open_backend`."""
    threads = options.num_threads
    if streams > 1:
        threads = max(1, (threads or default_threads()) // streams)
    first = open_backend(name, artifact, options.device, threads, precision=options.precision)
    return [first] + [
        open_backend(first.name, artifact, options.device, threads, precision=options.precision)
        for _ in range(streams - 1)
    ]


def _in_float(artifact: Artifact, options: Options) -> Options:
    """The options for float arithmetic on a CPU.

    Raises: ConfigError: if the artifact is in 8 bits, or the device does not multiply bfloat16.
    """
    precision = options.precision
    if artifact.precision == "int8":
        raise ConfigError(
            f"--precision {precision} is for float exports, and {artifact.folder} holds one in INT8: leave it out, or "
            "export without --precision int8."
        )
    if precision != "bf16":
        return options
    if split_device(options.device)[0] == "gpu":
        raise ConfigError(
            f"--precision bf16 is computed on a CPU, and the device is '{options.device}': give --device cpu, or leave "
            "the precision out."
        )
    if not environment.multiplies_bf16():
        raise ConfigError(
            "--precision bf16 needs a processor with AVX512_BF16 or AMX, but this one has "
            f"{environment.instruction_sets()}: use --precision fp32."
        )
    return replace(options, device="cpu")


def _open(name: str, artifact: Artifact, options: Options) -> Backend:
    spec = RUNTIMES[name]
    if not spec.reads(artifact):
        raise ArtifactError(
            f"{artifact.folder} holds no {' or '.join(spec.graphs)} graph, which the backend '{name}' needs (it holds: "
            f"{', '.join(artifact.graphs) or 'none'}). Export it with --format {spec.graphs[0]}."
        )
    if not spec.installed:
        raise DependencyError(
            f"the backend '{name}' needs {spec.packages[0]}, which is not installed. Install it with: {spec.install}"
        )
    return spec.open(artifact, options)


def _how(name: str) -> str:
    """Which form of "auto" is meant, by the environment, too."""
    word = os.environ.get(VARIABLE)
    if not word or name != AUTO[0]:
        return name
    if f"auto:{word}" not in AUTO:
        raise ConfigError(f"{VARIABLE} is '{word}'; give {' or '.join(each[5:] for each in AUTO[1:])}, or unset it.")
    return f"auto:{word}"


def _in_order(artifact: Artifact, options: Options, how: str) -> list[RuntimeSpec]:
    """Those that could run the artifact, in the order in which they are tried."""
    able = [
        spec
        for spec in RUNTIMES.values()
        if spec.reads(artifact) and spec.computes_in(options.precision) and spec.in_auto(artifact)
    ]
    if options.device is None and any(spec.installed and spec.may_use_gpu() for spec in able):
        return sorted(able, key=lambda spec: not (spec.installed and spec.may_use_gpu()))  # stable: the table's order
    if options.device not in (None, "cpu") or how not in AUTO[:2]:
        return fastest.by_table(able, artifact)
    return fastest.by_time(able, artifact, options, lambda name: _open(name, artifact, options), how == AUTO[1])


def _first_that_works(artifact: Artifact, options: Options, how: str) -> Backend:
    failures: list[tuple[str, PPLiteSegError]] = []
    for spec in _in_order(artifact, options, how):
        try:
            backend = _open(spec.name, artifact, options)
        except (ArtifactError, DependencyError) as error:
            failures.append((spec.name, error))
            continue
        for failed, reason in failures:
            if isinstance(reason, ArtifactError):
                log.warning("backend '%s' is skipped for '%s': %s", failed, spec.name, reason)
        log.info("backend: %s on %s", spec.name, backend.device)
        return backend
    if not failures:
        raise ArtifactError(
            f"{artifact.folder} holds no graph that a backend here runs (it holds: "
            f"{', '.join(artifact.graphs) or 'none'}); known are {', '.join(RUNTIMES)}."
        )
    raise failures[0][1]  # the preferred one's: the others would only repeat it
