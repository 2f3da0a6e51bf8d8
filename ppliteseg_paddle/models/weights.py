"""Put weight files into models: recognise whose names they use, rename, check, load.

Known by their names: state dicts of ours, of PaddleSeg's `PPLiteSeg` and of its STDC backbones.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import List, Tuple

import numpy as np
import paddle

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.models.stdc import VARIANTS
from ppliteseg_paddle.models.weight_files import StateDict, read_state_dict

__all__ = ["LoadReport", "from_paddleseg", "load_weights", "read_state_dict"]


@dataclass
class LoadReport:
    """What `load_weights` did. Names are ours; `mismatched` has (name, shape in the file, shape in the model)."""

    source: str
    loaded: List[str] = field(default_factory=list)
    missing: List[str] = field(default_factory=list)
    unexpected: List[str] = field(default_factory=list)
    mismatched: List[Tuple[str, list, list]] = field(default_factory=list)

    def __str__(self):
        text = "%d arrays loaded (%s)" % (len(self.loaded), self.source)
        if self.mismatched:
            text += "; left as they were, the file has another number of classes: " + ", ".join(
                "%s (file %s, model %s)" % item for item in self.mismatched)
        if self.missing:
            text += "; not in the file: " + _some(self.missing)
        if self.unexpected:
            text += "; in the file only: " + _some(self.unexpected)
        return text


def load_weights(model, path: str, strict: bool = False) -> LoadReport:
    """Load a weight file into `model`, in place.

    A file of a backbone alone fits a whole model's backbone. A file for another number of classes fits but for
    the classifiers, unless `strict`.

    Args:
        path: `.pdparams` or `.safetensors`, ours or PaddleSeg's.
        strict: whether every array of the model must come from the file (to evaluate, predict or export).
    Raises: WeightsError: if the file cannot be read or does not fit; the model is unchanged then.
    """
    state, source = _our_names(read_state_dict(path))
    tensors = model.state_dict()
    targets = {name: list(tensor.shape) for name, tensor in tensors.items()}
    if not any(name in targets for name in state) and any("backbone." + name in targets for name in state):
        state, source = {"backbone." + name: array for name, array in state.items()}, source + ", backbone only"
    report = LoadReport(source)
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
    return report


def _check_fit(path: str, report: LoadReport, strict: bool) -> None:
    if not report.loaded:
        raise WeightsError("weight file %s has none of the model's arrays (it has %s, ...); it belongs to another model."
                           % (path, _some(report.unexpected, 3)))
    wrong = [item for item in report.mismatched if strict or not _is_classifier(item[0])]
    if wrong:
        raise WeightsError("weight file %s does not fit the model: %s%s." % (
            path, "; ".join("%s has shape %s, expected %s" % (name, found, wanted) for name, found, wanted in wrong[:3]),
            " and %d more" % (len(wrong) - 3) if len(wrong) > 3 else ""))
    backbone_only = all(name.startswith("backbone.") for name in report.loaded)
    missing = [name for name in report.missing if strict or not (backbone_only and not name.startswith("backbone."))]
    if missing:
        raise WeightsError("weight file %s lacks %d of the model's arrays: %s." % (path, len(missing), _some(missing)))


def _is_classifier(name: str) -> bool:
    return re.search(r"seg_heads\.\d+\.classifier\.", name) is not None


def _some(names: List[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (" and %d more" % (len(names) - limit) if len(names) > limit else "")


# --------------------------------------------------------------------------------------------
# PaddleSeg's names
# --------------------------------------------------------------------------------------------
# Applied in order to each name. Its backbone counts layers through all stages; `_rename_backbone` undoes that first.
_RULES = [(re.compile(pattern), to) for pattern, to in (
    (r"\bconv_list\.", "convs."),
    (r"\bavd_layer\.0\.", "downsample.conv."),
    (r"\bavd_layer\.1\.", "downsample.bn."),
    (r"^ppseg_head\.cm\.stages\.(\d+)\.1\.", r"neck.convs.\1."),
    (r"^ppseg_head\.cm\.", "neck."),
    (r"^ppseg_head\.arm_list\.", "head.fusions."),
    (r"\bconv_x\.", "conv_skip."),
    (r"\bconv_xy_atten\.", "attention."),
    (r"^seg_heads\.(\d+)\.conv_out\.", r"seg_heads.\1.classifier."),
    (r"\._conv\.", ".conv."),
    (r"\._batch_norm\.", ".bn."),
)]


def _our_names(state: StateDict) -> Tuple[StateDict, str]:
    """The state dict under our names, and whose names it had."""
    if any(name.startswith(("ppseg_head.", "backbone.features.")) for name in state):
        return from_paddleseg(state), "PaddleSeg's PPLiteSeg"
    if any(re.match(r"features\.\d+\.", name) for name in state):
        return from_paddleseg(state), "PaddleSeg's STDC backbone"
    return state, "ours"


def from_paddleseg(state: StateDict) -> StateDict:
    """Rename a state dict of PaddleSeg's `PPLiteSeg`, or of its STDC backbones, to our names.

    Raises: WeightsError: if a frozen `_scale` is not 1, which our attention does not have, or the number of the
        backbone's layers is neither STDC1's nor STDC2's.
    Source: PaddleSeg `models/pp_liteseg.py`, `models/backbones/stdcnet.py`, `models/layers/tensor_fusion.py`.
    """
    blocks = _blocks_of(state)
    renamed = {}
    for name, array in state.items():
        if name.endswith("._scale"):
            if not np.all(array == 1):
                raise WeightsError("%s is %s; PaddleSeg freezes it at 1, and the model here has no such factor."
                                   % (name, np.ravel(array).tolist()))
            continue
        name = re.sub(r"\bfeatures\.(\d+)\.", lambda match: _stage_name(int(match.group(1)), blocks), name)
        for pattern, to in _RULES:
            name = pattern.sub(to, name)
        renamed[name] = array
    return renamed


def _blocks_of(state: StateDict) -> Tuple[int, ...]:
    layers = {int(match.group(1)) for match in (re.search(r"\bfeatures\.(\d+)\.", name) for name in state) if match}
    if not layers:
        return ()
    for blocks in VARIANTS.values():
        if max(layers) + 1 == 2 + sum(blocks):
            return blocks
    raise WeightsError("the backbone in the file has %d layers; STDC1 has %d and STDC2 %d."
                       % (max(layers) + 1, *(2 + sum(blocks) for blocks in VARIANTS.values())))


def _stage_name(layer: int, blocks: Tuple[int, ...]) -> str:
    if layer < 2:
        return "stages.%d." % layer
    layer -= 2
    for stage, count in enumerate(blocks, start=2):
        if layer < count:
            return "stages.%d.%d." % (stage, layer)
        layer -= count
    raise WeightsError("layer features.%d is beyond the backbone's stages." % (layer + 2))
