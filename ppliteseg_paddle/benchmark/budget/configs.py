"""The networks that a budget is for, as configurations: the shipped ones, or a user's own file with T or B in it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from ppliteseg_paddle.deploy.steps import KINDS
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.weights.zoo import Published, published

# Whose figures order the points, and the part of a configuration's name that tells the scale they were measured at.
MEASURED_ON = "Cityscapes val"
_SCALE = re.compile(r"_scale([0-9.]+)_")
# Keys of `test_config` that put an image through the network at other sizes than its transforms make.
_OTHER_SIZES = ("aug_eval", "scales", "flip_horizontal", "flip_vertical", "is_slide", "crop_size", "stride")


def releases() -> dict[str, dict[float, Published]]:
    """Network -> scale of its input -> published weights with their mIoU, of `MEASURED_ON`; networks from the smallest
    to the largest, as in the table of weights."""
    found: dict[str, dict[float, Published]] = {}
    for row in published().values():
        scale = _SCALE.search(row.config or "")
        if row.measured_on == MEASURED_ON and row.miou is not None and scale:
            found.setdefault(row.network, {})[float(scale.group(1))] = row
    return found


class Configs:
    """Configurations of each network at each input size.

    Args: path: a user's configuration, or the name of a shipped one; None takes the shipped ones for Cityscapes.
    Attributes: `networks`: their names, from the smallest to the largest.
    Raises: ConfigError: if the file cannot be read, or is not of color images, one class a pixel and PPLiteSegNet.
    """

    def __init__(self, path: str | None = None) -> None:
        self.path, self._releases = path, releases()
        self.networks = list(self._releases)
        if path is not None:
            self._check()

    @cached_property
    def own(self) -> Any:
        """The user's configuration, loaded and checked."""
        from ppliteseg_paddle.engine.build import load_config

        return load_config(str(self.path))

    def _check(self) -> None:
        from ppliteseg_paddle.engine.build import use_multilabel
        from ppliteseg_paddle.export.trained import image_form, val_transforms
        from ppliteseg_paddle.reading.image_form import COLOR

        config = self.own
        val_transforms(config)
        kind = config.dic["model"]["type"]
        for wrong, found in (
            (kind != "PPLiteSegNet", f"model.type is {kind}"),
            (image_form(config) != COLOR, "its images are not of color and 8 bits"),
            (use_multilabel(config), "a pixel may be of several classes (test_config.use_multilabel)"),
        ):
            if wrong:
                raise ConfigError(
                    f"{config.source.path}: {found}, and --budget_ms is for PPLiteSegNet, color images and one class a "
                    "pixel. Export the network, and measure it with benchmark --model_dir."
                )

    def base(self, network: str, scale: float) -> str:
        """What a network's configuration at a scale is made of: the user's, or the shipped one for the next larger
        scale."""
        if self.path is not None:
            return self.path
        rows = self._releases[network]
        nearest = min((known for known in rows if known >= scale), default=max(rows))
        return str(rows[nearest].config)

    def values(self, network: str, scale: float, size: tuple[int, int]) -> dict[str, Any]:
        """The configuration of a network whose input is (height, width), in one piece, environment variables as they
        are written."""
        values = _in_one_piece(self.base(network, scale))
        if self.path is not None:
            values["model"] = self._model(values["model"], network)
        block = values["val_dataset"]
        kept = [step for step in block["transforms"] if not KINDS[step["type"]].undo]
        block["transforms"] = [{"type": "Resize", "target_size": [size[1], size[0]]}, *kept]
        test = {key: value for key, value in (values.get("test_config") or {}).items() if key not in _OTHER_SIZES}
        values.pop("test_config", None)
        return {**values, "test_config": test} if test else values

    def _model(self, theirs: Mapping[str, Any], network: str) -> dict[str, Any]:
        """The network for the user's classes; the user's own layers and weights where it is that network already."""
        from ppliteseg_paddle.engine.build import num_classes_of

        ours = _in_one_piece(str(next(iter(self._releases[network].values())).config))["model"]
        if theirs["backbone"].get("type") == ours["backbone"]["type"]:
            return dict(theirs)
        outputs = len(theirs["seg_head_channels"])  # the configuration has a loss for each
        return {
            **ours,
            "num_classes": num_classes_of(self.own),
            "seg_head_channels": ours["seg_head_channels"][:outputs],
        }

    def release(self, network: str, scale: float) -> Published | None:
        """The published weights that a configuration needs no training for."""
        return self._releases[network].get(scale) if self.path is None else None

    @property
    def figures(self) -> dict[str, dict[float, float]]:
        """Network -> scale of its input -> published mIoU in percent."""
        return {
            network: {scale: float(row.miou or 0.0) for scale, row in rows.items()}
            for network, rows in self._releases.items()
        }


def as_yaml(values: Mapping[str, Any]) -> str:
    """A configuration as the text of a file."""
    import yaml

    text: str = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)
    return text


def smallest_training_scale(values: Mapping[str, Any]) -> float | None:
    """The smallest scale at which training shows images; None where no transform scales them."""
    steps = (values.get("train_dataset") or {}).get("transforms") or []
    scales = [step["min_scale_factor"] for step in steps if isinstance(step.get("min_scale_factor"), (int, float))]
    return float(min(scales)) if scales else None


def _in_one_piece(name: str) -> dict[str, Any]:
    from ppliteseg_paddle.config.read import find
    from ppliteseg_paddle.config.source import Source, read_with_bases, unshared, without_marks

    source = Source(find(os.fspath(name)))
    values: dict[str, Any] = unshared(without_marks(read_with_bases(source.path, source)))
    return values
