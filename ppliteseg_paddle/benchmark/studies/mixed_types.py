"""PaddleSeg 2.8.0's own losses on Paddle 3, which refuses their arithmetic: for baselines and tests only.

Training uses `compat_losses`, which leaves `paddle.Tensor` alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Callable

from ppliteseg_paddle.environment import paddle_version

OPERATORS = ("__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__")


@contextlib.contextmanager
def mixed_types() -> Iterator[None]:
    """Arithmetic between tensors of integers or truth values and of floats meanwhile, as Paddle 2 has it: the result is
    of the left one's type."""
    import paddle

    if (paddle_version() or (0,)) < (3,):
        yield
        return
    originals = {name: getattr(paddle.Tensor, name) for name in OPERATORS}

    def of_the_left_type(operator: Callable) -> Callable:
        def operate(self: paddle.Tensor, other: Any) -> Any:
            mixed = isinstance(other, paddle.Tensor) and self.dtype != other.dtype
            return operator(self, other.astype(self.dtype) if mixed else other)

        return operate

    for name, operator in originals.items():
        setattr(paddle.Tensor, name, of_the_left_type(operator))
    try:
        yield
    finally:
        for name, operator in originals.items():
            setattr(paddle.Tensor, name, operator)
