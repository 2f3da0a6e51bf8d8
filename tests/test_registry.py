"""Registering adds our components to PaddleSeg and changes none that it has."""

import subprocess
import sys
import textwrap

import pytest

import ppliteseg_paddle
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.registry import COMPONENTS, add

OURS = sorted(target.split(":")[1] for targets in COMPONENTS.values() for target in targets)


def run(code):
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


SNAPSHOT = """
import cv2
def snapshot():
    from paddleseg.cvlibs import manager
    return {(n, k): id(v) for n in ("MODELS", "BACKBONES", "DATASETS", "TRANSFORMS", "LOSSES", "OPTIMIZERS")
            for k, v in getattr(manager, n).components_dict.items()}
"""


@pytest.mark.slow
def test_paddlesegs_own_components_stay_the_same_objects_and_ours_have_names_of_their_own():
    code = """
import paddleseg
before = snapshot()
import ppliteseg_paddle
assert snapshot() == before  # the import alone registers nothing
ppliteseg_paddle.register()
after = snapshot()
assert all(after[key] == value for key, value in before.items())
stand_ins = {target.split(":")[1] for targets in ppliteseg_paddle.registry.STAND_INS.values() for target in targets}
print(sorted(name for _, name in set(after) - set(before) if name not in stand_ins))
"""
    assert run(SNAPSHOT + code) == str(OURS)


@pytest.mark.slow
def test_register_brings_paddleseg_itself_and_our_classes_are_those_of_the_public_names():
    code = """
import ppliteseg_paddle, sys
assert "paddle" not in sys.modules and "paddleseg" not in sys.modules
ppliteseg_paddle.register()
from paddleseg.cvlibs import manager
assert manager.MODELS["PPLiteSegNet"] is ppliteseg_paddle.PPLiteSegNet
assert manager.MODELS["PPLiteSeg"].__module__ == "paddleseg.models.pp_liteseg"
assert manager.BACKBONES["STDC1"].__module__ == "paddleseg.models.backbones.stdcnet"
print("fine")
"""
    assert run(code) == "fine"


def test_registering_twice_changes_nothing():
    ppliteseg_paddle.register()
    from paddleseg.cvlibs import manager

    before = {name: dict(getattr(manager, name).components_dict) for name in COMPONENTS}
    ppliteseg_paddle.register()
    assert {name: getattr(manager, name).components_dict for name in COMPONENTS} == before


def test_a_name_held_by_another_package_is_not_overwritten(monkeypatch):
    from paddleseg.cvlibs import manager

    other = type("SPPM", (), {})
    monkeypatch.setitem(manager.MODELS.components_dict, "SPPM", other)
    with pytest.raises(RuntimeError, match="MODELS already holds another 'SPPM'"):
        ppliteseg_paddle.register()
    assert manager.MODELS["SPPM"] is other


def test_a_component_of_another_package_joins_the_table_once(monkeypatch):
    monkeypatch.setitem(COMPONENTS, "BACKBONES", COMPONENTS["BACKBONES"])
    before = COMPONENTS["BACKBONES"]
    for _ in range(2):
        add("BACKBONES", "their_package.nets:TheirNet")
    assert COMPONENTS["BACKBONES"] == (*before, "their_package.nets:TheirNet")


def test_an_unknown_registry_is_refused_with_the_near_name():
    with pytest.raises(ConfigError, match="registry 'BACKBONE' is unknown. Did you mean 'BACKBONES'"):
        add("BACKBONE", "their_package.nets:TheirNet")
