"""How often and how an image is put through the network: `test_config` of a configuration, as a prediction needs it.

Source: PaddleSeg `core/infer.py::aug_inference`, whose sizes and order it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.deploy.upsampling import Axis, Undo
from ppliteseg_paddle.deploy.windows import Windows
from ppliteseg_paddle.errors import ConfigError


class View(NamedTuple):
    """One of the forms in which the network sees an image."""

    scale: float = 1.0
    flip: tuple[bool, bool] = (False, False)  # upside down, left to right

    def of(self, batch: NDArray[Any]) -> tuple[NDArray[Any], list[Undo]]:
        """Shape: batch (N, C, H, W). Returns: the view of it, and how its logits come back."""
        undo = []
        size = (self.size(batch.shape[2]), self.size(batch.shape[3]))
        if size != batch.shape[2:]:
            undo.append(Undo("resize", (batch.shape[2], batch.shape[3])))
            batch = _interpolated(batch, size)
        if any(self.flip):
            undo.append(Undo("flip", self.flip))
            batch = batch[:, :, :: -1 if self.flip[0] else 1, :: -1 if self.flip[1] else 1]
        return np.ascontiguousarray(batch), undo

    def size(self, side: int) -> int:
        """A side of the view of an image's side."""
        return int(side * self.scale + 0.5)


@dataclass(frozen=True)
class ViewPlan:
    """The views of an image over which logits are averaged, and the window that slides over each.

    Args: windows: None puts each view through the network as a whole; use_multilabel: whether each class is decided by
        itself, so that a pixel may be of several.
    """

    scales: tuple[float, ...] = (1.0,)
    flip_horizontal: bool = False
    flip_vertical: bool = False
    windows: Windows | None = None
    use_multilabel: bool = False

    @classmethod
    def of(cls, test_config: Mapping[str, Any], where: str = "test_config") -> ViewPlan:
        """Read a `test_config`; what is only for figures (`auc_roc`, `print_detail`) does not matter here.

        Raises: ConfigError: for a value that no evaluation takes.
        """
        plan: dict[str, Any] = {"use_multilabel": bool(test_config.get("use_multilabel"))}
        if test_config.get("aug_eval"):
            scales = test_config.get("scales", 1.0)
            scales = tuple(scales) if isinstance(scales, (list, tuple)) else (scales,)
            if not scales or not all(_is_scale(scale) for scale in scales):
                raise ConfigError(f"{where}.scales is {list(scales)}: give numbers above 0.")
            flips = {name: bool(test_config.get(name)) for name in ("flip_horizontal", "flip_vertical")}
            plan.update(scales=tuple(map(float, scales)), **flips)
        if test_config.get("is_slide"):
            for key in ("crop_size", "stride"):
                if not test_config.get(key):
                    raise ConfigError(f"{where}.is_slide needs {where}.{key}: [width, height].")
            plan["windows"] = Windows.checked(test_config["crop_size"], test_config["stride"])
        return cls(**plan)

    @property
    def views(self) -> list[View]:
        """In PaddleSeg's order."""
        flips = [(False, False)]
        flips += [(False, True)] * self.flip_horizontal + [(True, False)] * self.flip_vertical
        flips += [(True, True)] * (self.flip_horizontal and self.flip_vertical)
        return [View(scale, flip) for scale in self.scales for flip in flips]

    @property
    def plain(self) -> bool:
        """Whether the network simply gets the image."""
        return self == ViewPlan()

    @property
    def single(self) -> View | None:
        """The one view, where the network runs once on an image."""
        return self.views[0] if len(self.views) == 1 and self.windows is None else None

    def to_dict(self) -> dict[str, Any]:
        """As a `test_config`; {} if it is plain."""
        values: dict[str, Any] = {"use_multilabel": True} if self.use_multilabel else {}
        if len(self.views) > 1 or self.scales != (1.0,):
            flips = {name: True for name in ("flip_horizontal", "flip_vertical") if getattr(self, name)}
            values.update(aug_eval=True, scales=list(self.scales), **flips)
        if self.windows is not None:
            values.update(is_slide=True, crop_size=list(self.windows.crop_size), stride=list(self.windows.stride))
        return values


def _is_scale(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")


def _interpolated(batch: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """(N, C, H, W) -> (N, C, *size), bilinearly, as Paddle's `interpolate` does it."""
    rows, columns = (Axis.of(cells).resized(to) for cells, to in zip(batch.shape[2:], size))
    for axis, one in ((2, rows), (3, columns)):
        weights = one.weights.astype(np.float32).reshape((len(one.first), -1) + (1,) * (3 - axis))
        cells = [np.minimum(one.first + k, one.cells - 1) for k in range(weights.shape[1])]
        batch = sum(np.take(batch, at, axis=axis) * weights[:, k] for k, at in enumerate(cells))
    return batch
