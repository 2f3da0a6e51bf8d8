"""Folders that PaddleSeg's and PaddleX's own exports wrote: the masks are those of their graph, run by hand."""

from __future__ import annotations

import copy
import json
import os
import pathlib
import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import yaml
from commands import run_json, values_of
from exported import few_ties, photograph
from PIL import Image
from tiny_data import values, write_config

from ppliteseg_paddle import Predictor
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.foreign import open_folder
from ppliteseg_paddle.errors import ArtifactError, ConfigError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS

pytestmark = pytest.mark.slow

CLASSES, SIZE = 11, (90, 120)
NORMALIZE = {"type": "Normalize", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
RESIZE = {"type": "Resize", "target_size": [96, 64]}
FOLDER = os.environ.get("PPLITESEG_PADDLESEG_DIRS")
SETS = ("train_dataset", "val_dataset")
VERSIONS = sorted(path.parent.parent for path in pathlib.Path(FOLDER).glob("*/tools/export.py")) if FOLDER else []


@pytest.fixture(scope="module")
def network():
    """PaddleSeg's own PP-LiteSeg on a narrow backbone, with statistics of a photograph and classes that all occur."""
    import paddle
    from paddleseg.models import PPLiteSeg
    from paddleseg.models.backbones.stdcnet import STDCNet

    paddle.seed(5)
    widths = {"cm_out_ch": 16, "arm_out_chs": [8, 8, 8], "seg_head_inter_chs": [8, 8, 8]}
    net = PPLiteSeg(CLASSES, STDCNet(base=8, layers=[2, 2, 2]), **widths)
    given = paddle.to_tensor(normalized(photograph(*SIZE))[None])
    net.train()
    with paddle.no_grad():
        for _ in range(15):
            net(given)
        last = net.seg_heads[0].conv_out
        last.weight.set_value(last.weight - last.weight.mean(axis=1, keepdim=True))
    net.eval()
    return net


def normalized(image):
    """(3, H, W) float32 of a BGR image, by hand."""
    mean, std = (np.array(NORMALIZE[name]) for name in ("mean", "std"))
    return np.ascontiguousarray(((image[..., ::-1] / 255 - mean) / std).transpose(2, 0, 1), np.float32)


def paddleseg_export(net, folder, op):
    """What `tools/export.py` of PaddleSeg 2.8, which is not part of the package, does after building the model."""
    import paddle
    from paddleseg.deploy.export import WrappedModel

    net = copy.deepcopy(net)  # Paddle 2.6 exports a network once, by itself or inside of another
    wrapped = net if op == "none" else WrappedModel(net, op)
    wrapped.eval()
    spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
    paddle.jit.save(paddle.jit.to_static(wrapped, input_spec=spec), str(folder / "model"))
    deploy = {
        "model": "model.pdmodel",  # whatever Paddle 3 calls it
        "params": "model.pdiparams",
        "transforms": [NORMALIZE],
        "input_shape": [None, 3, None, None],
        "output_op": op,
        "output_dtype": "int32" if op == "argmax" else "float32",
    }
    (folder / "deploy.yaml").write_text(yaml.dump({"Deploy": deploy}))
    return folder


def changed(folder, target, **deploy):
    """Another description beside links to an export's files."""
    for path in folder.iterdir():
        if path.name != "deploy.yaml":
            os.symlink(path, target / path.name)
    described = yaml.safe_load((folder / "deploy.yaml").read_text())
    described["Deploy"].update(deploy)
    (target / "deploy.yaml").write_text(yaml.dump(described))
    return target


def run_by_hand(folder, given):
    """The first output of the graph, by Paddle Inference as PaddleSeg's `infer.py` uses it."""
    from paddle import inference

    (model,) = (path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(model), str(folder / f"{model.stem}.pdiparams"))
    config.disable_glog_info()
    session = inference.create_predictor(config)
    handle = session.get_input_handle(session.get_input_names()[0])
    handle.reshape(given.shape)
    handle.copy_from_cpu(given)
    session.run()
    return session.get_output_handle(session.get_output_names()[0]).copy_to_cpu()


@pytest.fixture(scope="module")
def folders(network, tmp_path_factory):
    """op -> PaddleSeg's export, of images at their own size."""
    made = {op: tmp_path_factory.mktemp(op) for op in ("argmax", "softmax", "none")}
    return {op: paddleseg_export(network, folder, op) for op, folder in made.items()}


@pytest.mark.parametrize("op", ["argmax", "softmax", "none"])
def test_the_mask_is_that_of_the_graph(op, folders):
    image = photograph(*SIZE)
    output = run_by_hand(folders[op], normalized(image)[None])[0]
    predictor = Predictor(folders[op])
    assert (predictor.artifact.output.op, predictor.artifact.input.shape) == (op, (-1, 3, -1, -1))
    mask = predictor.predict(image)
    expected = output if op == "argmax" else output.argmax(axis=0)
    assert (mask.dtype, mask.shape) == (np.uint8, SIZE) and len(np.unique(mask)) >= 4
    assert np.mean(mask != expected) <= few_ties(mask.size)
    if op == "argmax":
        with pytest.raises(ArtifactError, match="confidence needs probabilities"):
            predictor.predict_with_confidence(image)
        return
    scores = np.exp(output - output.max(axis=0)) if op == "none" else output
    probabilities = scores / scores.sum(axis=0)
    np.testing.assert_allclose(predictor.predict_with_confidence(image)[1], probabilities.max(axis=0), atol=1e-5)


@pytest.mark.parametrize("op", ["argmax", "none"])
def test_a_resized_image_gets_its_mask_back_at_its_own_size(op, folders, tmp_path):
    import paddle.nn.functional as F
    from paddle import to_tensor

    image = photograph(*SIZE)
    changed(folders[op], tmp_path, transforms=[RESIZE, NORMALIZE])
    small = cv2.resize(image.astype(np.float32), (96, 64), interpolation=cv2.INTER_LINEAR)
    output = run_by_hand(tmp_path, normalized(small)[None])
    if op == "argmax":
        expected = F.interpolate(to_tensor(output[None].astype(np.float32)), SIZE, mode="nearest").numpy()[0, 0]
    else:
        expected = F.interpolate(to_tensor(output), SIZE, mode="bilinear").numpy()[0].argmax(axis=0)
    assert np.mean(Predictor(tmp_path).predict(image) != expected) <= few_ties(expected.size)


def test_paddlex_s_folder_opens_with_the_names_that_it_lists(folders, tmp_path):
    names = [f"thing {i}" for i in range(CLASSES)]
    for path in folders["argmax"].glob("model.*"):
        os.symlink(path, tmp_path / path.name.replace("model.", "inference.", 1))
    described = yaml.safe_load((folders["argmax"] / "deploy.yaml").read_text())
    described["Deploy"].update(model="inference.pdmodel", params="inference.pdiparams")
    shapes = {"backend_configs": {"paddle_infer": {"trt_dynamic_shapes": {"x": [[1, 3, 64, 64]] * 3}}}}
    described.update(Global={"model_name": "PP-LiteSeg-T"}, Hpi=shapes, PostProcess={"label_list": names})
    (tmp_path / "inference.yml").write_text(yaml.dump(described))
    predictor = Predictor(tmp_path)
    assert (predictor.artifact.model, predictor.label_set.classes) == ({"type": "PP-LiteSeg-T"}, tuple(names))
    image = photograph(*SIZE)
    expected = run_by_hand(tmp_path, normalized(image)[None])[0]
    assert np.mean(predictor.predict(image) != expected) <= few_ties(expected.size)


def test_classes_are_numbered_or_as_they_are_given(folders):
    assert Predictor(folders["argmax"]).label_set.classes == tuple(f"class_{i}" for i in range(CLASSES))
    predictor = Predictor(folders["argmax"], label_set="camvid")
    assert predictor.label_set == LABEL_SETS["camvid"]
    again = pickle.loads(pickle.dumps(predictor))  # noqa: S301 - our own
    assert again.label_set == LABEL_SETS["camvid"]
    with pytest.raises(ConfigError, match="has 11 classes, but 'cityscapes' names 19: give the classes that it was"):
        Predictor(folders["argmax"], label_set="cityscapes")


def test_the_commands_open_it(folders, tmp_path, capsys):
    image = str(tmp_path / "a.png")
    cv2.imwrite(image, photograph(*SIZE))
    (tmp_path / "names.txt").write_text("".join(f"thing {i}\n" for i in range(CLASSES)))
    (tmp_path / "colors.txt").write_text("".join(f"{20 * i} 7 9 thing {i}\n" for i in range(CLASSES)))
    folder = str(folders["argmax"])
    names = ["--classes", tmp_path / "names.txt", "--palette", tmp_path / "colors.txt", "--transparent", "thing 3"]
    status, report = run_json(
        capsys, "predict", "--model_dir", folder, "--image_path", image, "--save_dir", tmp_path / "p", *names
    )
    mask = values_of(tmp_path / "p" / "mask" / "a.png")[0]
    assert status == 0 and np.mean(mask != Predictor(folder).predict(image)) == 0
    with Image.open(tmp_path / "p" / "mask" / "a.png") as file:
        assert file.getpalette()[:6] == [0, 7, 9, 20, 7, 9]
    status, report = run_json(
        capsys, "benchmark", "--model_dir", folder, "--image", image, "--repeats", 1, "--warmup", 0
    )
    assert status == 0 and report["backend"]["runtime"] == "Paddle Inference"
    command = ["predict", "--image_path", image, "--model_dir", folder, "--save_dir", str(tmp_path / "q")]
    assert main([*command, "--label_set", "camvid", "--classes", str(tmp_path / "names.txt")]) == 2
    assert "--label_set and --classes exclude each other" in capsys.readouterr().err


# --------------------------------------------------------------------------------------------
# Refusals
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "deploy, said",
    [
        ({"transforms": [{"type": "RandomRotation"}]}, "Deploy.transforms.0: the transform 'RandomRotation' cannot be"),
        ({"transforms": None}, "Deploy.transforms must be a list of transforms, but is None"),
        ({"model": "../other/model.pdmodel"}, "Deploy.model must name a file of this folder, but is '../other"),
        ({"params": "weights.pdiparams"}, "weights.pdiparams is missing; copy the whole folder"),
        ({"model": "net.pdmodel"}, "net.pdmodel is missing, and so is net.json"),
        ({"output_op": "sigmoid"}, "Deploy.output_op is 'sigmoid'; PaddleSeg's are argmax, softmax, none"),
    ],
)
def test_what_cannot_be_run_is_named(deploy, said, folders, tmp_path):
    with pytest.raises(ArtifactError) as caught:
        open_folder(changed(folders["argmax"], tmp_path, **deploy))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_that_names_its_classes_takes_no_others(tmp_path):
    (tmp_path / "deploy.yaml").write_text("format_version: 1\nDeploy: {}\n")
    with pytest.raises(ConfigError, match="names its classes itself: leave label_set and classes out"):
        open_folder(tmp_path, LABEL_SETS["camvid"])


def test_a_graph_that_does_more_than_compute_is_not_opened(folders, tmp_path):
    """An operator that writes a file, of which both of Paddle's formats have one."""
    folder = changed(folders["argmax"], tmp_path)
    (graph,) = (path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))
    content = graph.read_bytes()
    graph.unlink()
    if graph.suffix == ".json":
        program = json.loads(content)
        operators = program["program"]["regions"][0]["blocks"][0]["ops"]
        operators.insert(0, {"#": "1.save_combine", "A": [], "I": [], "O": []})
        graph.write_text(json.dumps(program))
    else:
        from paddle.base.proto import framework_pb2

        program = framework_pb2.ProgramDesc.FromString(content)
        program.blocks[0].ops.add(type="save_combine")
        graph.write_bytes(program.SerializeToString())
    with pytest.raises(ArtifactError, match="an operator 'save_combine' does more than compute"):
        Predictor(folder)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x0a\x05abc", b"[" * 5000])
def test_a_damaged_graph_is_one_line(content, folders, tmp_path):
    folder = changed(folders["argmax"], tmp_path)
    (graph,) = (path for path in folder.iterdir() if path.suffix in (".json", ".pdmodel"))
    graph.unlink()
    graph.write_bytes(content)
    with pytest.raises(ArtifactError, match="is no graph of a segmentation network, or damaged") as caught:
        open_folder(folder)
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------
# Other versions of PaddleSeg
# --------------------------------------------------------------------------------------------
@pytest.mark.skipif(not VERSIONS, reason="PPLITESEG_PADDLESEG_DIRS names no folder that holds unpacked versions")
@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.name)
def test_what_paddleseg_s_own_tool_exports_opens(version, tmp_path):
    narrow = {"arm_out_chs": [8, 8, 8], "seg_head_inter_chs": [8, 8, 8]}
    model = {"type": "PPLiteSeg", "num_classes": 3, "backbone": {"type": "STDC1"}, **narrow}
    sets = {name: {"type": "Dataset", "num_classes": 3, "transforms": [NORMALIZE]} for name in SETS}
    config = write_config(tmp_path / "c.yml", values(tmp_path, model=model, **sets))
    (tmp_path / "stub" / "skimage").mkdir(parents=True)
    (tmp_path / "stub" / "skimage" / "__init__.py").write_text("measure = morphology = None\n")
    path = os.pathsep.join([str(version), str(tmp_path / "stub"), *sys.path])
    # OpenCV first, as Paddle 2.6 needs it.
    tool = "import sys, runpy, cv2; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    tool = [sys.executable, "-c", tool, str(version / "tools" / "export.py")]
    options = ["--config", config, "--save_dir", str(tmp_path / "e"), "--for_fd"]
    done = subprocess.run([*tool, *options], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert (tmp_path / "e" / "inference.yml").exists(), done.stderr[-2000:]
    image = photograph(64, 96)
    expected = run_by_hand(tmp_path / "e", normalized(image)[None])[0]
    predictor = Predictor(tmp_path / "e")
    assert predictor.label_set.num_classes == 3
    assert np.mean(predictor.predict(image) != expected) <= few_ties(expected.size)
