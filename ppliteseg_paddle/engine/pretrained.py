"""Weights that PaddleSeg's own components load while they are built, read as safely as ours."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[Any]:
    """`owner.name` is `value` meanwhile."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield before
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def safe_pretrained():
    """Reason: `pretrained:` of PaddleSeg's backbones and models goes to Paddle's own reader, which runs whatever a
    pickle asks for, and its downloads are unpacked without a look at the paths in them."""
    import paddle
    from paddleseg.utils import utils

    from ppliteseg_paddle.weights.load import load_by_name
    from ppliteseg_paddle.weights.read import check_pickle

    load = paddle.load

    def checked_load(path, *args, **kwargs):  # a few components read their file themselves
        if isinstance(path, (str, os.PathLike)) and os.path.isfile(path):
            check_pickle(str(path))
        return load(path, *args, **kwargs)

    with replaced(utils, "load_pretrained_model", load_by_name), replaced(paddle, "load", checked_load):
        yield
