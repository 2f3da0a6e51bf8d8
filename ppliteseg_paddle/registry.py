"""Our components under PaddleSeg's names for them: one table, and `register()`, which adds them to its registries.

PaddleSeg's tools build our configurations after `ppliteseg_paddle.register()`:

    import ppliteseg_paddle
    ppliteseg_paddle.register()
    from paddleseg.cvlibs import Config, SegBuilder

A script that does not call it, such as PaddleSeg's own tools, is run by

    python -m ppliteseg_paddle.registry PaddleSeg/tools/train.py --config configs/camvid/ppliteseg_t_camvid_480x360.yml
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
from collections.abc import Sequence

from ppliteseg_paddle import environment
from ppliteseg_paddle.errors import ConfigError, suggest

# PaddleSeg registry -> our components, "module:class". No name is one of PaddleSeg's: its `PPLiteSeg`, `STDC1` and
# `STDC2` stay what they are.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "BACKBONES": ("ppliteseg_paddle.models.stdc:STDCNet813", "ppliteseg_paddle.models.stdc:STDCNet1446"),
    "MODELS": (
        "ppliteseg_paddle.models.pp_liteseg:PPLiteSegNet",
        "ppliteseg_paddle.models.sppm:SPPM",
        "ppliteseg_paddle.models.conv_neck:ConvNeck",
        "ppliteseg_paddle.models.fld:FLDHead",
    ),
    "LOSSES": ("ppliteseg_paddle.losses.cross_entropy:CELoss", "ppliteseg_paddle.losses.cross_entropy:OhemCELoss"),
    "TRANSFORMS": (
        "ppliteseg_paddle.data.transforms:FusedAugment",
        "ppliteseg_paddle.data.copy_paste:CopyPaste",
        "ppliteseg_paddle.data.rare_classes:RareClassCrop",
    ),
    "DATASETS": ("ppliteseg_paddle.data.dataset:CamVid", "ppliteseg_paddle.data.dataset:StreetScenes"),
}

# What a later PaddleSeg has under the same name: registered where the installed one has none.
STAND_INS = {"TRANSFORMS": ("ppliteseg_paddle.data.multilabel:AddMultiLabelAuxiliaryCategory",)}


def add(registry: str, target: str) -> None:
    """Add a component of another package to the table; `register()` hands it to PaddleSeg with ours.

    Args: registry: a key of `COMPONENTS`; target: "module:class". Adding it again changes nothing.
    Raises: ConfigError: if there is no such registry.
    """
    if registry not in COMPONENTS:
        raise ConfigError(f"registry '{registry}' is unknown.{suggest(registry, COMPONENTS)}")
    if target not in COMPONENTS[registry]:
        COMPONENTS[registry] += (target,)


def register() -> None:
    """Import paddleseg, add our components to its registries, and fix what fails with the installed Paddle.

    Imports Paddle first, as `environment.import_paddle` does. Calling it again changes nothing.

    Raises: ImportError: if paddleseg is not installed; RuntimeError: if another package holds one of our names
        (nothing is overwritten).
    Source: PaddleSeg `cvlibs/manager.py`.
    """
    environment.import_paddle()
    from paddleseg.cvlibs import manager

    from ppliteseg_paddle import compat

    for registry, targets in COMPONENTS.items():
        held = getattr(manager, registry).components_dict
        for target in targets:
            module, name = target.split(":")
            component = getattr(importlib.import_module(module), name)
            if name not in held:
                getattr(manager, registry).add_component(component)
            elif held[name] is not component:
                raise RuntimeError(
                    f"PaddleSeg's registry {registry} already holds another '{name}' ({held[name]!r}); "
                    "ppliteseg_paddle cannot register its own."
                )
    for registry, targets in STAND_INS.items():
        for target in targets:
            module, name = target.split(":")
            if name not in getattr(manager, registry).components_dict:
                getattr(manager, registry).add_component(getattr(importlib.import_module(module), name))
    compat.apply_paddleseg_fixes()


def run_script(path: str, arguments: Sequence[str]) -> None:
    """Run a Python script as `python path arguments` does, after `register()` and with what inference needs.

    Raises: ConfigError: if there is no such file; ImportError: without paddleseg; whatever the script raises.
    """
    if not os.path.isfile(path):
        raise ConfigError(f"{path} does not exist: give a script of PaddleSeg, as tools/train.py in a copy of it.")
    from ppliteseg_paddle import compat

    register()
    compat.apply_inference_fixes()
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    runpy.run_path(path, run_name="__main__")


def main(arguments: Sequence[str]) -> int:
    """`run_script` as a command. Returns: its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m ppliteseg_paddle.registry SCRIPT.py [ARGUMENT ...]")
        return 0 if arguments else 2
    try:
        run_script(arguments[0], arguments[1:])
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    from ppliteseg_paddle import registry  # components are added to the table there, not to this copy of it

    sys.exit(registry.main(sys.argv[1:]))
