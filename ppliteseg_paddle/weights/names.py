"""Whose names a state dict uses, and how they become ours and PaddleSeg's again.

One table serves both ways for neck, head and segmentation heads; a backbone tells its own names (`rules`). No model is
needed.

Source: PaddleSeg `models/pp_liteseg.py`, `models/layers/tensor_fusion.py`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ppliteseg_paddle.errors import WeightsError
from ppliteseg_paddle.weights.rules import BackboneNames, Rows, StateDict, family_of, numbers, translated

# What wraps a model for several devices puts before every name (PyTorch, Paddle).
WRAPPERS = ("module.", "_layers.")
# What stands before the backbone in whole models of others, whose decoders have another form: STDC-Seg,
# super-gradients and LibreYOLO.
BACKBONES = ("cp.backbone.", "encoder.backbone.")

# (ours, PaddleSeg's); {} stands for a number. The first row whose beginning fits is applied.
HEAD: Rows = (
    ("neck.convs.{}.", "ppseg_head.cm.stages.{}.1."),
    ("neck.conv_out.", "ppseg_head.cm.conv_out."),
    ("head.fusions.{}.conv_skip.", "ppseg_head.arm_list.{}.conv_x."),
    ("head.fusions.{}.conv_out.", "ppseg_head.arm_list.{}.conv_out."),
    ("head.fusions.{}.attention.{}.", "ppseg_head.arm_list.{}.conv_xy_atten.{}."),
    ("seg_heads.{}.conv.", "seg_heads.{}.conv."),
    ("seg_heads.{}.classifier.", "seg_heads.{}.conv_out."),
)
HEAD_LAYERS: Rows = (("conv.", "_conv."), ("bn.", "_batch_norm."))

OURS, PADDLESEG, UNKNOWN = "ours", "PaddleSeg's PPLiteSeg", "unknown"

# Backbone and channels of the head's levels. Equal to those in `models` (a test sees to it).
PRESETS = {("STDC1", (32, 64, 128)): "T", ("STDC2", (64, 96, 128)): "B"}


@dataclass
class Renamed:
    """A state dict under our names, whose names it had, and which of them were skipped."""

    state: StateDict
    source: str
    ignored: list[str] = field(default_factory=list)


def identify(names: Collection[str]) -> str:
    """Whose names these are: OURS, PADDLESEG, what a backbone calls a file of its own, or UNKNOWN."""
    if any(name.startswith("ppseg_head.") for name in names):
        return PADDLESEG
    if any(name.startswith(("seg_heads.", "neck.", "head.")) for name in names):
        return OURS
    family = family_of(names)
    return UNKNOWN if family is None else family[1]


@dataclass
class Backbone:
    """The backbone's part of a state dict: its names, and the family that knows them, if one does.

    Attributes: `before`: what stands before the names in the state dict, "backbone." or nothing.
    """

    before: str
    names: list[str]
    family: BackboneNames | None
    source: str | None

    @classmethod
    def of(cls, names: Collection[str]) -> Backbone:
        whole = identify(names) in (OURS, PADDLESEG) or any(name.startswith("backbone.") for name in names)
        before = "backbone." if whole else ""
        inside = [name[len(before) :] for name in names if name.startswith(before)]
        return cls(before, inside, *(family_of(inside) or (None, None)))

    @property
    def ours(self) -> BackboneNames | None:
        """The family, if the names are ours."""
        return self.family if self.family is not None and self.source == self.family.ours else None

    def to_ours(self) -> dict[str, str | None]:
        """Name in the state dict -> our name; None for one that is skipped."""
        if self.family is None or self.ours:
            return {self.before + name: self.before + name for name in self.names}
        renamed = self.family.to_ours(self.names)
        return {self.before + name: self.before + renamed[name] if name in renamed else None for name in self.names}

    def to_paddleseg(self) -> dict[str, str]:
        """Our name in the state dict -> PaddleSeg's; a backbone that nobody knows keeps its names."""
        renamed = self.ours.to_paddleseg(self.names) if self.ours else {name: name for name in self.names}
        return {self.before + name: self.before + renamed[name] for name in self.names}


# --------------------------------------------------------------------------------------------
# To our names
# --------------------------------------------------------------------------------------------
def to_ours(state: StateDict) -> Renamed:
    """Rename a state dict of any known kind; names that no rule knows stay as they are.

    Raises: WeightsError: if a frozen `_scale` is not 1, which the attention here does not have.
    """
    state, others = _backbone_alone(_unwrapped(state))
    source, backbone = identify(state), Backbone.of(state).to_ours()
    result = Renamed({}, source, others)
    for name, array in state.items():
        if name in backbone:
            ours = backbone[name]
        elif source == PADDLESEG and name.endswith("._scale"):
            _check_scale(name, array)
            continue
        else:
            ours = translated(name, HEAD, 1, 0, HEAD_LAYERS) if source == PADDLESEG else name
        if ours is None:
            result.ignored.append(name)
        else:
            result.state[ours] = array
    return result


def from_paddleseg(state: StateDict) -> StateDict:
    """Rename a state dict of PaddleSeg's `PPLiteSeg`, or of its STDC backbones, to our names.

    Raises: WeightsError: as `to_ours`.
    """
    return to_ours(state).state


def _check_scale(name: str, array: NDArray[np.generic]) -> None:
    if not np.all(array == 1):
        raise WeightsError(
            f"{name} is {np.ravel(array).tolist()}; PaddleSeg freezes it at 1, and the model here has no such factor."
        )


def _unwrapped(state: StateDict) -> StateDict:
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return {name[len(wrapper) :]: array for name, array in state.items()}
    return dict(state)


def _backbone_alone(state: StateDict) -> tuple[StateDict, list[str]]:
    """The backbone of another project's model, and the names of the rest; a state dict of any other kind as it is."""
    for before in BACKBONES:
        inside = {name[len(before) :]: array for name, array in state.items() if name.startswith(before)}
        if inside and family_of(inside) is not None:
            return inside, [name for name in state if not name.startswith(before)]
    return state, []


# --------------------------------------------------------------------------------------------
# Back to PaddleSeg's names
# --------------------------------------------------------------------------------------------
def to_paddleseg(state: StateDict) -> StateDict:
    """Rename a state dict under our names so that PaddleSeg's `PPLiteSeg`, or its STDC backbone, loads all of it.

    The frozen `_scale` of its attention on mean and max (`UAFM_SpAtten`) is added. A backbone that does not tell its
    names keeps them, as PaddleSeg's model keeps those of the backbone that it is given.

    Raises: WeightsError: if the names are not ours, or PaddleSeg's model cannot take this form.
    """
    source, backbone = identify(state), Backbone.of(state)
    if source == OURS:
        _check_form(state)
    elif source == PADDLESEG or not backbone.ours:
        raise WeightsError(f"the names are not this project's ({source}), so they cannot become PaddleSeg's.")
    of_backbone, renamed = backbone.to_paddleseg(), {}
    for name, array in state.items():
        renamed[of_backbone.get(name) or translated(name, HEAD, 0, 1, HEAD_LAYERS)] = array
        match = re.fullmatch(r"head\.fusions\.(\d+)\.attention\.0\.conv\.weight", name)
        if match and list(array.shape[:2]) == [2, 4]:
            renamed[f"ppseg_head.arm_list.{match.group(1)}._scale"] = np.ones([1], np.float32)
    return renamed


def _check_form(state: StateDict) -> None:
    """PaddleSeg's model always has SPPM, and one fusion for each selected feature, the deepest included."""
    neck = state.get("neck.convs.0.conv.weight")
    if neck is None:
        raise WeightsError("the model has no SPPM, without which PaddleSeg's PPLiteSeg cannot be built.")
    deepest = max(
        (name for name in state if re.fullmatch(r"head\.fusions\.\d+\.conv_skip\.conv\.weight", name)), default=None
    )
    if deepest is None or state[deepest].shape[1] != neck.shape[1]:
        raise WeightsError(
            "the model's deepest fusion does not take the feature that SPPM takes (the paper's reading with "
            "two fusions); PaddleSeg's PPLiteSeg always has one there."
        )


# --------------------------------------------------------------------------------------------
# What a state dict is
# --------------------------------------------------------------------------------------------
def describe(state: StateDict) -> dict[str, object]:
    """Of a state dict under our names: backbone ("STDC1", "STDC2" or None), preset ("T", "B" or None), number of
    classes (None without segmentation heads), fusion levels."""
    part = Backbone.of(state)
    backbone = part.ours.variant(part.names) if part.ours else None
    levels = numbers(state, r"head\.fusions\.(\d+)\.")
    channels = tuple(
        int(state[f"head.fusions.{i:d}.conv_out.conv.weight"].shape[0])
        for i in levels
        if f"head.fusions.{i:d}.conv_out.conv.weight" in state
    )
    classifier = state.get("seg_heads.0.classifier.weight")
    return {
        "backbone": backbone,
        "preset": next((preset for key, preset in PRESETS.items() if key == (backbone, channels)), None),
        "num_classes": None if classifier is None else int(classifier.shape[0]),
        "levels": len(levels),
    }


def backbone_form(names: Collection[str]) -> str | None:
    """The form of the backbone, by our names; None if there is no backbone, or none that tells."""
    part = Backbone.of(names)
    return part.ours.form(part.names) if part.ours else None
