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
    "train": "ppliteseg_paddle.engine.api",
    "val": "ppliteseg_paddle.engine.api",
}

# `export` is the package of that name, which can be called: see its module.
__all__ = [
    "PPLiteSegNet",
    "Predictor",
    "__version__",
    "export",
    "load_weights",
    "pp_liteseg_b",
    "pp_liteseg_t",
    "register",
    "train",
    "val",
]

if TYPE_CHECKING:
    from ppliteseg_paddle.deploy.predictor import Predictor
    from ppliteseg_paddle.engine.api import train, val
    from ppliteseg_paddle.export.run import export
    from ppliteseg_paddle.models.pp_liteseg import PPLiteSegNet, pp_liteseg_b, pp_liteseg_t
    from ppliteseg_paddle.registry import register
    from ppliteseg_paddle.weights.load import load_weights


def __getattr__(name: str) -> Any:
    import importlib

    if name == "export":
        return importlib.import_module("ppliteseg_paddle.export")
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _LAZY[name].startswith("ppliteseg_paddle.models."):
        _environment.import_paddle()  # some of their modules do without it, so their package does not
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
