"""Multi-label: a pixel of several classes, from `data check` to the masks of every export."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from commands import run_json, write_video
from exported import CONVERTS
from multilabel import CLASSES, make_multilabel, multilabel_config, planes_of
from tiny_network import TINY_MODEL

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.video import VideoReader
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.export.trained import load_model, trained_predictor
from ppliteseg_paddle.reading.planes import read_planes

FORMATS = ["paddle", "onnx", "openvino"] if CONVERTS else ["paddle"]
BACKENDS = {"paddle": "paddle", "onnx": "onnxruntime", "openvino": "openvino"}
RESIZE = [{"type": "Resize", "target_size": [96, 80]}, {"type": "Normalize"}]


def mean_iou(masks):
    """Counted by hand: of each class the pixels in both over the pixels in either."""
    truths = [planes_of(i) for i in range(len(masks))]
    both = sum((mask & truth).sum(axis=(0, 1)) for mask, truth in zip(masks, truths))
    either = sum((mask | truth).sum(axis=(0, 1)) for mask, truth in zip(masks, truths))
    return float((both / either).mean())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Configuration and weights, by the commands."""
    folder = tmp_path_factory.mktemp("multilabel")
    config = multilabel_config(make_multilabel(folder / "data"), folder / "c.yml")
    assert main(["data", "check", "--config", config, "--num_workers", "0"]) == 0
    out = ["--save_dir", str(folder / "out"), "--do_eval", "--save_interval", "30", "--device", "cpu", "--seed", "1"]
    assert main(["train", "--config", config, *out]) == 0
    return folder, config, str(folder / "out" / "iter_30" / "model.pdparams")


@pytest.mark.slow
def test_training_learns_classes_that_overlap(trained):
    record = json.loads((trained[0] / "out" / "train.json").read_text())
    assert record["eval"][-1]["mIoU"] > 0.4
    assert record["train"][-1]["loss"] < record["train"][0]["loss"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "formats, transforms, test_config",
    [
        (FORMATS, RESIZE, {}),
        (["paddle"], [{"type": "Normalize"}], {}),
        (["paddle"], RESIZE, {"aug_eval": True, "scales": [0.75, 1.0], "flip_horizontal": True}),
        (["paddle"], [{"type": "Normalize"}], {"is_slide": True, "crop_size": [48, 48], "stride": [32, 40]}),
    ],
    ids=["resized", "plain", "flipped", "windows"],
)
def test_the_masks_have_the_miou_that_val_reports(formats, transforms, test_config, trained, tmp_path, capsys):
    folder, config, weights = trained
    content = yaml.safe_load(Path(config).read_text())
    content["val_dataset"]["transforms"], content["test_config"] = transforms, {**test_config, "use_multilabel": True}
    Path(tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    model = ["--config", tmp_path / "c.yml", "--model_path", weights, "--device", "cpu"]
    images = ["--image_path", folder / "data" / "images"]
    _, val = run_json(capsys, "val", *model)
    assert 0.4 < val["mIoU"] < 1 and val["class_names"] == list(CLASSES)
    kinds = ["--outputs", "mask", "overlay", "color", "confidence"]
    assert run_json(capsys, "predict", *model, *images, "--save_dir", tmp_path / "p", *kinds)[0] == 0
    masks = [read_planes(str(tmp_path / "p" / "mask" / f"{i}.png"), 3, planes_of(i).shape[:2]) for i in range(8)]
    assert mean_iou(masks) == pytest.approx(val["mIoU"], abs=1e-6)
    _, report = run_json(capsys, "export", *model, "--save_dir", tmp_path / "e", "--format", *formats)
    assert (report["output"]["op"], report["check"]["differing_pixels"]) == ("sigmoid", pytest.approx(0, abs=1e-4))
    for backend in (BACKENDS[name] for name in formats):
        predictor = Predictor(tmp_path / "e", backend)
        found = predictor.predict_batch([str(folder / "data" / "images" / f"{i}.png") for i in range(8)])
        assert mean_iou(found) == pytest.approx(val["mIoU"], abs=1e-6), backend
        assert sum((a != b).sum() for a, b in zip(found, masks)) <= 2, backend  # near-ties
    mask, confidence = predictor.predict_with_confidence(str(folder / "data" / "images" / "0.png"))
    assert (mask.shape, mask.dtype, confidence.dtype) == ((64, 96, 3), np.uint8, np.float32)
    np.testing.assert_array_equal(mask, confidence > 0.5)
    written = cv2.imread(str(tmp_path / "p" / "confidence" / "0.png"))
    assert written.shape == (64, 3 * 96, 3)


@pytest.mark.slow
def test_frames_of_a_video_have_planes_too(trained, tmp_path, capsys):
    _, config, weights = trained
    model = ["--config", config, "--model_path", weights, "--device", "cpu"]
    video = write_video(tmp_path / "v.avi", 3, 48, 64)
    kinds = ["mask", "overlay", "color", "confidence"]
    out = ["--save_dir", tmp_path / "p", "--outputs", *kinds]
    status, result = run_json(capsys, "predict", *model, "--image_path", video, *out)
    assert (status, result["frames"], list(result["outputs"])) == (0, 3, kinds)
    for kind, width in (("overlay", 64), ("color", 64), ("confidence", 3 * 64)):
        with VideoReader(tmp_path / "p" / kind / "v.avi") as written:
            assert (written.size, written.frame_count) == ((width, 48), 3), kind
    config = build.load_config(config)
    predictor = trained_predictor(config, load_model(config, weights, "cpu"), False)
    with VideoReader(video) as frames:
        for i, frame in enumerate(frames):
            found = read_planes(str(tmp_path / "p" / "mask" / "v" / f"{i:06d}.png"), 3, (48, 64))
            planes = predictor.predict(frame)
            assert (found != planes).mean() < 1e-3 and 0 < planes.mean() < 1


@pytest.mark.slow
def test_planes_can_be_resized_themselves(trained, tmp_path, capsys):
    folder, config, weights = trained
    model = ["--config", config, "--model_path", weights, "--device", "cpu"]
    size = ["--input_shape", 1, 3, 64, 64, "--mask_resize", "nearest", "--output_op", "none"]
    status, _ = run_json(capsys, "export", *model, "--save_dir", tmp_path / "e", "--format", FORMATS[-1], *size)
    mask = Predictor(tmp_path / "e").predict(str(folder / "data" / "images" / "0.png"))
    assert (status, mask.shape, set(np.unique(mask))) == (0, (64, 96, 3), {0, 1})


@pytest.mark.slow
def test_the_flag_of_paddleseg_takes_the_place_of_the_key(trained, tmp_path, capsys):
    folder, config, weights = trained
    content = yaml.safe_load(Path(config).read_text())
    content.pop("test_config")
    Path(tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    model = ["--config", tmp_path / "c.yml", "--model_path", weights, "--device", "cpu"]
    assert main(["val", *map(str, model)]) == 2
    error = capsys.readouterr().err
    assert "If it holds a plane of 0 and 1 for each class, set test_config.use_multilabel" in error
    assert run_json(capsys, "val", *model, "--use_multilabel")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, said",
    [
        (["export", "--output_op", "argmax"], "--output_op argmax takes one class a pixel"),
        (["export", "--output_op", "softmax"], "--output_op softmax takes one class a pixel"),
        (["export", "--preprocess_in_graph", "--format", "onnx"], "--preprocess_in_graph is for masks of one class"),
        (
            ["export", "--precision", "int8", "--format", "onnx", "--calib_data", "{folder}/data/train.txt"],
            "--precision int8 chooses its layers by masks of one class a pixel",
        ),
        (
            ["predict", "--unknown_below", "0.5", "--image_path", "{folder}/data/images"],
            "unknown_below is for one class",
        ),
        (
            ["predict", "--format", "cityscapes", "--image_path", "{folder}/a_000000_000000_leftImg8bit.png"],
            "--format cityscapes takes one class a pixel",
        ),
    ],
    ids=lambda value: "-".join(value[:3]) if isinstance(value, list) else "",
)
def test_what_takes_one_class_a_pixel_is_refused_in_one_line(arguments, said, trained, tmp_path, capsys):
    folder, config, weights = trained
    cv2.imwrite(str(folder / "a_000000_000000_leftImg8bit.png"), np.zeros((32, 64, 3), np.uint8))
    command = [argument.format(folder=folder) for argument in arguments]
    command += ["--config", config, "--model_path", weights, "--save_dir", str(tmp_path / "o"), "--device", "cpu"]
    capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert said in error and len([line for line in error.splitlines() if line.startswith("error")]) == 1
    assert not (tmp_path / "o" / "deploy.yaml").exists()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"loss": {"types": [{"type": "CELoss"}], "coef": [1, 0.5, 0.5]}}, "CELoss takes one class a pixel"),
        (
            {
                "loss": {
                    "types": [{"type": "MixedLoss", "losses": [{"type": "DiceLoss"}], "coef": [1]}],
                    "coef": [1, 0.5, 0.5],
                }
            },
            "DiceLoss takes one class a pixel",
        ),
        ({"test_config": {"use_multilabel": True, "auc_roc": True}}, "auc_roc exclude each other"),
    ],
)
def test_a_loss_or_a_curve_of_one_class_a_pixel_is_refused_before_the_start(changes, said, tmp_path, capsys):
    config = multilabel_config(make_multilabel(tmp_path / "data", 2), tmp_path / "c.yml", **changes)
    assert main(["train", "--config", config, "--save_dir", str(tmp_path / "o"), "--device", "cpu"]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "o").exists()


@pytest.mark.slow
def test_paddlesegs_mix_and_its_class_of_the_rest_train(tmp_path, capsys):
    """`LovaszHingeLoss` of two planes, and `AddMultiLabelAuxiliaryCategory`, which PaddleSeg 2.8 lacks."""

    def first_only(path, planes):
        cv2.imwrite(str(path), planes[..., 2])
        return path

    make_multilabel(tmp_path / "data", 4, write=first_only)
    (tmp_path / "data" / "classes.txt").write_text("none\nround\n")
    mix = {"type": "MixedLoss", "losses": [{"type": "BCELoss"}, {"type": "LovaszHingeLoss"}], "coef": [0.5, 0.5]}
    loss = {"types": [mix], "coef": [1, 0.5, 0.5]}
    content = yaml.safe_load(Path(multilabel_config(tmp_path / "data", tmp_path / "c.yml", loss=loss)).read_text())
    content["model"] = {**TINY_MODEL, "num_classes": 2}
    for mode in ("train", "val"):
        steps = [{"type": "AddMultiLabelAuxiliaryCategory"}, {"type": "Normalize"}]
        steps += [{"type": "Resize", "target_size": [64, 64]}] if mode == "train" else []
        content[f"{mode}_dataset"].update(num_classes=2, transforms=steps)
    Path(tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    config = ["--config", tmp_path / "c.yml"]
    _, checked = run_json(capsys, "data", "check", *config, "--num_workers", 0)
    shares = [row["share"] for row in checked["splits"]["train"]["classes"]]
    assert sum(shares) == pytest.approx(1)
    size = ["--iters", 20, "--save_interval", 20, "--do_eval", "--save_dir", tmp_path / "o", "--device", "cpu"]
    status, result = run_json(capsys, "train", *config, *size)
    assert status == 0 and result["best_mIoU"] > 0.2
