"""`data prepare` replaces nothing of the user's, and leaves whole files when it is interrupted."""

import os
import signal

import numpy as np
import pytest
from commands import files_in
from PIL import Image

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.prepare import folder as prepare_folder
from ppliteseg_paddle.data.prepare.camvid import prepare_camvid
from ppliteseg_paddle.errors import DataError


@pytest.fixture
def data(tmp_path):
    """Six images, and masks in labels/ whose classes 4 and 9 become 0 and 1."""
    for index in range(6):
        for kind, pixels in (("images", np.zeros((30, 40, 3))), ("labels", np.repeat([[4] * 20 + [9] * 20], 30, 0))):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / kind / f"{index}.png")
    return tmp_path


def run(data, out, *more):
    flags = ["--images", data / "images", "--masks", data / "labels", "--out", out, "--remap", "4=0", "9=1", "--yes"]
    return main(["data", "prepare", "folder", *map(str, flags), "--num_workers", "0", *more])


def content(path):
    return {name: (path / name).read_bytes() for name in files_in(path)}


def test_masks_that_lie_where_labels_go_are_not_replaced(data, capsys):
    before = content(data)
    assert run(data, data) == 2
    said = f"error: {data / 'labels' / '0.png'} (and 5 more) exists and was not written by an earlier run"
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)
    assert content(data) == before


def test_a_configuration_that_was_edited_since_is_kept_unless_asked(data, tmp_path):
    out = tmp_path / "out"
    assert run(data, out) == 0 and run(data, out) == 0
    with open(out / "config.yml", "a") as file:
        file.write("# mine\n")
    assert run(data, out) == 2 and (out / "config.yml").read_text().endswith("# mine\n")
    assert run(data, out, "--overwrite") == 0 and "# mine" not in (out / "config.yml").read_text()


def test_a_users_list_in_a_known_data_set_is_kept_unless_asked(tmp_path):
    for name in ("train", "trainannot", "val", "valannot"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name / "0001TP_006690.png")
    (tmp_path / "train.txt").write_text("mine")
    with pytest.raises(DataError, match=r"train\.txt exists and was not written"):
        prepare_camvid(str(tmp_path), progress=False)
    assert files_in(tmp_path / "train") and not (tmp_path / "labels11").exists()
    prepare_camvid(str(tmp_path), progress=False, overwrite=True)
    assert "0001TP_006690" in (tmp_path / "train.txt").read_text()
    prepare_camvid(str(tmp_path), progress=False)


def test_an_interrupted_run_leaves_whole_labels_and_runs_again(data, tmp_path, capsys, monkeypatch):
    write, count = prepare_folder.write_label, []

    def interrupted(*arguments):
        write(*arguments)
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(prepare_folder, "write_label", interrupted)
        assert run(data, out) == 143
    said = "interrupted by SIGTERM: labels that are written are whole; run the command again to continue."
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert files_in(out) == [f"labels/{index}.png" for index in range(3)]
    assert run(data, out) == 0 and len(files_in(out / "labels")) == 6
