"""What `val` measures is what `predict` delivers: the mIoU that scikit-learn counts from the written masks is `val`'s,
for every validation pipeline, by the configuration and from the exports."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from commands import values_of
from exported import CONVERTS, LABELS, model, photograph, small_model
from sklearn.metrics import confusion_matrix
from tiny_data import values, write_config

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.artifact import Artifact
from ppliteseg_paddle.deploy.backends import open_backend
from ppliteseg_paddle.deploy.predict_images import ImageRun, predict_images
from ppliteseg_paddle.deploy.sources import find_images
from ppliteseg_paddle.deploy.views import ViewPlan
from ppliteseg_paddle.engine import build
from ppliteseg_paddle.engine import val as evaluation
from ppliteseg_paddle.export import trained
from ppliteseg_paddle.export.describe import describe
from ppliteseg_paddle.export.options import ExportOptions
from ppliteseg_paddle.export.pipeline import export_model
from ppliteseg_paddle.synth import render_scene
from ppliteseg_paddle.visual.overlays import Overlays

pytestmark = pytest.mark.slow

CLASSES, IMAGES = 11, 20
SIZES = [(64, 96), (80, 66), (75, 100), (64, 128), (96, 81)]  # of four neighbors each, which share a batch
NEAR_TIE = 1e-5  # of the largest score: float sums in another order
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
    "long side": ([{"type": "ResizeByLong", "long_size": 90}, NORMALIZE], {}),
    "short side, limited": ([{"type": "ResizeByShort", "short_size": 72, "max_size": 110}, NORMALIZE], {}),
    "limited": ([{"type": "LimitLong", "max_long": 90}, NORMALIZE], {}),
    "padding": ([{"type": "Padding", "target_size": [128, 96]}, NORMALIZE], {}),
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
        [{"type": "ResizeByLong", "long_size": 64}, NORMALIZE],
        {"aug_eval": True, "scales": [0.75, 1.0], "flip_horizontal": True, "flip_vertical": True},
    ),
    "windows": ([NORMALIZE], SLIDE),
    "windows of resized, scaled and flipped images": (
        [{"type": "ResizeByShort", "short_size": 56}, NORMALIZE],
        {**SLIDE, "crop_size": [72, 72], "aug_eval": True, "scales": 1.25, "flip_horizontal": True},
    ),
}
WITHOUT_LOGITS = ("plain", "padding")  # class ids need no resizing
FORMATS = {"paddle": "paddle", **({"onnx": "onnxruntime", "openvino": "openvino"} if CONVERTS else {})}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Street scenes of several sizes."""
    folder, lines = tmp_path_factory.mktemp("data"), []
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for i in range(IMAGES):
        height, width = SIZES[i // 4]
        image, label = render_scene(i, (width, height))
        cv2.imwrite(str(folder / f"images/{i:02d}.png"), image)
        cv2.imwrite(str(folder / f"labels/{i:02d}.png"), label)
        lines.append(f"images/{i:02d}.png labels/{i:02d}.png\n")
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


def measured_by_val(config, monkeypatch):
    """The mIoU, and each image's classes (H, W) and how near their runner-up is (H, W), as a part of the largest
    score."""
    inference, seen = evaluation._inference, []

    def recording(options):
        def predict(*args, **kwargs):
            pred, logits = inference(options)(*args, **kwargs)
            for ids, scores in zip(pred.numpy(), logits.numpy()):
                best = np.sort(scores, axis=0)
                seen.append((ids.reshape(scores.shape[1:]), (best[-1] - best[-2]) / np.abs(scores).max()))
            return pred, logits

        return predict

    monkeypatch.setattr(evaluation, "_inference", recording)
    options = {"batch_size": 4, "progress": False, **config.test_config}
    return evaluation.evaluate(model(), build.build_val_dataset(config), **options)["mIoU"], seen


def counted(masks, root):
    """mIoU of masks against the labels by scikit-learn's matrix; a class that does not occur has 0, as in PaddleSeg.
    With it: how much of it hangs on one pixel."""
    matrix = np.zeros((CLASSES, CLASSES))
    for i, mask in enumerate(masks):
        label = cv2.imread(str(root / f"labels/{i:02d}.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == label.shape and mask.dtype == np.uint8
        matrix += confusion_matrix(label[label != 255], mask[label != 255], labels=range(CLASSES))
    hit = matrix.diagonal()
    either = matrix.sum(axis=0) + matrix.sum(axis=1) - hit
    return np.mean(hit / np.maximum(either, 1)), 2 / CLASSES / either[either > 0].min()


def masks_of(predictor, root, out):
    """What `predict` writes."""
    run = ImageRun(str(out), ("mask",))
    report = predict_images(find_images(str(root / "images"), str(out)), lambda: (predictor, Overlays(LABELS)), run)
    assert report["images"] == IMAGES
    return [values_of(out / f"mask/{i:02d}.png")[0] for i in range(IMAGES)]


@pytest.mark.parametrize("name", PIPELINES)
def test_the_masks_have_the_miou_that_val_reports(name, root, exported, tmp_path, monkeypatch):
    config = config_of(root, tmp_path, name)
    measured, seen = measured_by_val(config, monkeypatch)
    options = ExportOptions(LABELS, trained.val_transforms(config), tuple(FORMATS), test_config=config.test_config)
    described = describe(model(), options)
    assert (described.logits is None) == (name in WITHOUT_LOGITS)
    artifact, backends = exported
    described = replace(described, folder=artifact.folder, graphs=artifact.graphs)
    predictors = {"config": trained.trained_predictor(config, model(), False, batch_size=4)}
    predictors.update((form, Predictor.of(described, backend, batch_size=4)) for form, backend in backends.items())
    for form, predictor in predictors.items():
        masks = masks_of(predictor, root, tmp_path / form)
        ties = 0
        for mask, (ids, margins) in zip(masks, seen):
            assert margins[mask != ids].max(initial=0) < NEAR_TIE, form
            ties += np.sum(mask != ids)
        miou, of_one_pixel = counted(masks, root)
        assert ties <= 3, form
        assert miou == pytest.approx(measured, abs=1e-6 + ties * of_one_pixel), form
    assert measured > 0.02 and len(np.unique(np.concatenate([mask.ravel() for mask in masks]))) >= 6


def test_class_ids_that_are_resized_are_others_along_borders(root, exported, tmp_path):
    artifact, backends = exported
    by_logits = masks_of(Predictor.of(artifact, backends["paddle"]), root, tmp_path / "logits")
    predictor = Predictor.of(artifact, backends["paddle"], mask_resize="nearest")
    assert predictor.mask_resize == "nearest"
    differing = [np.mean(a != b) for a, b in zip(masks_of(predictor, root, tmp_path / "ids"), by_logits)]
    assert 0.002 < np.mean(differing) < 0.2


@pytest.mark.parametrize("name", ["scales and flips", "windows"])
def test_an_export_compares_itself_with_the_evaluation_and_keeps_its_test_config(name, root, tmp_path):
    config = config_of(root, tmp_path, name)
    net, (said, images) = small_model(CLASSES), trained.check_images(config)
    assert said.endswith("images/00.png and 2 more of the validation set") and len(images) == 3
    options = ExportOptions(
        LABELS, trained.val_transforms(config), ("onnx",), test_config=config.test_config, check_image=images
    )
    report = export_model(net, str(tmp_path / "export"), options)
    assert report["check"]["images"] == 3 and report["check"]["differing_pixels"] < 1e-4
    artifact = Artifact.read(str(tmp_path / "export"))
    assert artifact.views == ViewPlan.of(config.test_config) and report["test_config"] == artifact.views.to_dict()
    expected = trained.trained_predictor(config, net, False).predict(images[0])
    assert np.mean(Predictor(tmp_path / "export").predict(images[0]) != expected) < 1e-4
