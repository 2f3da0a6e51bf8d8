"""What runs in production: read an exported folder, run it, return masks. It imports neither paddleseg nor training
code."""

from __future__ import annotations

# name -> module; loaded on first use, so that importing this package costs nothing (PEP 562).
_LAZY = {
    "Artifact": "ppliteseg_paddle.deploy.artifact",
    "Preprocess": "ppliteseg_paddle.deploy.preprocess",
    "read_image": "ppliteseg_paddle.reading.images",
    "RUNTIMES": "ppliteseg_paddle.deploy.runtimes",
    "RuntimeSpec": "ppliteseg_paddle.deploy.runtimes",
    "open_backend": "ppliteseg_paddle.deploy.backends",
    "Predictor": "ppliteseg_paddle.deploy.predictor",
    "Prediction": "ppliteseg_paddle.deploy.predictor",
    "VideoReader": "ppliteseg_paddle.deploy.video",
    "VideoWriter": "ppliteseg_paddle.deploy.video",
}

__all__ = list(_LAZY)


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
