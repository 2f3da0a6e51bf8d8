"""`data prepare` replaces nothing of the user's, and leaves whole files when it is interrupted."""

import os
import signal

import numpy as np
import pytest
from commands import files_in
from PIL import Image

from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.data.prepare import draft as prepare_draft
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


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def test_an_identical_second_run_changes_nothing_and_asks_nothing(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out) == 0
    before, times = content(out), {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    flags = ["--images", data / "images", "--masks", data / "labels", "--out", out, "--remap", "4=0", "9=1"]
    assert main(["data", "prepare", "folder", *map(str, flags), "--num_workers", "0"]) == 0  # without --yes
    assert f"nothing to change: {out} holds all of it already\n" in capsys.readouterr().out
    assert content(out) == before
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == times


def test_what_was_edited_is_kept_and_the_changes_are_shown_unless_asked(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out) == 0 and run(data, out) == 0
    original = content(out)
    edit(out / "config.yml", "batch_size: 4", "batch_size: 3")
    edit(out / "train.txt", (out / "train.txt").read_text().splitlines()[0] + "\n", "")
    mine = content(out)
    Image.fromarray(np.full((30, 40), 4, np.uint8)).save(data / "labels" / "2.png")
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(data / "images" / "6.png")
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(data / "labels" / "6.png")
    capsys.readouterr()
    assert run(data, out) == 2 and content(out) == mine
    lines = capsys.readouterr().err.splitlines()
    assert f"--- {out / 'config.yml'}" in lines and f"+++ {out / 'config.yml'}, as it would be" in lines
    assert [line[:14] for line in lines if line.startswith(("-batch", "+batch"))] == [
        "-batch_size: 3",
        "+batch_size: 4",
    ]
    assert f"--- {out / 'train.txt'}" in lines and "masks: 1 new, 1 to be replaced, 5 as they are" in lines
    assert lines[-1].startswith(f"error: {out / 'train.txt'} (and 1 more) exists and was not written by an earlier run")
    assert run(data, out, "--overwrite") == 0
    assert (out / "labels" / "6.png").exists()
    assert content(out)["config.yml"] != original["config.yml"]  # of 6 training images now
    assert set(np.asarray(Image.open(out / "labels" / "2.png")).ravel()) == {0}


def test_new_images_are_added_where_nothing_was_edited(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(data, out) == 0
    kept = (out / "labels" / "0.png").stat().st_mtime_ns
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(data / "images" / "6.png")
    Image.fromarray(np.full((30, 40), 9, np.uint8)).save(data / "labels" / "6.png")
    capsys.readouterr()
    assert run(data, out) == 0
    printed = capsys.readouterr()
    assert "masks: 1 new, 6 as they are" in printed.err.splitlines()  # and the lists' differences
    assert f"+++ {out / 'train.txt'}, as it would be" in printed.err.splitlines()
    assert f"written     {out} (1 new, " in printed.out
    assert len(files_in(out / "labels")) == 7 and (out / "labels" / "0.png").stat().st_mtime_ns == kept


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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_whole_labels_and_runs_again(data, tmp_path, capsys, monkeypatch, number):
    write, count = prepare_draft.write_label, []

    def interrupted(*arguments):
        write(*arguments)
        count.append(1)
        if len(count) == 3:
            os.kill(os.getpid(), number)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(prepare_draft, "write_label", interrupted)
        assert run(data, out) == 128 + number
    said = f"interrupted by {number.name}: labels that are written are whole; run the command again to continue."
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert files_in(out) == [f"labels/{index}.png" for index in range(3)]
    assert run(data, out) == 0 and len(files_in(out / "labels")) == 6
