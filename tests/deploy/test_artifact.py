import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from ppliteseg_paddle.deploy.artifact import Artifact, Tensor
from ppliteseg_paddle.deploy.folder import naming_the_disk, writing
from ppliteseg_paddle.deploy.preprocess import Preprocess
from ppliteseg_paddle.errors import ArtifactError
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.signals import Interrupted, ending

HALF = {"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}


def write(folder, shape=(-1, 3, -1, -1), transforms=(HALF,)):
    """An artifact whose graph is no graph: what is tested here never opens it."""
    with writing(str(folder)) as temporary:
        for name in ("model.json", "model.pdiparams"):
            with open(os.path.join(temporary, name), "wb") as file:
                file.write(name.encode() * 10)
        Artifact(
            temporary,
            {"type": "PPLiteSegNet", "num_classes": 11},
            LABEL_SETS["camvid"],
            Preprocess(list(transforms)),
            Tensor("x", "float32", "NCHW", shape, color_order="RGB"),
            Tensor("mask", "uint8", "NHW", (shape[0],) + shape[2:], op="argmax"),
            {"paddle": {"model": "model.json", "params": "model.pdiparams"}},
            {"paddle": "3.2.2"},
        ).write()
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "export")


def edit(folder, change):
    path = folder / "deploy.yaml"
    values = yaml.safe_load(path.read_text("utf-8"))
    change(values)
    path.write_text(yaml.safe_dump(values), "utf-8")


def test_what_is_written_is_read_again(tmp_path):
    transforms = ({"type": "Resize", "target_size": [64, 32]}, HALF)
    artifact = Artifact.read(write(tmp_path / "export", (1, 3, 32, 64), transforms))
    assert artifact.label_set == LABEL_SETS["camvid"]
    assert artifact.preprocess.to_transforms() == Preprocess(list(transforms)).to_transforms()
    assert (artifact.input.shape, artifact.input.dynamic, artifact.input.color_order) == ((1, 3, 32, 64), False, "RGB")
    assert (artifact.output.op, artifact.output.dtype, artifact.output.size_of("W")) == ("argmax", "uint8", 64)
    assert artifact.path_of("paddle", "params") == str(tmp_path / "export" / "model.pdiparams")


def test_the_metadata_says_all_that_another_program_needs(folder):
    values = yaml.safe_load((folder / "deploy.yaml").read_text("utf-8"))
    assert set(values) == {
        "Deploy",
        "format_version",
        "model",
        "classes",
        "palette",
        "ignore_index",
        "label_set",
        "input",
        "precision",
        "mask_resize",
        "normalisation",
        "resize",
        "output",
        "graphs",
        "versions",
        "check",
        "files",
    }
    assert values["Deploy"] == {
        "model": "model.json",
        "params": "model.pdiparams",
        "transforms": [HALF],
        "input_shape": [-1, 3, -1, -1],
        "output_op": "argmax",
        "output_dtype": "uint8",
    }
    assert values["input"] == {
        "name": "x",
        "dtype": "float32",
        "layout": "NCHW",
        "shape": [-1, 3, -1, -1],
        "dynamic": True,
        "color_order": "RGB",
    }
    assert values["classes"][3] == "road" and values["palette"][3] == [128, 64, 128]
    assert set(values["files"]) == {"model.json", "model.pdiparams"}
    assert values["files"]["model.json"]["bytes"] == 100 and len(values["files"]["model.json"]["sha256"]) == 64


def test_paddlesegs_own_deployment_reads_the_folder(folder):
    from paddleseg.deploy.infer import DeployConfig

    config = DeployConfig(str(folder / "deploy.yaml"))
    assert config.model == str(folder / "model.json") and config.params == str(folder / "model.pdiparams")
    assert [type(step).__name__ for step in config.transforms.transforms] == ["Normalize"]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda v: v.pop("classes"), "lacks 'classes'"),
        (lambda v: v.pop("format_version"), "PaddleSeg's own export"),
        (lambda v: v.update(format_version=3), "format_version 3.*reads 1 and 2.*Update"),
        (lambda v: v.update(format_version="1"), "'format_version' must be an integer"),
        (lambda v: v.update(classes="sky"), "'classes' must be a list"),
        (lambda v: v["palette"].pop(), "11 classes and 10 colors"),
        (lambda v: v["palette"].__setitem__(0, [0, 0, 256]), "palette.0"),
        (lambda v: v["input"].pop("layout"), "lacks 'input.layout'"),
        (lambda v: v["input"].update(shape=[3, 4]), r"input.shape \[3, 4\] does not fit the layout NCHW"),
        (lambda v: v["output"].update(op="argmin"), "output.op is 'argmin'.*Did you mean 'argmax'"),
        (lambda v: v["Deploy"]["transforms"].append({"type": "Blur"}), "'Blur' cannot be part"),
        (lambda v: v["normalisation"].update(mean=[0, 0, 0]), "contradicts itself"),
        (lambda v: v["graphs"]["paddle"].update(model="../model.json"), "must name files of this folder"),
        (lambda v: v["files"].pop("model.json"), "files.model.json"),
    ],
)
def test_metadata_that_cannot_be_right_is_refused_with_its_key(folder, change, words):
    edit(folder, change)
    with pytest.raises(ArtifactError, match=words) as error:
        Artifact.read(folder)
    assert "deploy.yaml" in str(error.value)


def test_a_missing_file_a_changed_one_and_a_cut_one_are_told_apart(folder):
    (folder / "model.json").write_bytes(b"model.jsoN" * 10)
    with pytest.raises(ArtifactError, match="model.json was changed after the export"):
        Artifact.read(folder)
    assert Artifact.read(folder, verify=False)
    (folder / "model.json").write_bytes(b"model")
    with pytest.raises(ArtifactError, match="model.json has 5 bytes, but deploy.yaml says 100"):
        Artifact.read(folder)
    (folder / "model.json").unlink()
    with pytest.raises(ArtifactError, match="model.json is missing"):
        Artifact.read(folder)


def test_what_is_no_export_is_refused(tmp_path, folder):
    with pytest.raises(ArtifactError, match="nowhere does not exist"):
        Artifact.read(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match="is a file"):
        Artifact.read(folder / "model.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match="holds no deploy.yaml"):
        Artifact.read(tmp_path / "empty")
    for text in ("a: [", "just text", ""):
        (folder / "deploy.yaml").write_text(text)
        with pytest.raises(ArtifactError, match="deploy.yaml(:1: no valid YAML| holds no)"):
            Artifact.read(folder)


def test_an_export_is_replaced_only_when_the_new_one_is_whole(folder):
    before = (folder / "deploy.yaml").read_bytes()
    with pytest.raises(RuntimeError), writing(str(folder)) as temporary:
        with open(os.path.join(temporary, "model.json"), "w") as file:
            file.write("half")
        raise RuntimeError("interrupted")
    assert (folder / "deploy.yaml").read_bytes() == before
    assert os.listdir(folder.parent) == ["export"]
    write(folder, (1, 3, 32, 64))
    assert Artifact.read(folder).input.shape == (1, 3, 32, 64)
    assert os.listdir(folder.parent) == ["export"]


def test_nothing_is_written_where_the_first_export_fails(tmp_path):
    with pytest.raises(RuntimeError), writing(str(tmp_path / "a" / "export")):
        raise RuntimeError("interrupted")
    assert os.listdir(tmp_path / "a") == []


def test_a_users_own_deploy_yaml_is_not_taken_for_an_export(tmp_path):
    (tmp_path / "deploy.yaml").write_text("kind: Deployment\n")
    with pytest.raises(ArtifactError, match="holds a deploy.yaml that ppliteseg did not write"):
        write(tmp_path)
    assert (tmp_path / "deploy.yaml").read_text() == "kind: Deployment\n"


def test_a_folder_with_other_files_is_not_replaced(tmp_path, folder):
    other = tmp_path / "runs"
    other.mkdir()
    (other / "model.pdparams").write_text("weights")
    with pytest.raises(ArtifactError, match="not empty and no export.*runs"):
        write(other)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="notes.txt, which exporting would delete"):
        write(folder)
    assert (other / "model.pdparams").exists() and (folder / "notes.txt").exists()
    with pytest.raises(ArtifactError, match="is a file"):
        write(folder / "notes.txt")


def test_an_empty_folder_and_a_damaged_export_are_filled_anew(tmp_path, folder):
    (tmp_path / "empty").mkdir()
    assert Artifact.read(write(tmp_path / "empty"))
    (folder / "deploy.yaml").write_text("a: [")
    with pytest.raises(ArtifactError, match="or that is damaged, so it is not replaced.*--overwrite"):
        write(folder)
    with writing(str(folder), overwrite=True) as temporary:
        (Path(temporary) / "new").write_text("")
    assert os.listdir(folder) == ["new"]


def test_an_export_with_a_changed_file_is_replaced_only_if_asked(folder):
    name = next(name for name in os.listdir(folder) if name.startswith("model."))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(bytes(len(content)))
    with pytest.raises(ArtifactError, match=f"{name} was changed after the export, so it is not replaced"):
        write(folder)
    with writing(str(folder), overwrite=True):
        pass
    assert os.listdir(folder) == []


def test_paddlesegs_own_export_is_replaced_only_if_asked(tmp_path):
    (tmp_path / "deploy.yaml").write_text("Deploy:\n  model: model.pdmodel\n")
    (tmp_path / "model.pdmodel").write_text("graph")
    with pytest.raises(ArtifactError, match="did not write.*--overwrite"), writing(str(tmp_path)):
        pass
    with writing(str(tmp_path), overwrite=True):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_while_others_write_is_named_and_the_earlier_export_is_whole(folder, monkeypatch, number):
    def fail(where, size):
        raise OSError(number, os.strerror(number))

    before = (folder / "deploy.yaml").read_bytes()
    monkeypatch.setattr("ppliteseg_paddle.deploy.folder.probe_disk", fail)
    refused = pytest.raises(ArtifactError, match=f"^cannot write {folder}: {os.strerror(number)}.$")
    with refused, writing(str(folder)) as temporary, naming_the_disk(temporary, str(folder), 100):
        raise RuntimeError("Install that Paddle")
    with refused, writing(str(folder)) as temporary, naming_the_disk(temporary, str(folder), 100):
        pass  # what was written is half, and nobody told
    with refused, writing(str(folder)):
        fail(None, 0)
    assert (folder / "deploy.yaml").read_bytes() == before and os.listdir(folder.parent) == ["export"]


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path):
    target = str(tmp_path / "x")
    with pytest.raises(RuntimeError, match="operator"), writing(target) as made, naming_the_disk(made, target, 100):
        raise RuntimeError("no such operator")
    with pytest.raises(FileNotFoundError), writing(str(tmp_path / "x")):
        open(tmp_path / "missing").close()


def test_an_interrupted_export_says_that_nothing_was_written(folder):
    before = (folder / "deploy.yaml").read_bytes()
    said = f"SIGTERM: nothing was written to {folder}; run the command again."
    with pytest.raises(Interrupted, match=said), ending(), writing(str(folder)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert (folder / "deploy.yaml").read_bytes() == before and os.listdir(folder.parent) == ["export"]


def test_a_signal_at_the_moment_when_the_temporary_folder_is_made_leaves_none(folder, monkeypatch):
    make = tempfile.mkdtemp

    def make_and_receive(**arguments):
        made = make(**arguments)
        os.kill(os.getpid(), signal.SIGTERM)
        return made

    monkeypatch.setattr("ppliteseg_paddle.deploy.folder.tempfile.mkdtemp", make_and_receive)
    with pytest.raises(Interrupted, match="SIGTERM: nothing was written"), ending(), writing(str(folder)):
        pytest.fail("the signal was lost")
    assert os.listdir(folder.parent) == ["export"]


def test_a_copied_export_is_whole(tmp_path, folder):
    shutil.copytree(folder, tmp_path / "copy")
    assert Artifact.read(tmp_path / "copy").label_set.num_classes == 11


KILLED = """
import os, signal, sys
from ppliteseg_paddle.deploy import folder
def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)
real = os.rename
if sys.argv[2] == "exchanging":
    os.rename = lambda a, b: real(a, b) if a == sys.argv[1] else die()
with folder.writing(sys.argv[1], overwrite=True) as temporary:
    open(os.path.join(temporary, "model.json"), "w").close()
    if sys.argv[2] == "writing":
        die()
"""


@pytest.mark.parametrize(
    "names", [("model.json", "model.pdiparams"), ("inference.json", "inference.pdiparams", "inference.yml")]
)
def test_an_export_with_damaged_metadata_is_replaced_if_asked(tmp_path, names):
    for name in (*names, "deploy.yaml"):
        (tmp_path / name).write_text("[", "utf-8")
    with pytest.raises(ArtifactError, match="or that is damaged.*--overwrite"), writing(str(tmp_path)):
        pass
    with writing(str(tmp_path), overwrite=True):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no locks of this kind: what is left stays there")
@pytest.mark.parametrize("moment", ["writing", "exchanging"])
def test_what_a_killed_export_has_left_is_removed_and_the_earlier_export_is_whole(folder, moment):
    before, path = (folder / "deploy.yaml").read_bytes(), str(folder.resolve())
    with pytest.raises(RuntimeError), writing(path):  # a living one
        assert subprocess.run([sys.executable, "-c", KILLED, path, moment]).returncode == -signal.SIGKILL
        assert len(os.listdir(folder.parent)) == 3
        with pytest.raises(RuntimeError), writing(path):
            names = os.listdir(folder.parent)
            assert len(names) == 3 and not [name for name in names if name.endswith(".earlier")]
            raise RuntimeError
        raise RuntimeError
    assert (folder / "deploy.yaml").read_bytes() == before and os.listdir(folder.parent) == ["export"]
