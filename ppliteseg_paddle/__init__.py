"""PP-LiteSeg (arXiv 2204.02681) for PaddlePaddle: models, training in PaddleSeg's loop, export and inference.

Importing this package changes nothing in the process and loads neither paddle nor paddleseg. For PaddleSeg's own tools
call `register()` first: it adds our components to PaddleSeg's registries, so that
`SegBuilder(Config("configs/camvid/...yml"))` builds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppliteseg_paddle import environment as _environment  # noqa: F401  reads OMP_NUM_THREADS before paddle sets it

__version__ = "0.1.0"

# name -> module that defines it; loaded on first use (PEP 562).
_LAZY = {
    "PPLiteSegNet": "ppliteseg_paddle.models.pp_liteseg",
    "pp_liteseg_t": "ppliteseg_paddle.models.pp_liteseg",
    "pp_liteseg_b": "ppliteseg_paddle.models.pp_liteseg",
    "load_weights": "ppliteseg_paddle.weights.load",
    "Predictor": "ppliteseg_paddle.deploy.predictor",
    "register": "ppliteseg_paddle.registry",
}

__all__ = ["PPLiteSegNet", "Predictor", "__version__", "load_weights", "pp_liteseg_b", "pp_liteseg_t", "register"]

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.models.pp_liteseg import PPLiteSegNet, pp_liteseg_b, pp_liteseg_t
    from ppliteseg_paddle.registry import register
    from ppliteseg_paddle.weights.load import load_weights


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_LAZY))
