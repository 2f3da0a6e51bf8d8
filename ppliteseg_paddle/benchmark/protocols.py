"""What is timed, and on what machine: the protocols of `ppliteseg benchmark`."""
from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, Callable, Dict, Optional

import numpy as np

from ppliteseg_paddle.benchmark.timing import describe, measure
from ppliteseg_paddle.deploy.backends import default_threads
from ppliteseg_paddle.deploy.predictor import Predictor

STAGES = ("preprocess", "forward", "postprocess", "total")


def latency(predictor: Predictor, image: np.ndarray, warmup: Optional[int] = None, repeats: Optional[int] = None,
            progress: Optional[Callable[[int, Optional[int]], None]] = None) -> Dict[str, Any]:
    """Steady-state latency: one image at a time, from decoded pixels to a mask of the image's size.

    `preprocess` is resizing, normalisation and layout; `forward` copies in, runs and copies out, and so ends
    when the device is done; `postprocess` brings the mask back to the image's size; `total` is all three.
    Reading and decoding the file is not part of it.

    Args: as `timing.measure` has them; image: (H, W, 3) uint8, BGR.
    Returns: plain values, ready for JSON.
    """
    def call() -> Dict[str, float]:
        start = time.perf_counter()
        batch, undo = predictor.preprocess(image)
        prepared = time.perf_counter()
        output = predictor.forward(batch)
        computed = time.perf_counter()
        predictor.postprocess(output, undo)
        end = time.perf_counter()
        return {"preprocess": prepared - start, "forward": computed - prepared, "postprocess": end - computed, "total": end - start}

    measured = measure(call, warmup, repeats, progress)
    batch, _ = predictor.preprocess(image)
    stages = {stage: describe(measured.seconds[stage]) for stage in STAGES}
    return {
        "protocol": "latency", "batch_size": 1,
        "image_size": [image.shape[1], image.shape[0]], "input_shape": list(batch.shape),
        "warmup": measured.warmup, "steady": measured.steady, "repeats": len(measured.seconds["total"]),
        "latency_ms": stages["total"]["median_ms"], "fps": stages["total"]["fps"],
        "stages": stages, "backend": predictor.backend.describe(),
        "model": {**predictor.artifact.model, "folder": predictor.artifact.folder, "output_op": predictor.artifact.output.op},
        "machine": machine(),
    }


def machine() -> Dict[str, Any]:
    """Processor, memory, system and versions: what a figure is worth nothing without."""
    import cv2
    from ppliteseg_paddle import __version__
    return {
        "processor": _processor(), "architecture": platform.machine(), "cpus": os.cpu_count(), "cpus_usable": default_threads(),
        "memory_gib": _memory_gib(), "system": platform.platform(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "opencv_threads": cv2.getNumThreads(),
        "versions": {"ppliteseg_paddle": __version__, "python": "%d.%d.%d" % sys.version_info[:3], "numpy": np.__version__,
                     "opencv": cv2.__version__},
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:  # no Linux
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()


def _memory_gib() -> Optional[float]:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2 ** 30, 1)
    except (AttributeError, ValueError, OSError):  # Windows
        return None
