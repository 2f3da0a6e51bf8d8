"""`inference.yml` and the files beside it, for PaddleX and whatever else opens a graph of Paddle with one output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from exported import LABELS, TRANSFORMS, few_ties, photograph
from PIL import Image

from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.predictor import Predictor

pytestmark = pytest.mark.slow  # exports the whole model

PADDLESEGS = sorted(Path(os.environ.get("PPLITESEG_PADDLESEG_DIRS") or ".").glob("PaddleSeg-2.9*"))


def export(folder, **options):
    from ppliteseg_paddle import pp_liteseg_t
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    net = options.pop("net", None) or pp_liteseg_t(num_classes=LABELS.num_classes)
    return export_model(net, str(folder), ExportOptions(**{"label_set": LABELS, "transforms": TRANSFORMS, **options}))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "fixed"
    return folder, export(folder, input_shape=(1, 3, 64, 96))


def test_inference_yml_says_what_paddlex_needs(fixed):
    folder, report = fixed
    assert report["paddlex"] == "inference.yml"
    text = (folder / "inference.yml").read_text("utf-8")
    values = yaml.safe_load(text)
    assert values["Global"] == {"model_name": "PP-LiteSeg-T"} and "&" not in text
    resize, normalize = values["Deploy"]["transforms"]
    assert (resize["target_size"], resize["keep_ratio"], resize["size_divisor"]) == ([96, 64], False, None)
    assert normalize == TRANSFORMS[0]
    shapes = [[1, 3, 64, 96]] * 3
    backends = values["Hpi"]["backend_configs"]
    assert backends["paddle_infer"] == {"trt_dynamic_shapes": {"x": shapes}}
    assert backends["tensorrt"] == {"dynamic_shapes": {"x": shapes}}


def test_the_graph_for_others_has_one_output_and_gives_the_class_ids(fixed):
    from paddle import inference

    folder, _ = fixed
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))["Deploy"]
    assert deploy["params"] == "inference.pdiparams" and deploy["model"].startswith("inference.")
    files = yaml.safe_load((folder / "inference.yml").read_text("utf-8"))["Deploy"]
    assert (files["model"], files["params"]) == (deploy["model"], deploy["params"])
    config = inference.Config(str(folder / deploy["model"]), str(folder / deploy["params"]))
    config.disable_glog_info()
    session = inference.create_predictor(config)
    assert len(session.get_output_names()) == 1
    image = photograph(64, 96)
    mean, std = (np.array(TRANSFORMS[0][name]) for name in ("mean", "std"))
    given = np.ascontiguousarray(((image[..., ::-1] / 255 - mean) / std).transpose(2, 0, 1)[None], np.float32)
    session.get_input_handle(session.get_input_names()[0]).copy_from_cpu(given)
    session.run()
    mask = session.get_output_handle(session.get_output_names()[0]).copy_to_cpu()
    assert mask.shape == (1, 64, 96)
    assert np.mean(mask[0] == Predictor(folder, backend="paddle").predict(image)) > 0.999  # all but near-ties


@pytest.mark.skipif(
    not PADDLESEGS, reason="PPLITESEG_PADDLESEG_DIRS names no folder that holds an unpacked PaddleSeg 2.9"
)
@pytest.mark.parametrize("paddleseg", PADDLESEGS, ids=lambda path: path.name)
def test_paddlesegs_infer_py_writes_our_masks(paddleseg, fixed, tmp_path):
    folder, _ = fixed
    image = photograph(64, 96)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    command = [sys.executable, "-m", "ppliteseg_paddle.registry", str(paddleseg / "deploy" / "python" / "infer.py")]
    options = ["--config", str(folder / "deploy.yaml"), "--image_path", str(tmp_path / "photo.png"), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(paddleseg), *sys.path])}
    done = subprocess.run(
        [*command, *options, "--save_dir", str(tmp_path / "masks")], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Finish" in done.stdout, done.stdout[-1000:] + done.stderr[-1000:]
    mask = np.asarray(Image.open(tmp_path / "masks" / "photo.png"))
    expected = Predictor(folder, backend="paddle").predict(image)
    assert len(np.unique(expected)) > 2 and np.mean(mask != expected) <= few_ties(mask.size)


def test_the_graph_with_logits_shares_the_weights(fixed):
    folder, report = fixed
    assert [name for name in report["files"] if name.endswith(".pdiparams")] == ["inference.pdiparams"]
    artifact = Artifact.read(str(folder))
    assert artifact.graphs["paddle"]["model"].startswith("model.") and artifact.has_logits("paddle")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"output_op": "softmax"}, "it takes class ids, not --output_op softmax"),
        ({"transforms": [{"type": "Padding", "target_size": [256, 256]}, *TRANSFORMS]}, "it has no transforms Padding"),
        ({"test_config": {"aug_eval": True, "scales": 0.5}}, "it does not know test_config"),
    ],
)
def test_what_paddlex_cannot_do_is_said(options, reason, tmp_path):
    report = export(tmp_path / "export", **options)
    assert report["paddlex"].startswith(f"not written: {reason}")
    assert "inference.yml" not in report["files"] and "inference.pdiparams" in report["files"]


def test_another_network_is_not_called_pp_liteseg(tmp_path):
    from exported import small_model

    report = export(tmp_path / "export", net=small_model())
    assert report["paddlex"] == "not written: it knows no network Small"
