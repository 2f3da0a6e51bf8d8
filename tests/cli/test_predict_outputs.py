"""What `predict` writes, what it never replaces, and what it leaves when it is interrupted or the disk fails."""

import errno
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
from commands import files_in, run_json, write_photo
from PIL import Image

from ppliteseg_paddle import files
from ppliteseg_paddle.cli import predict
from ppliteseg_paddle.cli.main import main
from ppliteseg_paddle.deploy.sources import find_images
from ppliteseg_paddle.reading.label_sets import LABEL_SETS
from ppliteseg_paddle.visual.overlays import Overlays

LABELS = LABEL_SETS["camvid"]


class EveryPixelIs:
    """A model that gives one class everywhere, and does `before` ahead of each image."""

    label_set = LABELS
    backend = SimpleNamespace(describe=lambda: {"name": "fake", "runtime": "none", "version": "1", "device": "cpu"})

    def __init__(self, number, before=lambda count: None):
        self.number, self.before, self.count = number, before, 0

    def predict(self, image):
        self.count += 1
        self.before(self.count)
        return np.full(image.shape[:2], self.number, np.uint8)


@pytest.fixture
def model(monkeypatch):
    def use(*arguments):
        def open_(args, kinds):
            return EveryPixelIs(*arguments), Overlays(LABELS, legend=not args.no_legend, scale=args.overlay_scale)

        monkeypatch.setattr(predict, "_open", open_)

    use(1)
    return use


def run(*arguments):
    return main(["predict", "--model_dir", "unused", *map(str, arguments)])


def classes_in(path):
    with Image.open(path) as image:
        return set(np.unique(np.asarray(image)).tolist())


def last_line(capsys):
    return capsys.readouterr().err.strip().splitlines()[-1]


# --------------------------------------------------------------------------------------------
# Names
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "images, masks",
    [
        (["a.jpg"], ["a.png"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg.png", "a.jpg.png.png", "a.png.png"]),
        (["a.jpg", "a.png.png", "a.png"], ["a.jpg.png", "a.png.png", "a.png.png.png"]),
        (["a.png", "a.png.d/b.png", "a.jpg.png"], ["a.jpg.png", "a.png", "a.png.d/b.png"]),
        (["a.jpg", "a.png/b.jpg"], ["a.jpg.png", "a.png/b.png"]),
        (["a\nb.jpg", "a\nb.png"], ["a\nb.jpg.png", "a\nb.png.png"]),
    ],
    ids=["one", "the issue's", "twice", "folders", "a folder like a result", "newlines"],
)
def test_every_image_has_a_result_of_its_own(tmp_path, model, images, masks):
    for name in images:
        write_photo(tmp_path / "in" / name)
    assert run("--image_path", tmp_path / "in", "--save_dir", tmp_path / "out", "--outputs", "mask") == 0
    assert files_in(tmp_path / "out" / "mask") == masks


def test_an_image_that_a_list_names_twice_is_segmented_once(tmp_path):
    write_photo(tmp_path / "a.png")
    (tmp_path / "l.txt").write_text("a.png\n./a.png\n")
    assert [item.name for item in find_images(str(tmp_path / "l.txt"))] == ["a"]


# --------------------------------------------------------------------------------------------
# Overlays
# --------------------------------------------------------------------------------------------
def test_overlays_become_jpegs_by_a_flag_and_masks_stay_as_they_are(tmp_path, model):
    photo = write_photo(tmp_path / "a.png")
    assert run("--image_path", photo, "--save_dir", tmp_path / "png") == 0
    jpegs = ["--image_path", photo, "--save_dir", tmp_path / "jpg", "--overlay_format", "jpg"]
    assert run(*jpegs) == 0 and run(*jpegs) == 0  # the second run replaces what the first one wrote
    assert files_in(tmp_path / "jpg") == ["mask/a.png", "overlay/a.jpg"]
    assert (tmp_path / "jpg/mask/a.png").read_bytes() == (tmp_path / "png/mask/a.png").read_bytes()
    with Image.open(tmp_path / "jpg/overlay/a.jpg") as lossy, Image.open(tmp_path / "png/overlay/a.png") as exact:
        assert (lossy.format, exact.format) == ("JPEG", "PNG")
        assert np.abs(np.asarray(lossy, int) - np.asarray(exact)).mean() < 5


def test_overlays_are_half_the_size_by_a_flag(tmp_path, model):
    photo = write_photo(tmp_path / "a.png")
    command = ["--image_path", photo, "--save_dir", tmp_path / "out", "--no_legend", "--overlay_scale", "0.5"]
    assert run(*command) == 0
    with Image.open(tmp_path / "out/overlay/a.png") as overlay, Image.open(tmp_path / "out/mask/a.png") as mask:
        assert (overlay.size, mask.size) == ((48, 32), (96, 64))


@pytest.mark.parametrize("flag", [["--overlay_format", "jpg"], ["--overlay_scale", "0.5"]])
def test_how_overlays_are_written_is_not_said_where_there_are_none(tmp_path, model, capsys, flag):
    photo = write_photo(tmp_path / "a.png")
    assert run("--image_path", photo, "--save_dir", tmp_path / "out", "--outputs", "mask", *flag) == 2
    assert f"{flag[0]} has no effect without overlays" in last_line(capsys)


@pytest.mark.parametrize("text", ["0", "2", "half"])
def test_a_scale_outside_0_to_1_is_refused(tmp_path, model, capsys, text):
    assert run("--image_path", tmp_path / "a.png", "--overlay_scale", text) == 2
    assert "--overlay_scale" in last_line(capsys)


def test_an_overlay_too_large_for_a_jpeg_is_named(tmp_path, model, capsys):
    Image.fromarray(np.zeros((2, 65501, 3), np.uint8)).save(tmp_path / "long.png")
    command = ["--image_path", tmp_path / "long.png", "--save_dir", tmp_path / "out", "--no_legend"]
    assert run(*command, "--overlay_format", "jpg") == 2
    path = tmp_path / "out" / "overlay" / "long.jpg"
    assert last_line(capsys) == f"error: cannot write {path}: 65501x2 pixels are too many for its format; use .png."
    assert not path.exists()


# --------------------------------------------------------------------------------------------
# Never replaced, never input
# --------------------------------------------------------------------------------------------
def write_data_set(root):
    """image/a.png and image/b.png with their ground truth, class 7, in mask/."""
    for name in "ab":
        write_photo(root / "image" / f"{name}.png")
        (root / "mask").mkdir(exist_ok=True)
        Image.fromarray(np.full((64, 96), 7, np.uint8)).save(root / "mask" / f"{name}.png")


def test_ground_truth_is_neither_segmented_nor_replaced(tmp_path, model):
    write_data_set(tmp_path)
    assert run("--image_path", tmp_path, "--save_dir", tmp_path, "--outputs", "mask") == 0
    assert files_in(tmp_path / "mask") == ["a.png", "b.png", "image/a.png", "image/b.png"]
    assert classes_in(tmp_path / "mask" / "a.png") == {7} and classes_in(tmp_path / "mask" / "image" / "a.png") == {1}


def test_a_folder_whose_results_would_replace_ground_truth_is_refused_unless_asked(tmp_path, model, capsys):
    write_data_set(tmp_path)
    command = ["--image_path", tmp_path / "image", "--save_dir", tmp_path]
    before = files_in(tmp_path)
    assert run(*command) == 2
    said = f"error: {tmp_path / 'mask' / 'a.png'} (and 1 more) exists and was not written by an earlier run"
    assert last_line(capsys).startswith(said)
    assert files_in(tmp_path) == before and classes_in(tmp_path / "mask" / "a.png") == {7}
    assert run(*command, "--overwrite") == 0
    assert classes_in(tmp_path / "mask" / "a.png") == {1}


def test_a_second_run_replaces_the_first_ones_results_and_segments_none_of_them(tmp_path, model):
    write_photo(tmp_path / "a.png")
    for number in (1, 2):
        model(number)
        assert run("--image_path", tmp_path, "--save_dir", tmp_path / "out") == 0
        assert files_in(tmp_path) == ["a.png", "out/mask/a.png", "out/overlay/a.png"]
    assert classes_in(tmp_path / "out" / "mask" / "a.png") == {2}
    assert run("--image_path", tmp_path, "--save_dir", tmp_path / "other") == 0  # `out` is known by its list
    assert files_in(tmp_path / "other") == ["mask/a.png", "overlay/a.png"]


def test_a_mask_that_was_corrected_by_hand_is_kept(tmp_path, model):
    write_photo(tmp_path / "a.png")
    command = ["--image_path", tmp_path / "a.png", "--save_dir", tmp_path / "out"]
    assert run(*command) == 0
    Image.fromarray(np.full((64, 96), 9, np.uint8)).save(tmp_path / "out" / "mask" / "a.png")
    assert run(*command) == 2
    assert classes_in(tmp_path / "out" / "mask" / "a.png") == {9}


def test_an_image_that_lies_where_results_go_is_refused(tmp_path, model, capsys):
    write_data_set(tmp_path)
    (tmp_path / "l.txt").write_text("mask/a.png\n")
    for path in (tmp_path / "mask", tmp_path / "l.txt"):
        assert run("--image_path", path, "--save_dir", tmp_path, "--overwrite") == 2
        assert f"{tmp_path / 'mask' / 'a.png'} lies in" in last_line(capsys)


def test_a_grid_replaces_no_photograph(tmp_path, model, capsys):
    photo, mine = write_photo(tmp_path / "a.png"), write_photo(tmp_path / "mine.png")
    command = ["--image_path", photo, "--save_dir", tmp_path / "out", "--grid"]
    assert run(*command, mine) == 2 and "mine.png exists and was not written" in last_line(capsys)
    assert run(*command, photo, "--overwrite") == 2 and "is one of the images" in last_line(capsys)
    for _ in range(2):
        assert run(*command, tmp_path / "grid.png") == 0


# --------------------------------------------------------------------------------------------
# Interrupted, and continued
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_keeps_what_is_finished_and_is_continued(tmp_path, model, capsys, number, status):
    for index in range(40):
        write_photo(tmp_path / "in" / f"{index:02d}.png")

    def interrupt(count):  # once a mask is written
        deadline = time.monotonic() + 20
        while count == 3 and not (tmp_path / "out" / "mask" / "00.png").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        if count == 3:
            os.kill(os.getpid(), number)

    model(1, interrupt)
    command = ["--image_path", tmp_path / "in", "--save_dir", tmp_path / "out", "--outputs", "mask"]
    assert run(*command) == status
    masks = files_in(tmp_path / "out")
    assert 0 < len(masks) < 40 and all(classes_in(tmp_path / "out" / name) == {1} for name in masks)
    finished = f"{len(masks)} of 40 images are finished in {tmp_path / 'out'}; add --skip_existing to continue."
    assert last_line(capsys) == f"interrupted by {number.name}: {finished}"
    model(2)
    _, result = run_json(capsys, "predict", "--model_dir", "unused", *command, "--skip_existing")
    assert (result["images"], result["kept"]) == (40 - len(masks), len(masks))
    found = [classes_in(tmp_path / "out" / "mask" / f"{index:02d}.png") for index in range(40)]
    assert found.count({1}) == len(masks) and found.count({2}) == 40 - len(masks)


# --------------------------------------------------------------------------------------------
# A disk that fails
# --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_fails_leaves_the_earlier_results_whole(tmp_path, model, capsys, monkeypatch, number):
    write_photo(tmp_path / "a.png")
    command = ["--image_path", tmp_path / "a.png", "--save_dir", tmp_path / "out"]
    assert run(*command) == 0
    model(2)
    with monkeypatch.context() as patch:

        def fail(*arguments):
            raise OSError(number, os.strerror(number))

        patch.setattr(files.os, "replace", fail)
        assert run(*command) == 2
    assert last_line(capsys) == f"error: cannot write {tmp_path / 'out' / 'mask' / 'a.png'}: {os.strerror(number)}."
    assert classes_in(tmp_path / "out" / "mask" / "a.png") == {1}
    assert files_in(tmp_path) == ["a.png", "out/mask/a.png", "out/overlay/a.png"]
    assert run(*command) == 0 and classes_in(tmp_path / "out" / "mask" / "a.png") == {2}


def test_a_newline_in_the_name_of_an_unreadable_image_is_escaped(tmp_path, model, capsys):
    write_photo(tmp_path / "a.png")
    (tmp_path / "x\ny.png").write_text("no image")
    assert run("--image_path", tmp_path, "--save_dir", tmp_path / "out") == 2
    assert last_line(capsys).startswith(f"error: image {tmp_path}/x\\ny.png cannot be decoded")
