"""Whose names a state dict uses, and how they become ours and PaddleSeg's again.

One table serves both ways. No model is needed: where the backbone's stages begin, the names themselves tell.

Source: PaddleSeg `models/pp_liteseg.py`, `models/backbones/stdcnet.py`, `models/layers/tensor_fusion.py`; the STDC
authors' `nets/stdcnet.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ppliteseg_paddle.errors import WeightsError

StateDict = dict[str, np.ndarray]
Rows = Sequence[tuple[str, str]]

# What wraps a model for several devices puts before every name (PyTorch, Paddle).
WRAPPERS = ("module.", "_layers.")

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
BLOCKS: Rows = (
    ("convs.{}.", "conv_list.{}."),
    ("downsample.conv.", "avd_layer.0."),
    ("downsample.bn.", "avd_layer.1."),
)
STATISTICS: Rows = (("._mean", ".running_mean"), ("._variance", ".running_var"))  # (Paddle's, PyTorch's)

# Of the ImageNet classifier, which a segmentation model has no use for.
_CLASSIFIER = re.compile(r"(conv_last|gap|fc|bn|linear)\.")
# Steps that PyTorch's normalisation has seen; Paddle keeps no such count.
_COUNTER = ".num_batches_tracked"

OURS, OUR_BACKBONE = "ours", "our STDC backbone"
PADDLESEG, PADDLESEG_BACKBONE = "PaddleSeg's PPLiteSeg", "PaddleSeg's STDC backbone"
AUTHORS_BACKBONE = "the STDC authors' PyTorch backbone"
UNKNOWN = "unknown"

# Blocks in the backbone's stages 3 to 5, and channels of the head's levels. Equal to those in `models` (a test sees to
# it).
BACKBONES = {(2, 2, 2): "STDC1", (4, 5, 3): "STDC2"}
PRESETS = {("STDC1", (32, 64, 128)): "T", ("STDC2", (64, 96, 128)): "B"}


@dataclass
class Renamed:
    """A state dict under our names, whose names it had, and what was left out."""

    state: StateDict
    source: str
    ignored: list[str] = field(default_factory=list)


def identify(state: Iterable[str]) -> str:
    """Whose names these are: one of the constants above."""
    names = list(state)
    if any(name.startswith("ppseg_head.") for name in names):
        return PADDLESEG
    if any(re.match(r"features\.\d+\.", name) for name in names):
        return AUTHORS_BACKBONE if any(name.endswith(".running_mean") for name in names) else PADDLESEG_BACKBONE
    if any(name.startswith(("seg_heads.", "neck.", "head.")) for name in names):
        return OURS
    return OUR_BACKBONE if any(re.match(r"stages\.\d+\.", name) for name in names) else UNKNOWN


# --------------------------------------------------------------------------------------------
# To our names
# --------------------------------------------------------------------------------------------
def to_ours(state: StateDict) -> Renamed:
    """Rename a state dict of any known kind; names that no rule knows stay as they are.

    Raises: WeightsError: if a frozen `_scale` is not 1, which the attention here does not have.
    """
    state = _unwrapped(state)
    source = identify(state)
    if source in (OURS, OUR_BACKBONE, UNKNOWN):
        return Renamed(state, source)
    stages = _stages_from_layers(state)
    result = Renamed({}, source)
    for name, array in state.items():
        if name.endswith(_COUNTER) or (source != PADDLESEG and _CLASSIFIER.match(name)):
            result.ignored.append(name)
        elif name.endswith("._scale"):
            _check_scale(name, array)
        else:
            result.state[_our_name(name, stages)] = array
    return result


def from_paddleseg(state: StateDict) -> StateDict:
    """Rename a state dict of PaddleSeg's `PPLiteSeg`, or of its STDC backbones, to our names.

    Raises: WeightsError: as `to_ours`.
    """
    return to_ours(state).state


def _our_name(name: str, stages: dict[int, str]) -> str:
    match = re.match(r"(backbone\.)?features\.(\d+)\.", name)
    if match and stages:
        rest = name[match.end() :]
        for ours, theirs in STATISTICS:
            if rest.endswith(theirs):
                rest = rest[: -len(theirs)] + ours
        return (match.group(1) or "") + stages[int(match.group(2))] + _translated(rest, BLOCKS, 1, 0)
    return _translated(name, HEAD, 1, 0, HEAD_LAYERS)


def _stages_from_layers(state: Iterable[str]) -> dict[int, str]:
    """Layer number in PaddleSeg's (and the authors') flat list -> our "stages.S." or "stages.S.B.".

    A stage begins where a block halves the size. Empty if the backbone is no STDC.
    """
    layers, halving = set(), set()
    for name in state:
        match = re.match(r"(?:backbone\.)?features\.(\d+)\.(\w+)\.", name)
        if match:
            layers.add(int(match.group(1)))
            if match.group(2) == "avd_layer":
                halving.add(int(match.group(1)))
    if not halving:
        return {}
    stages, stage, block = {}, -1, 0
    for layer in sorted(layers):
        if layer < 2:
            stages[layer] = f"stages.{layer:d}."
            stage = layer
            continue
        stage, block = (stage + 1, 0) if layer in halving else (stage, block + 1)
        stages[layer] = f"stages.{stage:d}.{block:d}."
    return stages


def _check_scale(name: str, array: np.ndarray) -> None:
    if not np.all(array == 1):
        raise WeightsError(
            f"{name} is {np.ravel(array).tolist()}; PaddleSeg freezes it at 1, and the model here has no such factor."
        )


def _unwrapped(state: StateDict) -> StateDict:
    for wrapper in WRAPPERS:
        if state and all(name.startswith(wrapper) for name in state):
            return {name[len(wrapper) :]: array for name, array in state.items()}
    return dict(state)


# --------------------------------------------------------------------------------------------
# Back to PaddleSeg's names
# --------------------------------------------------------------------------------------------
def to_paddleseg(state: StateDict) -> StateDict:
    """Rename a state dict of ours so that PaddleSeg's `PPLiteSeg`, or its STDC backbone, loads all of it.

    The frozen `_scale` of its attention on mean and max (`UAFM_SpAtten`) is added.

    Raises: WeightsError: if the names are not ours, or PaddleSeg's model cannot take this form.
    """
    source = identify(state)
    if source not in (OURS, OUR_BACKBONE):
        raise WeightsError(f"the names are not this project's ({source}), so they cannot become PaddleSeg's.")
    _check_form(state, source)
    layers = _layers_from_stages(state)
    renamed = {}
    for name, array in state.items():
        renamed[_their_name(name, layers)] = array
        match = re.fullmatch(r"head\.fusions\.(\d+)\.attention\.0\.conv\.weight", name)
        if match and list(array.shape[:2]) == [2, 4]:
            renamed[f"ppseg_head.arm_list.{match.group(1)}._scale"] = np.ones([1], np.float32)
    return renamed


def _their_name(name: str, layers: dict[str, int]) -> str:
    match = re.match(r"(backbone\.)?(stages\.\d+\.(?:\d+\.)?)", name)
    if match and match.group(2) in layers:
        rest = _translated(name[match.end() :], BLOCKS, 0, 1)
        return f"{match.group(1) or ''}features.{layers[match.group(2)]}.{rest}"
    return _translated(name, HEAD, 0, 1, HEAD_LAYERS)


def _layers_from_stages(state: Iterable[str]) -> dict[str, int]:
    found = set()
    for name in state:
        match = re.match(r"(?:backbone\.)?stages\.(\d+)\.(?:(\d+)\.)?", name)
        if match:
            found.add((int(match.group(1)), -1 if match.group(2) is None else int(match.group(2))))
    return {
        f"stages.{stage:d}." + (f"{block:d}." if block >= 0 else ""): layer
        for layer, (stage, block) in enumerate(sorted(found))
    }


def _check_form(state: StateDict, source: str) -> None:
    """PaddleSeg's model always has SPPM, and one fusion for each selected feature, the deepest included."""
    if source == OUR_BACKBONE:
        return
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
# The tables at work
# --------------------------------------------------------------------------------------------
def _translated(name: str, rows: Rows, source: int, target: int, layers: Rows | None = None) -> str:
    """`name` with its beginning replaced by the first row that fits; then, if given, the layer after it likewise."""
    for row in rows:
        match = re.match(re.escape(row[source]).replace(r"\{\}", r"(\d+)"), name)
        if match:
            rest = name[match.end() :]
            return row[target].format(*match.groups()) + (_translated(rest, layers, source, target) if layers else rest)
    return name


# --------------------------------------------------------------------------------------------
# What a state dict is
# --------------------------------------------------------------------------------------------
def describe(state: StateDict) -> dict[str, object]:
    """Of a state dict under our names: backbone ("STDC1", "STDC2" or None), preset ("T", "B" or None), number of
    classes
    (None without segmentation heads), fusion levels."""
    backbone = BACKBONES.get(stdc_blocks(state))
    levels = _numbers(state, r"head\.fusions\.(\d+)\.")
    channels = tuple(
        int(state[f"head.fusions.{i:d}.conv_out.conv.weight"].shape[0])
        for i in levels
        if f"head.fusions.{i:d}.conv_out.conv.weight" in state
    )
    classifier = state.get("seg_heads.0.classifier.weight")
    return {
        "backbone": backbone,
        "preset": PRESETS.get((backbone, channels)),
        "num_classes": None if classifier is None else int(classifier.shape[0]),
        "levels": len(levels),
    }


def stdc_blocks(state: Iterable[str]) -> tuple[int, ...]:
    """Blocks in the stages 3 to 5 of an STDC backbone, by our names; zeros if there is none."""
    names = list(state)
    return tuple(len(_numbers(names, rf"(?:backbone\.)?stages\.{stage}\.(\d+)\.")) for stage in (2, 3, 4))


def _numbers(names: Iterable[str], pattern: str) -> list[int]:
    return sorted({int(match.group(1)) for match in (re.match(pattern, name) for name in names) if match})
