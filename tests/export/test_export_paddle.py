import os

import numpy as np
import pytest
import yaml
from exported import (
    LABELS,
    TRANSFORMS,
    eager,
    export_folder,
    exported_predictor,
    few_ties,
    model,
    photograph,
    small_model,
)

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

pytestmark = pytest.mark.slow  # exports the whole model


def export(save_dir, net=None, **options):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    options = ExportOptions(**{"label_set": LABELS, "transforms": TRANSFORMS, **options})
    return export_model(net or small_model(), str(save_dir), options)


def test_the_report_says_what_was_written_and_how_it_compares(tmp_path):
    report = export(tmp_path / "export", check_image=photograph(96, 128), description={"config": "some.yml"})
    assert set(report["files"]) == set(os.listdir(tmp_path / "export"))
    graph = "inference.json" if "inference.json" in report["files"] else "inference.pdmodel"
    assert set(report["files"]) == {"deploy.yaml", graph, "inference.pdiparams"}
    assert report["input"]["dynamic"] and report["output"]["dtype"] == "uint8" and report["resize"] == []
    assert report["check"]["differing_pixels"] <= few_ties(96 * 128) and report["check"]["input_size"] == [96, 128]
    values = yaml.safe_load((tmp_path / "export" / "deploy.yaml").read_text("utf-8"))
    assert values["model"]["type"] == "Small" and values["model"]["config"] == "some.yml"
    assert values["check"] == report["check"]
    assert values["versions"].keys() == {"ppliteseg_paddle", "paddle", "python"}


def test_the_model_is_left_as_it_was(tmp_path):
    from ppliteseg_paddle import pp_liteseg_t

    net = pp_liteseg_t(num_classes=11)
    net.train()
    net.backbone.eval()  # as a trainer that freezes it does
    names = list(net.state_dict())
    export(tmp_path / "export", net, input_shape=(1, 3, 64, 96))
    assert net.training and not net.backbone.training and net.head.training
    assert list(net.state_dict()) == names and len(net.seg_heads) == 3


def test_auxiliary_heads_are_not_exported():
    from ppliteseg_paddle.deploy.artifact import Artifact

    artifact = Artifact.read(export_folder())
    size = os.path.getsize(artifact.path_of("paddle", "params"))
    whole = sum(4 * int(np.prod(array.shape)) for array in model().state_dict().values())
    auxiliary = sum(
        4 * int(np.prod(array.shape)) for head in model().seg_heads[1:] for array in head.state_dict().values()
    )
    assert abs(size - (whole - auxiliary)) < 20_000


def test_a_fixed_size_export_equals_the_model():
    from ppliteseg_paddle.export.compare import Original, compare

    size = (333, 517)  # the deepest map is 11x17: no bin size but 1 divides it
    predictor = exported_predictor((1, 3) + size)
    assert not predictor.artifact.input.dynamic
    check = compare(predictor, Original(model()), [photograph(*size)])
    assert check["differing_pixels"] <= 1e-4 and check["largest_margin"] <= 1e-5


def test_a_fixed_size_export_takes_images_of_other_sizes_by_resizing_them():
    predictor = exported_predictor((1, 3, 333, 517))
    assert predictor.artifact.preprocess.resize_policy == [
        {"type": "Resize", "target_size": [517, 333], "keep_ratio": False, "interp": "LINEAR"}
    ]
    mask = predictor.predict(photograph())
    assert mask.shape == (427, 640)
    assert np.mean(mask == eager().predict(photograph())) > 0.7  # another resolution, the same scene


def test_a_pipeline_that_ends_at_the_fixed_size_gets_no_second_resize(tmp_path):
    steps = [{"type": "Resize", "target_size": [128, 96]}, *TRANSFORMS]
    report = export(tmp_path / "export", transforms=steps, input_shape=[1, 3, 96, 128])
    assert [step["type"] for step in report["resize"]] == ["Resize"]
    mask = Predictor(tmp_path / "export").predict(photograph())
    assert mask.shape == (427, 640)


@pytest.mark.parametrize("output_op", ["softmax", "none"])
def test_scores_may_leave_the_graph_in_place_of_ids(tmp_path, output_op):
    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.export.eager import eager_predictor

    net = small_model()
    report = export(tmp_path / "export", net, output_op=output_op)
    assert report["output"]["op"] == output_op and report["output"]["dtype"] == "float32"
    assert report["check"]["max_difference"] < 1e-5
    predictor = Predictor(tmp_path / "export")
    batch, _ = predictor.preprocess(photograph(96, 128))
    scores = predictor.forward(batch)
    assert scores.shape == (1, 11, 96, 128) and scores.dtype == np.float32
    if output_op == "softmax":
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    expected = eager_predictor(net, LABELS, Preprocess(TRANSFORMS)).predict(photograph(96, 128))
    found = predictor.predict(photograph(96, 128))
    assert found.dtype == np.uint8 and np.mean(found != expected) <= 1e-3


def test_an_earlier_export_is_replaced_and_survives_a_failure(tmp_path):
    export(tmp_path / "export", input_shape=(1, 3, 64, 64))
    with pytest.raises(ConfigError, match="model has 11 classes.*'cityscapes' names 19"):
        export(tmp_path / "export", label_set=LABEL_SETS["cityscapes"])
    assert Predictor(tmp_path / "export").artifact.input.shape == (1, 3, 64, 64)
    export(tmp_path / "export")
    assert Predictor(tmp_path / "export").artifact.input.dynamic
    assert os.listdir(tmp_path) == ["export"]


def test_an_export_that_differs_from_the_model_is_not_written(tmp_path, monkeypatch):
    from ppliteseg_paddle.export import paddle as exporter

    original = exporter.inference_copy

    def damaged(net, artifact):
        form = original(net, artifact)
        form.model.classifier.weight.set_value(form.model.classifier.weight * -1.0)
        return form

    monkeypatch.setattr(exporter, "inference_copy", damaged)
    with pytest.raises(ArtifactError, match="differs from the trained one in .* was not written"):
        export(tmp_path / "export", check_image=photograph(96, 128))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "options, words",
    [
        ({"output_op": "argmin"}, "unknown output_op 'argmin'. Did you mean 'argmax'"),
        ({"input_shape": (1, 3, 64)}, r"input_shape is \[1, 3, 64\]; give N 3 H W"),
        ({"input_shape": (1, 4, 64, 64)}, "give N 3 H W"),
        ({"input_shape": (8, 3, 64, 64)}, "N 1 or -1"),
        ({"input_shape": (1, 3, 64, -1)}, "both"),
        ({"transforms": [{"type": "RandomDistort"}]}, "'RandomDistort' cannot be part"),
    ],
)
def test_an_argument_that_cannot_serve_is_refused_before_any_work(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        export(tmp_path / "export", **options)
    assert os.listdir(tmp_path) == []


def test_paddlesegs_own_model_is_exported_the_same_way(tmp_path):
    from paddleseg.models import PPLiteSeg
    from paddleseg.models.backbones import STDC1

    from ppliteseg_paddle.export.compare import Original, compare

    net = PPLiteSeg(11, STDC1())
    export(tmp_path / "export", net, check_image=photograph(96, 128))
    check = compare(Predictor(tmp_path / "export"), Original(net), [photograph(64, 80)])
    assert check["differing_pixels"] <= 1e-3 and check["largest_margin"] <= 1e-3
