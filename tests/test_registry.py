"""Importing us adds components to PaddleSeg and changes none that it has."""

import subprocess
import sys
import textwrap

import numpy as np
import paddle
import pytest


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


def test_paddlesegs_own_components_stay_the_same_objects_and_ours_have_names_of_their_own():
    assert run(
        SNAPSHOT
        + """
import paddleseg
before = snapshot()
import ppliteseg_paddle
after = snapshot()
assert all(after[key] == value for key, value in before.items())
print(sorted(name for _, name in set(after) - set(before)))
"""
    ) == str(
        sorted(
            [
                "PPLiteSegNet",
                "SPPM",
                "ConvNeck",
                "FLDHead",
                "STDCNet813",
                "STDCNet1446",
                "CELoss",
                "OhemCELoss",
                "CamVid",
                "StreetScenes",
                "FusedAugment",
            ]
        )
    )


def test_the_order_of_the_imports_does_not_matter():
    assert (
        run(
            SNAPSHOT
            + """
import ppliteseg_paddle, sys
assert "paddle" not in sys.modules and "paddleseg" not in sys.modules
from paddleseg.cvlibs import manager
assert manager.MODELS["PPLiteSegNet"] is ppliteseg_paddle.PPLiteSegNet
assert manager.MODELS["PPLiteSeg"].__module__ == "paddleseg.models.pp_liteseg"
assert manager.BACKBONES["STDC1"].__module__ == "paddleseg.models.backbones.stdcnet"
import paddleseg
print(type(paddleseg.__loader__).__name__, type(paddleseg.__spec__.loader).__name__)
"""
        )
        == "SourceFileLoader SourceFileLoader"
    )


def test_registering_twice_changes_nothing():
    from paddleseg.cvlibs import manager

    import ppliteseg_paddle

    before = dict(manager.MODELS.components_dict)
    ppliteseg_paddle.register()
    assert manager.MODELS.components_dict == before


def test_a_name_held_by_another_package_is_not_overwritten(monkeypatch):
    from paddleseg.cvlibs import manager

    import ppliteseg_paddle

    other = type("SPPM", (), {})
    monkeypatch.setitem(manager.MODELS.components_dict, "SPPM", other)
    with pytest.raises(RuntimeError, match="MODELS already holds another 'SPPM'"):
        ppliteseg_paddle.register()
    assert manager.MODELS["SPPM"] is other


def test_areas_equal_a_count_class_by_class(rng):
    from ppliteseg_paddle.compat import calculate_area

    pred = rng.integers(0, 6, (2, 1, 20, 30)).astype(np.int32)  # 5 is no class here
    label = rng.integers(0, 5, (2, 1, 20, 30))
    label[rng.random(label.shape) < 0.2] = 255
    label[rng.random(label.shape) < 0.05] = 77  # neither a class nor ignored
    known = label != 255
    expected = [
        [int(((pred == c) & (label == c)).sum()) for c in range(5)],
        [int(((pred == c) & known).sum()) for c in range(5)],
        [int((label == c).sum()) for c in range(5)],
    ]
    found = calculate_area(paddle.to_tensor(pred), paddle.to_tensor(label), 5, 255)
    assert [area.tolist() for area in found] == expected
    assert all(area.dtype == paddle.int64 for area in found)


def test_areas_of_maps_of_two_sizes_are_refused():
    from ppliteseg_paddle.compat import calculate_area

    with pytest.raises(ValueError, match=r"must have one shape, but are \[1, 2, 2\] and \[1, 2, 3\]"):
        calculate_area(paddle.zeros([1, 2, 2], "int32"), paddle.zeros([1, 2, 3], "int64"), 2)
