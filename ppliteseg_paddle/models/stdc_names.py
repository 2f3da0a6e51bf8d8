"""What weight files call the arrays of STDC: ours, PaddleSeg's, the STDC authors' and super-gradients'.

Source: PaddleSeg `models/backbones/stdcnet.py`; the STDC authors' `nets/stdcnet.py`; the arrays' names in checkpoints
of super-gradients, which are LibreYOLO's, too.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from ppliteseg_paddle.weights.rules import BackboneNames, Rows, numbers, translated

# Blocks in the stages 3 to 5 (a test sees to it that they are those of `stdc.VARIANTS`).
VARIANTS = {(2, 2, 2): "STDC1", (4, 5, 3): "STDC2"}

BLOCKS: Rows = (
    ("convs.{}.", "conv_list.{}."),
    ("downsample.conv.", "avd_layer.0."),
    ("downsample.bn.", "avd_layer.1."),
)
STATISTICS: Rows = (("._mean", ".running_mean"), ("._variance", ".running_var"))  # (Paddle's, PyTorch's)


def _layer(statistics: str, conv: str = r"conv\.", norm: str = r"bn\.") -> str:
    return rf"({conv}weight|{norm}(weight|bias|{statistics}))"


def _flat(statistics: str) -> str:
    """PaddleSeg and the authors number the blocks of all stages through."""
    layer, halving = _layer(statistics), _layer(statistics, r"0\.", r"1\.")
    return rf"features\.\d+\.({layer}|conv_list\.\d+\.{layer}|avd_layer\.{halving})"


_PADDLE = _layer("_mean|_variance")
_SEQUENCE = r"seq\." + _layer("running_mean|running_var")
# Stride of a stage in super-gradients' names -> its number in ours.
_STRIDES = {"2": 0, "4": 1, "8": 2, "16": 3, "32": 4}


class STDCNames(BackboneNames):
    ours = "our STDC backbone"
    our_names = rf"stages\.([01]\.{_PADDLE}|[2-4]\.\d+\.(convs\.[0-3]|downsample)\.{_PADDLE})"
    foreign = {
        "PaddleSeg's STDC backbone": _flat("_mean|_variance"),
        "the STDC authors' PyTorch backbone": _flat("running_mean|running_var"),
        "super-gradients' STDC backbone": (
            rf"stages\.block_s([24]\.0\.{_SEQUENCE}|(8|16|32)\.\d+\.conv_list\.([0-3]|1\.[01])\.{_SEQUENCE})"
        ),
    }
    # The ImageNet classifier, and the steps that PyTorch's normalisation has seen, of which Paddle keeps no count.
    ignored = r"(?!features\.|stages\.block_s)|.*\.num_batches_tracked$"

    def to_ours(self, names: Collection[str]) -> dict[str, str]:
        stages = _stages_from_layers(names)
        renamed = {}
        for name in names:
            if self.is_ignored(name):
                continue
            match = re.match(r"features\.(\d+)\.", name)
            if match:
                ours = stages[int(match.group(1))] + translated(name[match.end() :], BLOCKS, 1, 0)
            else:
                ours = _from_strides(name)
            for paddle, torch in STATISTICS:
                if ours.endswith(torch):
                    ours = ours[: -len(torch)] + paddle
            renamed[name] = ours
        return renamed

    def to_paddleseg(self, names: Collection[str]) -> dict[str, str]:
        layers = _layers_from_stages(names)
        renamed = {}
        for name in names:
            stage, rest = _split(name)
            renamed[name] = f"features.{layers[stage]:d}." + translated(rest, BLOCKS, 0, 1)
        return renamed

    def variant(self, names: Collection[str]) -> str | None:
        return VARIANTS.get(_blocks(names))

    def form(self, names: Collection[str]) -> str | None:
        """STDC2 has every array of STDC1, in the same shapes, and more: the number of blocks tells."""
        return f"{self.variant(names) or 'another STDC'} ({', '.join(map(str, _blocks(names)))} blocks)"


NAMES = STDCNames()


def _blocks(names: Collection[str]) -> tuple[int, int, int]:
    third, fourth, fifth = (len(numbers(names, rf"stages\.{stage:d}\.(\d+)\.")) for stage in (2, 3, 4))
    return third, fourth, fifth


def _from_strides(name: str) -> str:
    """Our name for one of super-gradients': a block that halves the size does so in front of its second convolution."""
    match = re.match(r"stages\.block_s(\d+)\.(\d+)\.(?:conv_list\.(\d)\.)?(?:([01])\.)?seq\.", name)
    assert match is not None  # noqa: S101 - the caller has asked `source`
    stride, block, convolution, part = match.groups()
    inside = "" if convolution is None else f"{block}." + ("downsample." if part == "0" else f"convs.{convolution}.")
    return f"stages.{_STRIDES[stride]:d}.{inside}{name[match.end() :]}"


def _split(name: str) -> tuple[tuple[int, ...], str]:
    """((stage,) or (stage, block), the rest) of one of our names."""
    match = re.match(r"stages\.(\d+)\.(?:(\d+)\.)?", name)
    assert match is not None  # noqa: S101 - the caller has asked `source`
    return tuple(int(number) for number in match.groups() if number is not None), name[match.end() :]


def _layers_from_stages(names: Collection[str]) -> dict[tuple[int, ...], int]:
    return {stage: layer for layer, stage in enumerate(sorted({_split(name)[0] for name in names}))}


def _stages_from_layers(names: Collection[str]) -> dict[int, str]:
    """Layer number in the flat list -> our "stages.S." or "stages.S.B.". A stage begins where a block halves the
    size."""
    halving = set(numbers(names, r"features\.(\d+)\.avd_layer\."))
    stages, stage, block = {}, -1, 0
    for layer in numbers(names, r"features\.(\d+)\."):
        if layer < 2:
            stages[layer], stage = f"stages.{layer:d}.", layer
            continue
        stage, block = (stage + 1, 0) if layer in halving else (stage, block + 1)
        stages[layer] = f"stages.{stage:d}.{block:d}."
    return stages
