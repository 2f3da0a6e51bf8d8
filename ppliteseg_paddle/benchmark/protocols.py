"""What is timed, and on what machine: the protocols of `ppliteseg benchmark`."""
from __future__ import annotations

import time
from typing import Any, Callable, Dict, Optional

import numpy as np

from ppliteseg_paddle.benchmark.environment import machine
from ppliteseg_paddle.benchmark.timing import describe, measure
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
