"""Which `test_config` cannot be part of an export, and what an export of an earlier version says of its masks."""

from __future__ import annotations

import shutil

import pytest
import yaml
from exported import LABELS, TRANSFORMS, photograph, small_folder

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ConfigError
from ppliteseg_paddle.export.options import ExportOptions

RESIZE = [{"type": "Resize", "target_size": [96, 64]}, *TRANSFORMS]
SLIDE = {"is_slide": True, "crop_size": [64, 48], "stride": [32, 24]}


@pytest.mark.parametrize(
    "test_config, options, words",
    [
        ({"aug_eval": True, "scales": [0.5, 1.0]}, {"input_shape": (1, 3, 64, 96)}, "scales .* drop --input_shape"),
        (SLIDE, {"input_shape": (1, 3, 64, 96)}, r"crop_size \[64, 48\] is the network's input"),
        (SLIDE, {"input_shape": (1, 3, 48, 64), "transforms": RESIZE}, "is_slide slides over the resized image"),
        (
            {"aug_eval": True, "flip_horizontal": True},
            {"preprocess_in_graph": True, "formats": ("onnx",)},
            "drop --preprocess_in_graph",
        ),
        ({"aug_eval": True, "flip_horizontal": True}, {"mask_resize": "nearest"}, "drop --mask_resize nearest"),
    ],
)
def test_what_cannot_be_part_of_an_export_is_refused_with_the_way_out(test_config, options, words):
    with pytest.raises(ConfigError, match=f"^test_config: .*{words}") as caught:
        ExportOptions(**{"label_set": LABELS, "transforms": TRANSFORMS, "test_config": test_config, **options})
    assert "--opts test_config.aug_eval=False" in str(caught.value) and "\n" not in str(caught.value)


def test_an_export_of_an_earlier_version_says_that_it_resizes_class_ids(tmp_path, caplog):
    folder = tmp_path / "export"
    shutil.copytree(small_folder("argmax"), folder)
    values = yaml.safe_load((folder / "deploy.yaml").read_text())
    for key in ("mask_resize", "logits"):
        values.pop(key, None)
    size = {"type": "Resize", "target_size": [96, 64]}
    values["Deploy"]["transforms"].insert(0, {**size, "keep_ratio": False, "interp": "LINEAR"})
    values["resize"] = Preprocess(values["Deploy"]["transforms"]).resize_policy
    (folder / "deploy.yaml").write_text(yaml.safe_dump(values))
    with caplog.at_level("WARNING", logger="ppliteseg_paddle"):
        predictor = Predictor(folder)
    assert predictor.mask_resize == "nearest"
    assert "returns class ids only (exported by an earlier version): they are resized" in caplog.text
    assert predictor.predict(photograph(128, 192)).shape == (128, 192)
