"""What is a complete checkpoint."""

import json

import numpy as np
import paddle
import pytest
from loop_run import a_run, save_checkpoint

from ppliteseg_paddle.engine.checkpoint import check_finite, damage, iteration_of
from ppliteseg_paddle.errors import WeightsError


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(a_run(tmp_path, use_ema=True), 10)
    return tmp_path / "iter_10"


def change(path):
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def manifest_with(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", ["model.pdparams", "model.pdopt", "ema_model.pdparams", "state.json"])
def test_a_file_that_is_missing_cut_short_or_changed_is_named(folder, name):
    whole = (folder / name).read_bytes()
    change(folder / name)
    assert damage(str(folder)) == f"has a {name} that was changed after it was written (its SHA-256 differs)"
    assert damage(str(folder), hashes=False) is None
    (folder / name).write_bytes(whole[:-1])
    assert damage(str(folder)) == f"has {len(whole) - 1} bytes of {name}, not {len(whole)}"
    (folder / name).unlink()
    assert damage(str(folder), hashes=False) == f"lacks {name}"


@pytest.mark.parametrize(
    "content", ["", "{half", "[]", "{}", '{"version": 1, "files": {}}', '{"version": 1, "files": []}']
)
def test_a_list_of_files_that_cannot_be_read_is_damage(folder, content):
    (folder / "checkpoint.json").write_text(content)
    assert damage(str(folder)) == "has a damaged checkpoint.json"


def test_a_newer_format_and_another_name_are_told(folder):
    manifest = folder / "checkpoint.json"
    manifest_with(manifest, version=2)
    assert damage(str(folder)) == "has a checkpoint.json of version 2, and this release reads up to 1"
    manifest_with(manifest, version=1)
    folder.rename(folder.parent / "iter_11")
    assert damage(str(folder.parent / "iter_11")) == "holds iteration 10, so it was renamed"


def test_files_outside_of_the_folder_are_not_looked_at(folder):
    manifest = json.loads((folder / "checkpoint.json").read_text())
    manifest["files"]["../../secret"] = {"size": 6, "sha256": "x"}
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    (folder.parent.parent / "secret").write_text("secret")
    assert damage(str(folder)) == "lacks ../../secret"


def test_checkpoints_of_paddleseg_and_of_earlier_versions_need_their_two_files(tmp_path):
    folder = tmp_path / "iter_5"
    folder.mkdir()
    (folder / "model.pdparams").write_text("p")
    assert damage(str(folder)) == "lacks model.pdopt, or it is empty"
    (folder / "model.pdopt").write_text("o")
    assert damage(str(folder)) is None


def test_what_is_no_folder_is_told(tmp_path):
    (tmp_path / "iter_3").write_text("")
    assert damage(str(tmp_path / "iter_3")) == "is a file" and damage(str(tmp_path / "iter_4")) == "does not exist"


def test_the_iteration_is_read_from_the_name():
    assert [iteration_of(name) for name in ("o/iter_30/", "iter_7", "best_model", "iter_x")] == [30, 7, None, None]


def test_weights_that_are_not_finite_are_named(tmp_path):
    path = str(tmp_path / "w.pdparams")
    paddle.save({"a": paddle.ones([2]), "b": paddle.to_tensor(np.array([1.0, np.inf], "float32"))}, path)
    with pytest.raises(WeightsError, match="w.pdparams: b is not finite"):
        check_finite(path)
