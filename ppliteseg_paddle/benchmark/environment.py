"""On what a figure was measured: processor, GPU, memory, system, load, versions. A figure is worth nothing without."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

from ppliteseg_paddle.deploy.interface import default_threads
from ppliteseg_paddle.deploy.runtimes import distributions
from ppliteseg_paddle.environment import processor

# Packages whose versions are noted where they are installed, beside those of the runtimes. Nothing is imported for it.
_PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "paddlepaddle",
    "paddlepaddle-gpu",
    "paddleseg",
    "onnx",
    "paddle2onnx",
    "torch",
    "onnx2torch",
)
_GPU_FIELDS = {
    "name": "name",
    "driver": "driver_version",
    "memory": "memory.total",
    "clock_sm": "clocks.sm",
    "clock_memory": "clocks.mem",
    "clock_sm_max": "clocks.max.sm",
    "power_limit": "power.limit",
    "temperature": "temperature.gpu",
    "compute_capability": "compute_cap",
    "utilisation": "utilization.gpu",
}


def machine() -> dict[str, Any]:
    """Processor, GPUs, memory, system, load and versions: plain values, ready for JSON."""
    import cv2

    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "cpus_usable": default_threads(),
        "gpus": gpus(),
        "memory_gib": _memory_gib(),
        "system": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "opencv_threads": cv2.getNumThreads(),
        "versions": versions(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def versions() -> dict[str, str]:
    """Package -> version, of what is installed."""
    from ppliteseg_paddle import __version__

    found = {"ppliteseg_paddle": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for package in dict.fromkeys((*_PACKAGES, *distributions())):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpus() -> list[dict[str, str]]:
    """NVIDIA GPUs as nvidia-smi reports them, with their clocks as found; none where it is absent or fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=" + ",".join(_GPU_FIELDS.values()), "--format=csv,noheader"]
    try:
        done = subprocess.run(  # noqa: S603 - nvidia-smi, with fixed arguments
            query, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    if done.returncode:
        return []
    return [
        dict(zip(_GPU_FIELDS, map(str.strip, line.split(",")))) for line in done.stdout.splitlines() if line.strip()
    ]


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
