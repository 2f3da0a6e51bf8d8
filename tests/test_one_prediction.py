"""What `val` measures is what `predict` delivers: the mIoU counted from the written masks is `val`'s, for every
validation pipeline, by the configuration and from the exports."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from exported import LABELS, model, photograph, small_model
from tiny_data import values, write_config

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.views import ViewPlan
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine.val import evaluate
from ppliteseg_paddle.export import trained
from ppliteseg_paddle.export.describe import describe
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.export.pipeline import export_model

pytestmark = pytest.mark.slow

CLASSES = 11
SIZES = [(96, 128), (80, 150), (133, 97), (64, 200), (120, 120)]
NORMALIZE = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
SLIDE = {"is_slide": True, "crop_size": [64, 64], "stride": [48, 40]}
# name -> validation transforms, test_config
PIPELINES = {
    "plain": ([NORMALIZE], {}),
    "resize": ([{"type": "Resize", "target_size": [96, 64]}, NORMALIZE], {}),
    "ratio kept": (
        [{"type": "Resize", "target_size": [128, 96], "keep_ratio": True, "size_divisor": 32}, NORMALIZE],
        {},
    ),
    "long side": ([{"type": "ResizeByLong", "long_size": 100}, NORMALIZE], {}),
    "short side, limited": ([{"type": "ResizeByShort", "short_size": 72, "max_size": 130}, NORMALIZE], {}),
    "limited": ([{"type": "LimitLong", "max_long": 110}, NORMALIZE], {}),
    "padding": ([{"type": "Padding", "target_size": [200, 160]}, NORMALIZE], {}),
    "long side, padded": (
        [{"type": "ResizeByLong", "long_size": 96}, {"type": "Padding", "target_size": [96, 96]}, NORMALIZE],
        {},
    ),
    "aspect ratio": (
        [
            NORMALIZE,
            {"type": "PaddingByAspectRatio", "aspect_ratio": 1.5},
            {"type": "Resize", "target_size": [144, 96]},
        ],
        {},
    ),
    "one scale": ([NORMALIZE], {"aug_eval": True, "scales": 0.75}),
    "scales and flips": (
        [{"type": "ResizeByLong", "long_size": 120}, NORMALIZE],
        {"aug_eval": True, "scales": [0.75, 1.0], "flip_horizontal": True, "flip_vertical": True},
    ),
    "windows": ([NORMALIZE], SLIDE),
    "windows of resized, scaled and flipped images": (
        [{"type": "ResizeByShort", "short_size": 100}, NORMALIZE],
        {**SLIDE, "aug_eval": True, "scales": 1.25, "flip_horizontal": True},
    ),
}
WITHOUT_LOGITS = ("plain", "padding")  # class ids need no resizing
FORMATS = {"paddle": "paddle", "onnx": "onnxruntime", "openvino": "openvino"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Images of several sizes, with labels that have something to do with them, the last rows ignored."""
    from sklearn.datasets import load_sample_image

    folder, lines = tmp_path_factory.mktemp("data"), []
    for name in ("images", "labels"):
        (folder / name).mkdir()
    photographs = [load_sample_image(name)[:, :, ::-1] for name in ("china.jpg", "flower.jpg")]
    for i, (height, width) in enumerate(SIZES):
        part = photographs[i % 2][40 * i : 40 * i + 2 * height, 60 * i : 60 * i + 2 * width]
        image = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA)
        label = cv2.GaussianBlur(image, (0, 0), 3)[:, :, 1] // 24
        label[-5:] = 255
        cv2.imwrite(str(folder / f"images/{i}.png"), image)
        cv2.imwrite(str(folder / f"labels/{i}.png"), label)
        lines.append(f"images/{i}.png labels/{i}.png\n")
    for name in ("train.txt", "val.txt"):
        (folder / name).write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """T with logits beside the mask, and each graph opened: they are the same for all pipelines that need logits."""
    folder = str(tmp_path_factory.mktemp("export") / "export")
    options = ExportOptions(LABELS, PIPELINES["resize"][0], tuple(FORMATS), check_image=photograph(96, 128))
    export_model(model(), folder, options)
    artifact = Artifact.read(folder)
    return artifact, {form: open_backend(backend, artifact, "cpu") for form, backend in FORMATS.items()}


def config_of(root, tmp_path, name):
    transforms, test_config = PIPELINES[name]
    content = values(root, test_config=test_config)
    content["val_dataset"]["transforms"] = transforms
    content["model"]["neck"]["bin_sizes"] = [1, 2, 4]
    return build.load_config(write_config(tmp_path / "c.yml", content))


def measured_by_val(config):
    return evaluate(model(), build.build_val_dataset(config), progress=False, **config.test_config)["mIoU"]


def counted(masks, root):
    """mIoU of masks against the labels, class by class, as PaddleSeg counts it: an absent class has 0."""
    hit, predicted, labelled = (np.zeros(CLASSES) for _ in range(3))
    for i, mask in enumerate(masks):
        label = cv2.imread(str(root / f"labels/{i}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == label.shape and mask.dtype == np.uint8
        known = label != 255
        for c in range(CLASSES):
            hit[c] += np.sum((mask == c) & (label == c))
            predicted[c] += np.sum((mask == c) & known)
            labelled[c] += np.sum(label == c)
    return float(np.mean(hit / np.maximum(predicted + labelled - hit, 1)))


def masks_of(predictor, root):
    return predictor.predict_batch([str(root / f"images/{i}.png") for i in range(len(SIZES))])


@pytest.mark.parametrize("name", PIPELINES)
def test_the_masks_have_the_miou_that_val_reports(name, root, exported, tmp_path):
    config = config_of(root, tmp_path, name)
    measured = measured_by_val(config)
    by_config = masks_of(trained.trained_predictor(config, model(), False), root)
    assert len(np.unique(np.concatenate([mask.ravel() for mask in by_config]))) >= 6
    assert counted(by_config, root) == pytest.approx(measured, abs=1e-6)
    options = ExportOptions(LABELS, trained.val_transforms(config), tuple(FORMATS), test_config=config.test_config)
    described = describe(model(), options)
    assert (described.logits is None) == (name in WITHOUT_LOGITS)
    artifact, backends = exported
    for form, backend in backends.items():
        predictor = Predictor.of(replace(described, folder=artifact.folder, graphs=artifact.graphs), backend)
        masks = masks_of(predictor, root)
        assert counted(masks, root) == pytest.approx(measured, abs=1e-6), form
        assert sum(np.sum(a != b) for a, b in zip(masks, by_config)) <= 2, form  # near-ties


def test_class_ids_that_are_resized_are_others_along_borders(root, exported):
    artifact, backends = exported
    by_logits = masks_of(Predictor.of(artifact, backends["onnx"]), root)
    predictor = Predictor.of(artifact, backends["onnx"], mask_resize="nearest")
    assert predictor.mask_resize == "nearest"
    differing = [np.mean(a != b) for a, b in zip(masks_of(predictor, root), by_logits)]
    assert 0.002 < np.mean(differing) < 0.2


@pytest.mark.parametrize("name", ["scales and flips", "windows"])
def test_an_export_compares_itself_with_the_evaluation_and_keeps_its_test_config(name, root, tmp_path):
    config = config_of(root, tmp_path, name)
    net, (said, images) = small_model(CLASSES), trained.check_images(config)
    assert said.endswith("images/0.png and 2 more of the validation set") and len(images) == 3
    options = ExportOptions(
        LABELS, trained.val_transforms(config), ("onnx",), test_config=config.test_config, check_image=images
    )
    report = export_model(net, str(tmp_path / "export"), options)
    assert report["check"]["images"] == 3 and report["check"]["differing_pixels"] < 1e-4
    artifact = Artifact.read(str(tmp_path / "export"))
    assert artifact.views == ViewPlan.of(config.test_config) and report["test_config"] == artifact.views.to_dict()
    expected = trained.trained_predictor(config, net, False).predict(images[0])
    assert np.mean(Predictor(tmp_path / "export").predict(images[0]) != expected) < 1e-4
