import functools
import os

import numpy as np
import pytest
from exported import (
    LABELS,
    TRANSFORMS,
    Pooled,
    eager,
    export_formats,
    few_ties,
    model,
    needs_converter,
    photograph,
    small_model,
)

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.deploy.runtimes import RUNTIMES, readers
from ppliteseg_paddle.errors import ArtifactError, ConfigError, DependencyError
from ppliteseg_paddle.export.formats import missing

pytestmark = pytest.mark.slow  # exports the whole model

on_every_reader = pytest.mark.parametrize("backend", [name for name in readers("onnx") if RUNTIMES[name].installed])
RESIZED = [{"type": "Resize", "target_size": [128, 96]}, *TRANSFORMS]


def export(save_dir, net=None, **options):
    from ppliteseg_paddle.export.options import ExportOptions
    from ppliteseg_paddle.export.pipeline import export_model

    return export_model(
        net or small_model(),
        str(save_dir),
        ExportOptions(
            **{
                "formats": ("onnx",),
                "label_set": LABELS,
                "transforms": TRANSFORMS,
                "check_image": photograph(96, 128),
                **options,
            }
        ),
    )


@functools.cache
def predictor(backend, input_shape=None, preprocess_in_graph=False):
    return Predictor(export_formats(input_shape, preprocess_in_graph), backend, num_threads=2)


def assert_equals_the_model(exported, size):
    from ppliteseg_paddle.export.compare import Original, compare

    check = compare(exported, Original(model()), [photograph(*size)])
    assert check["differing_pixels"] <= few_ties(np.prod(size)) and check["largest_margin"] <= 1e-5
    assert exported.predict(photograph(*size)).shape == size


@needs_converter
@on_every_reader
@pytest.mark.parametrize("size", [(333, 517), (64, 64), (97, 211)], ids=str)
def test_one_dynamic_export_equals_the_model_at_every_size(backend, size):
    assert_equals_the_model(predictor(backend), size)


@needs_converter
@on_every_reader
def test_a_batch_gives_each_images_own_mask(backend):
    images = [photograph(96, 128), photograph(96, 128)[:, ::-1]]
    batch = np.concatenate([predictor(backend).preprocess(image)[0] for image in images])
    masks = predictor(backend).forward(batch)
    assert masks.shape == (2, 96, 128) and masks.dtype == np.uint8
    for mask, image in zip(masks, images):
        assert np.mean(mask != eager().predict(image)) <= few_ties(mask.size)


@needs_converter
@on_every_reader
@pytest.mark.parametrize("size", [(333, 517), (120, 80)], ids=str)
def test_a_graph_that_preprocesses_takes_images_as_they_are(backend, size):
    exported = predictor(backend, (1, 3, 333, 517), True)
    batch, undo = exported.preprocess(photograph(*size))
    assert batch.dtype == np.uint8 and batch.shape == (1,) + size + (3,) and undo == []
    assert exported.forward(batch).shape == (1,) + size
    assert_equals_the_model(exported, size)  # an odd fixed size: the deepest map is 11x17


@needs_converter
def test_the_file_holds_no_batch_normalisation_and_only_standard_operators():
    import onnx

    graph = onnx.load(os.path.join(export_formats(), "model.onnx"))
    operators = {node.op_type for node in graph.graph.node}
    assert "Conv" in operators and not operators & {"BatchNormalization", "Identity"}
    assert [opset.domain for opset in graph.opset_import] == [""]
    onnx.checker.check_model(graph)
    mask = graph.graph.output[0]
    assert mask.name == "mask" and mask.type.tensor_type.elem_type == onnx.TensorProto.UINT8


@needs_converter
def test_formats_share_a_folder_and_each_is_compared(tmp_path):
    report = export(
        tmp_path / "export", formats=("paddle", "onnx", "openvino"), preprocess_in_graph=True, transforms=RESIZED
    )
    assert set(report["files"]) >= {"deploy.yaml", "model.onnx", "model.xml", "model.bin", "inference.pdiparams"}
    assert set(report["check"]["formats"]) == {"paddle", "onnx", "openvino"}
    for check in report["check"]["formats"].values():
        assert check["differing_pixels"] <= 1e-3 and check["max_difference"] < 1e-3
    masks = [
        Predictor(tmp_path / "export", name).predict(photograph(150, 201))
        for name in ("paddle", "onnxruntime", "openvino")
    ]
    assert masks[0].shape == (150, 201)
    assert all(np.mean(mask != masks[0]) <= 1e-3 for mask in masks[1:])


@needs_converter
@pytest.mark.parametrize("output_op", ["softmax", "none"])
def test_scores_may_leave_a_graph_that_resizes(tmp_path, output_op):
    net = small_model()
    report = export(tmp_path / "export", net, output_op=output_op, preprocess_in_graph=True, transforms=RESIZED)
    assert report["check"]["max_difference"] < 1e-4
    exported = Predictor(tmp_path / "export")
    scores = exported.forward(exported.preprocess(photograph(150, 201))[0])
    assert scores.shape == (1, 11, 150, 201) and scores.dtype == np.float32
    if output_op == "softmax":
        np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def openvino_release():
    from importlib.metadata import version

    return int(version("openvino").split(".")[0])


@needs_converter
def test_auto_takes_the_first_row_that_works_and_openvino_reads_onnx_files_too(tmp_path):
    export(tmp_path / "export")
    exported = Predictor(tmp_path / "export")
    assert exported.backend.name == "onnxruntime" and exported.backend.describe()["num_threads"] >= 1
    if openvino_release() < 2026:  # the newest for Python 3.9; it cannot resize with channels last where sizes are open
        with pytest.raises(
            ArtifactError, match="OpenVINO 202.* cannot run .*model.onnx.*Install openvino 2026 or later"
        ):
            Predictor(tmp_path / "export", "openvino")
        return
    other = Predictor(tmp_path / "export", "openvino", num_threads=1)
    assert other.backend.describe()["graph"] == "onnx" and other.backend.describe()["num_threads"] == 1
    assert np.mean(other.predict(photograph(96, 128)) != exported.predict(photograph(96, 128))) <= 1e-3
    with pytest.raises(
        ArtifactError, match="no paddle graph, which the backend 'paddle' needs .it holds: onnx.. Export it with "
    ):
        Predictor(tmp_path / "export", "paddle")
    with pytest.raises(DependencyError, match="'openvino' runs on the CPU only"):
        Predictor(tmp_path / "export", "openvino", device="gpu:0")
    (tmp_path / "export" / "model.onnx").write_bytes(b"\x12\x08no graph")
    artifact = other.artifact
    artifact.write()
    for name, runtime in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        with pytest.raises(ArtifactError, match=runtime + " .* cannot run .*model.onnx"):
            Predictor(tmp_path / "export", name)


@needs_converter
def test_an_export_that_differs_is_not_written(tmp_path, monkeypatch):
    from ppliteseg_paddle.export import onnx_graph

    original = onnx_graph.finish

    def damaged(graph, *rest):
        from onnx import helper

        name = graph.graph.output[0].name
        graph.graph.node.append(helper.make_node("Neg", [name], ["negative"]))
        graph.graph.output[0].name = "negative"
        return original(graph, *rest)

    monkeypatch.setattr(onnx_graph, "finish", damaged)
    with pytest.raises(ArtifactError, match="differs from the trained one in .* was not written"):
        export(tmp_path / "export")
    assert os.listdir(tmp_path) == []


@needs_converter
@pytest.mark.own_converter
def test_an_operator_without_an_onnx_form_is_reported_on_one_line(tmp_path):
    from paddleseg.models import PPLiteSeg
    from paddleseg.models.backbones import STDC1

    with pytest.raises(ConfigError, match="pools adaptively.*give --input_shape 1 3 H W"):
        export(tmp_path / "export", PPLiteSeg(11, STDC1()))
    assert os.listdir(tmp_path) == []


@needs_converter
@pytest.mark.own_converter
@pytest.mark.skipif(
    not hasattr(os, "fork"), reason="this system does not fork, so that all conversions are of this kind"
)
def test_the_converter_of_all_other_tests_answers_as_this_one_does(tmp_path):
    import paddle
    from converter import run_converter

    from ppliteseg_paddle.export import convert

    class Unknown(paddle.nn.Layer):
        def forward(self, x):
            return paddle.linalg.eigvalsh(x)

    for name, network, shape in (("known", paddle.nn.Conv2D(3, 2, 3), [1, 3, 8, 8]), ("unknown", Unknown(), [4, 4])):
        paddle.jit.save(network, str(tmp_path / name), input_spec=[paddle.static.InputSpec(shape)])
        statuses, files = [], []
        for number, run in enumerate((convert.run_converter, run_converter)):
            files.append(tmp_path / f"{name}_{number}.onnx")
            graph, weights = (str(tmp_path / f"{name}.{end}") for end in ("json", "pdiparams"))
            status, said = run(graph, weights, str(files[-1]))
            statuses.append((status, "the conversion is aborted" in said))
        assert statuses[0] == statuses[1] == ((0, False) if name == "known" else (-6, True))
        assert len({file.read_bytes() if file.exists() else b"" for file in files}) == 1


@needs_converter
@pytest.mark.parametrize("formats", [("onnx", "paddle"), ("paddle", "openvino")], ids=lambda names: names[0])
def test_a_format_that_cannot_be_made_does_not_lose_the_others(tmp_path, formats):
    report = export(tmp_path / "export", Pooled(11), formats=formats, preprocess_in_graph=True)
    (other,) = set(formats) - {"paddle"}
    assert report["formats"] == ["paddle"] and list(report["failed"]) == [other]
    assert "give --input_shape 1 3 H W" in report["failed"][other] and report["image_input"] is None
    assert not any(name.startswith("model.") for name in os.listdir(tmp_path / "export"))
    assert Predictor(tmp_path / "export").predict(photograph(64, 96)).shape == (64, 96)


@needs_converter
def test_the_command_names_a_format_that_is_missing_and_ends_with_status_2(tmp_path, monkeypatch, capsys):
    from ppliteseg_paddle.cli.main import main
    from ppliteseg_paddle.export import run

    report = {**export(tmp_path / "export"), "failed": {"openvino": "an operator is missing."}}
    report["check"]["image"] = "an image"
    monkeypatch.setattr(run, "export", lambda *given, **options: report)
    status = main(["export", "--config", "c.yml", "--model_path", "w.pdparams", "--save_dir", str(tmp_path / "o")])
    out, err = capsys.readouterr()
    assert status == 2 and "exported    " in out
    assert err.strip().splitlines()[-1] == "error: openvino is not written: an operator is missing."


@pytest.mark.parametrize(
    "options, words",
    [
        ({"formats": ("onx",)}, "unknown format 'onx'. Did you mean 'onnx'"),
        ({"formats": ()}, "no format is given"),
        ({"formats": ("paddle",), "preprocess_in_graph": True}, "for the formats onnx, openvino and tensorrt"),
    ],
)
def test_an_argument_that_cannot_serve_is_refused_before_any_work(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        export(tmp_path / "export", **options)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "step",
    [
        {"type": "ResizeByLong", "long_size": 128},
        {"type": "Padding", "target_size": [512, 512]},
        {"type": "Resize", "target_size": [64, 64], "interp": "CUBIC"},
    ],
    ids=lambda step: step["type"],
)
def test_a_step_without_a_form_inside_a_graph_is_refused(step):
    from ppliteseg_paddle.deploy.preprocess import Preprocess
    from ppliteseg_paddle.export.onnx_graph import check_preprocess

    with pytest.raises(ConfigError, match=f"preprocess_in_graph takes Normalize, and Resize.*{step['type']}"):
        check_preprocess(Preprocess([step, *TRANSFORMS]))


def test_a_missing_converter_is_named_with_its_install_command(tmp_path, monkeypatch):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "paddle2onnx" else find(name, *rest)
    )
    with pytest.raises(
        DependencyError, match="needs paddle2onnx, which is not installed. Install it with: pip install '.*deploy"
    ):
        export(tmp_path / "export")


@pytest.mark.parametrize(
    "python, words", [((3, 12), "pip install '.[cpu,deploy]'"), ((3, 13), "in an environment of Python 3.9 to 3.12")]
)
def test_where_the_converter_has_no_build_no_command_is_named_that_cannot_work(python, words):
    assert words in str(missing("onnx", "paddle2onnx", python))


def test_a_paddle_too_old_for_the_converter_is_named(monkeypatch):
    from ppliteseg_paddle.export import formats

    monkeypatch.setattr(formats, "paddle_version", lambda: (2, 6, 2))
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name, *rest: name)
    formats.check_installed(["paddle"])
    with pytest.raises(DependencyError, match="needs Paddle 3 or later.*installed is 2.6.2"):
        formats.check_installed(["onnx"])


@needs_converter
def test_an_artifact_predicts_where_paddle_and_paddleseg_are_not_installed(tmp_path):
    import subprocess
    import sys

    import cv2

    cv2.imwrite(str(tmp_path / "photo.png"), photograph(64, 96))
    code = """
import sys
for name in ("paddle", "paddleseg", "paddle2onnx", "onnx"):
    sys.modules[name] = None  # importing it raises, as if it were not there
from ppliteseg_paddle import Predictor
for backend in ("onnxruntime", "openvino", "auto"):
    assert Predictor(sys.argv[1], backend).predict(sys.argv[2]).shape == (64, 96)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, export_formats(), str(tmp_path / "photo.png")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""


@needs_converter
def test_resizing_with_the_channels_last_gives_the_same_mask(tmp_path, monkeypatch):
    from ppliteseg_paddle.export import onnx_graph

    export(tmp_path / "fast")
    monkeypatch.setattr(onnx_graph, "_resize_channels_last", lambda graph, nodes, logits: "")
    export(tmp_path / "plain")
    for size in ((96, 128), (61, 83)):
        masks = [Predictor(tmp_path / name, "onnxruntime").predict(photograph(*size)) for name in ("fast", "plain")]
        assert np.array_equal(*masks) and len(np.unique(masks[0])) > 1
