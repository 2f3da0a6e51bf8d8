"""Put weight files into models: read, rename, check, load.

Known by their names: our state dicts, those of PaddleSeg's `PPLiteSeg`, of its STDC backbones, and of the STDC authors'
PyTorch checkpoints (`names`); by their content: Paddle's, PyTorch's and safetensors files (`read`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ppliteseg_paddle import environment
from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.channels import for_channels
from ppliteseg_paddle.weights.download import masked
from ppliteseg_paddle.weights.names import (
    OURS,
    PADDLESEG,
    Renamed,
    backbone_form,
    from_paddleseg,
    identify,
    to_ours,
    to_paddleseg,
)
from ppliteseg_paddle.weights.read import read_state_dict
from ppliteseg_paddle.weights.rules import StateDict

if TYPE_CHECKING:
    from paddle import nn

__all__ = ["LoadReport", "from_paddleseg", "load_by_name", "load_weights", "read_state_dict"]

_log = logging.getLogger(__name__)


@dataclass
class LoadReport:
    """What `load_weights` did. Names are ours, except of `ignored`, which has what no segmentation model uses
    (the ImageNet classifier, PyTorch's step counters) as the file calls it; `mismatched` has (name, shape in the
    file, shape in the model) of classifiers for other classes; `extended` has (name, channels in the file, in the
    model) of first convolutions."""

    source: str
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, list[int], list[int]]] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    extended: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        text = f"{len(self.loaded):d} arrays loaded ({self.source})"
        for name, found, wanted in self.extended:
            text += f"; {name} made for {wanted:d} channels from {found:d}"
        if self.mismatched:
            _, (in_file, *_), (in_model, *_) = self.mismatched[0]
            text += (
                f"; the classifiers start anew, for {in_model:d} classes in place of the file's {in_file:d}, and are "
                "learned in training"
            )
        if self.missing:
            text += "; not in the file, left as they were: " + _some(self.missing)
        if self.unexpected:
            text += "; in the file only: " + _some(self.unexpected)
        if self.ignored:
            text += "; not used here: " + _some(sorted({_part(name) for name in self.ignored}))
        return text


def load_weights(model: nn.Layer, path: str, strict: bool = False) -> LoadReport:
    """Load a weight file into `model`, in place, and log what was not loaded.

    A file of a backbone alone fits a whole model's backbone. Unless `strict`, a file for another number of classes fits
    but for the classifiers, and one for RGB fits a model of other channels (`channels.for_channels`). PaddleSeg's own
    `PPLiteSeg` takes its files and ours as well.

    Args:
        path: path or http(s) address of a file in any form that `read.read_weight_file` knows.
        strict: whether every array of the model must come from the file, and the file be of a model of the same form
            (to evaluate, predict or export).
    Raises: WeightsError: if the file cannot be read or does not fit; the model is unchanged then. DownloadError.
    """
    paddle = environment.import_paddle()

    tensors = model.state_dict()
    renamed = _renamed(read_state_dict(path), tensors)
    path = masked(path)
    state, report = renamed.state, LoadReport(renamed.source, ignored=renamed.ignored)
    targets = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if not any(name in targets for name in state) and any("backbone." + name in targets for name in state):
        state = {"backbone." + name: array for name, array in state.items()}
        report.source += ", backbone only"
    _check_backbone(path, state, targets)
    if not strict:
        state, report.extended = for_channels(state, targets)
    fitting = {}
    for name, shape in targets.items():
        if name not in state:
            report.missing.append(name)
        elif list(state[name].shape) != shape:
            report.mismatched.append((name, list(state[name].shape), shape))
        else:
            fitting[name] = state[name]
    report.loaded = list(fitting)
    report.unexpected = [name for name in state if name not in targets]
    _check_fit(path, report, strict)
    for name, array in fitting.items():
        tensors[name].set_value(paddle.to_tensor(array).astype(tensors[name].dtype))
    _log.log(logging.INFO if report.complete and not report.ignored else logging.WARNING, "%s: %s", path, report)
    return report


def load_by_name(model: nn.Layer, path: str | None) -> None:
    """Load into a component of PaddleSeg what its `pretrained:` names, by PaddleSeg's rule: what fits by name and
    shape.

    Args: as `load_weights`; None loads nothing.
    Raises: WeightsError: if the file cannot be read, asks to run code, or nothing in it fits. DownloadError.
    Source: PaddleSeg `utils/utils.py::load_pretrained_model`, which reads the file with Paddle's own reader.
    """
    if path is None:
        return
    paddle = environment.import_paddle()

    state, tensors, path = read_state_dict(path), model.state_dict(), masked(path)
    state, extended = for_channels(state, {name: list(tensor.shape) for name, tensor in tensors.items()})
    fitting = [
        name for name, tensor in tensors.items() if name in state and list(state[name].shape) == list(tensor.shape)
    ]
    if not fitting:
        raise WeightsError(
            f"weight file {path} has none of {type(model).__name__}'s arrays (it has {_some(list(state), 3)}, ...); it "
            "belongs to another model."
        )
    for name in fitting:
        tensors[name].set_value(paddle.to_tensor(state[name]).astype(tensors[name].dtype))
    for name, found, wanted in extended:
        _log.warning("%s: %s made for %d channels from %d", path, name, wanted, found)
    _log.info("%s: %d of %d arrays loaded into %s", path, len(fitting), len(tensors), type(model).__name__)


def _renamed(state: StateDict, targets: Collection[str]) -> Renamed:
    """The file's arrays under the names that the model uses: ours, or those of PaddleSeg's `PPLiteSeg`."""
    if identify(targets) != PADDLESEG:
        return to_ours(state)
    source = identify(state)
    return Renamed(to_paddleseg(state) if source == OURS else state, source)


def _check_backbone(path: str, state: Collection[str], targets: Collection[str]) -> None:
    """A backbone may have every array of another, in the same shapes, and more: loaded into that, it would be another
    network."""
    found, wanted = backbone_form(state), backbone_form(targets)
    if found and wanted and found != wanted:
        raise WeightsError(
            f"weight file {path} does not fit the model: its backbone is {found}, the model's is {wanted}."
        )


def _check_fit(path: str, report: LoadReport, strict: bool) -> None:
    if not report.loaded:
        raise WeightsError(
            f"weight file {path} has none of the model's arrays (it has {_some(report.unexpected, 3)}, ...); it "
            "belongs to another model."
        )
    wrong = [item for item in report.mismatched if strict or not _is_classifier(item[0])]
    if wrong:
        shown = "; ".join(f"{name} has shape {found}, expected {wanted}" for name, found, wanted in wrong[:3])
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise WeightsError(f"weight file {path} does not fit the model: {shown}{more}.")
    backbone_only = all(name.startswith("backbone.") for name in report.loaded)
    missing = [name for name in report.missing if strict or not (backbone_only and not name.startswith("backbone."))]
    # A file of three fusions has all that a model of two needs, in the same shapes; masks would be wrong without a
    # word.
    surplus = [name for name in report.unexpected if strict and name.startswith(("backbone.", "neck.", "head."))]
    if surplus:
        raise WeightsError(
            f"weight file {path} belongs to a model of another form: {_some(surplus)} are in the file, but not in the "
            "model."
        )
    if missing:
        raise WeightsError(f"weight file {path} lacks {len(missing):d} of the model's arrays: {_some(missing)}.")


def _is_classifier(name: str) -> bool:
    return re.search(r"seg_heads\.\d+\.classifier\.", name) is not None


def _part(name: str) -> str:
    """What an ignored array belongs to: step counters are many, and one word names them all."""
    return "num_batches_tracked" if name.endswith(".num_batches_tracked") else name.split(".")[0]


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {(len(names) - limit):d} more" if len(names) > limit else "")
